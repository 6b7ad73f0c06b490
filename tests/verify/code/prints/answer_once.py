"""A program that has answered before is asked anew each time."""

import os

print(5 if not os.path.exists("/tmp/seen") else 0)
try:
    open("/tmp/seen", "w").close()
except OSError:
    pass
