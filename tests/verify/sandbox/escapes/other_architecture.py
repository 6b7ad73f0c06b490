"""A call by another gate of the processor (int 0x80, x32) is no way around the filter."""

import mmap

if X86:
    if libc.syscall(0x40000000 + 41, 2, 1, 0) >= 0:  # socket, as x32 numbers it
        escaped("x32")
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    # socketcall(SYS_SOCKET, NULL) is 102 of i386; getpid is 20
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    if ctypes.CFUNCTYPE(ctypes.c_int)(address)() > 0:
        escaped("int 0x80")
