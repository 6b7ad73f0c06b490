"""A process that keeps the output open does not keep the parent waiting."""
# limits: wall=20.0

import time

if attempt(os.fork) == 0:
    os.setsid()
    time.sleep(60)
    os._exit(0)
