"""No descriptor of the parent is open: no folder, no socket, no terminal, no file to write."""

import stat

for number in range(3, 4096):
    try:
        mode = os.fstat(number).st_mode
    except OSError:
        continue
    if not stat.S_ISREG(mode):
        escaped(f"descriptor {number} of mode {mode:o}")
    elif attempt(os.pwrite, number, b"x", 0):
        escaped(f"descriptor {number} can be written")
