"""Sleep ends at the wall budget."""
# limits: wall=1.0
# ends: wall

import time

time.sleep(100)
escaped("slept")
