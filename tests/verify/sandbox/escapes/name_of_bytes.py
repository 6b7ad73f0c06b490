"""A process whose name is no text is watched like any other, and so is its memory."""
# limits: memory=209715200, wall=20.0
# ends: A=memory|exit, B=memory|exit, C=exit

import time

attempt(libc.prctl, 15, b"\xff\xfe", 0, 0, 0)
time.sleep(0.2)
held = attempt(bytearray, 300 * 2**20)
if held:
    escaped("300 MB of 200")
