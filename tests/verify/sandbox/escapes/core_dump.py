"""A crash writes no core and calls no program."""

import resource
import signal

attempt(resource.setrlimit, resource.RLIMIT_CORE, (2**30, 2**30))
if resource.getrlimit(resource.RLIMIT_CORE)[0] > 1:
    escaped("a core may be written")
signal.signal(signal.SIGABRT, signal.SIG_DFL)
os.abort()
