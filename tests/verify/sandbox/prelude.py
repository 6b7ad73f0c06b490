"""What stands before every escape: facts about the host from standard input, and a way to shout.

`facts` names a file that anyone may read, a folder and a file that the sandbox's user may write,
ports and sockets that listen, and a process of the sandbox's user. An escape calls `escaped` where
it got what it should not have; `attempt` is None where it was refused.
"""

import ctypes
import os
import sys

facts = eval(sys.stdin.readline() or "{}")
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
X86 = os.uname().machine == "x86_64"


def escaped(what):
    print("ESCAPED", what, flush=True)


def attempt(function, *arguments, **named):
    try:
        return function(*arguments, **named)
    except (OSError, ValueError, MemoryError, AttributeError, RuntimeError):
        return None


def call(x86, arm, *arguments):
    """A system call by its number; negative: refused."""
    return libc.syscall(x86 if X86 else arm, *arguments)
