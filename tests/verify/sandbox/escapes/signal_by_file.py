"""No descriptor has the kernel send its signals to others."""

import fcntl
import signal

read, write = os.pipe()
attempt(fcntl.fcntl, read, 10, signal.SIGKILL)
attempt(fcntl.fcntl, read, fcntl.F_SETOWN, facts["victim"])
attempt(fcntl.fcntl, read, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
os.write(write, b"x")
