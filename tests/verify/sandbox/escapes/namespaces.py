"""No namespace opens: by unshare, clone, clone3 or setns."""

for flag in (0x10000000, 0x00020000, 0x40000000, 0x20000000, 0x08000000, 0x04000000, 0x02000000):
    if call(272, 97, flag) >= 0:
        escaped(f"unshare {flag:x}")
    child = call(56, 220, flag | 17, None, None, None, None)
    if child == 0:
        os._exit(0)
    if child > 0:
        escaped(f"clone {flag:x}")
arguments = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, 17)
child = call(435, 435, arguments, ctypes.sizeof(arguments))
if child == 0:
    os._exit(0)
if child > 0:
    escaped("clone3")
