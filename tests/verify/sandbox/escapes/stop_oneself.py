"""A program that stops itself ends at the wall budget."""
# limits: wall=1.0

import signal

attempt(os.kill, os.getpid(), signal.SIGSTOP)
