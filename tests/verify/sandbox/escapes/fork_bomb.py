"""Processes stop at the limit."""
# limits: processes=16, wall=10.0

import time

children = 0
while children < 300:
    child = attempt(os.fork)
    if child is None:
        break
    if child == 0:
        time.sleep(30)
        os._exit(0)
    children += 1
if children > 16:
    escaped(f"{children} processes")
