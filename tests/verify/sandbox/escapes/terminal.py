"""No character reaches a terminal of the host, and there is no terminal."""

import fcntl

for number in range(3):
    if attempt(fcntl.ioctl, number, 0x5412, b"x") is not None:
        escaped(f"TIOCSTI on {number}")
for number in (0x5412, 0x541C):  # with bits above those that the kernel reads
    if libc.ioctl(0, ctypes.c_ulong(number | 1 << 32), b"x") >= 0:
        escaped("ioctl with high bits")
if attempt(open, "/dev/tty", "w"):
    escaped("/dev/tty")
