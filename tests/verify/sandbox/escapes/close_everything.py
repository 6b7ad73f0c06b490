"""A program that closes all its files and sleeps ends at the wall budget."""
# limits: wall=1.0
# ends: wall

import time

os.closerange(0, 4096)
time.sleep(100)
