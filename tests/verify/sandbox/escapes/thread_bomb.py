"""Threads stop at the limit."""
# limits: processes=16, wall=10.0

import threading
import time

count = 0
while count < 300:
    thread = threading.Thread(target=time.sleep, args=(30,), daemon=True)
    try:
        thread.start()
    except RuntimeError:
        break
    count += 1
if count > 64:
    escaped(f"{count} threads")
os._exit(0)
