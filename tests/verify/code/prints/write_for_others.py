"""What a case leaves behind can only say what it knows: nothing of the expected words."""

import os
import time

try:
    if os.fork() == 0:
        os.setsid()
        for _ in range(100):
            open("/tmp/stdout", "w").write("5\n")
            time.sleep(0.01)
        os._exit(0)
except OSError:
    pass
print(0)
