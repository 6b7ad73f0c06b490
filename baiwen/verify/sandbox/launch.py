"""Level C's jail, which a process puts around itself before it becomes the program.

Runs inside, as a script of its own: `python -S -s -B launch.py JSON`, with

    {"words": ["/usr/bin/python3", ...], "environment": {...}, "keep": [7], "filter": 6,
     "readable": ["/usr", ...], "limits": [["RLIMIT_CPU", 5, 6], ...]}

Landlock (kernel documentation: userspace-api/landlock) leaves the folders named to be read and run,
nothing to be written, no TCP port, and from its version 6 on no signal or abstract socket outward.
The seccomp filter, read from a descriptor, does the rest. Ends with 126 where the kernel refuses.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import struct
import sys

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # on every architecture
VERSION, PATH_BENEATH = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
# The rights over files that each version of Landlock knows: 13, then refer, truncate, ioctl_dev.
RIGHTS = {1: 2**13 - 1, 2: 2**14 - 1, 3: 2**15 - 1, 4: 2**15 - 1, 5: 2**16 - 1}
NETWORK_FROM, BIND_AND_CONNECT = 4, 3
SCOPE_FROM, SOCKETS_AND_SIGNALS = 6, 3
SET_DEATH_SIGNAL, SET_SECCOMP, FILTER, SET_NO_NEW_PRIVILEGES = 1, 22, 2, 38
DEVICES = {"/dev/null": READ_FILE | WRITE_FILE, "/dev/zero": READ_FILE, "/dev/urandom": READ_FILE}

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Close the jail and become the program."""
    given = json.loads(sys.argv[1])
    program = os.pread(given["filter"], 2**16, 0)
    close_others(given["keep"])
    prctl(SET_DEATH_SIGNAL, signal.SIGKILL)
    for name, soft, hard in given["limits"]:
        resource.setrlimit(getattr(resource, name), (soft, hard))
    prctl(SET_NO_NEW_PRIVILEGES, 1)
    landlock(given["readable"])
    restrict(program)
    os.execve(given["words"][0], given["words"], given["environment"])


def prctl(option: int, value: int, pointer: object = 0) -> None:
    """prctl(2), or an OSError."""
    checked(libc.prctl(option, ctypes.c_ulong(value), pointer, 0, 0))


def checked(result: int) -> int:
    """The result of a call, or an OSError."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def landlock(readable: list) -> None:
    """Leave these folders to be read and run, and nothing else of any file system."""
    version = checked(libc.syscall(CREATE_RULESET, None, 0, VERSION))
    attributes = [RIGHTS[min(version, max(RIGHTS))]]
    attributes += [BIND_AND_CONNECT] if version >= NETWORK_FROM else []
    attributes += [SOCKETS_AND_SIGNALS] if version >= SCOPE_FROM else []
    packed = struct.pack(f"{len(attributes)}Q", *attributes)
    rules = checked(libc.syscall(CREATE_RULESET, packed, len(packed), 0))
    for folder in readable:
        allow(rules, folder, EXECUTE | READ_FILE | READ_DIR)
    for device, rights in DEVICES.items():
        allow(rules, device, rights)
    checked(libc.syscall(RESTRICT_SELF, rules, 0))


def allow(rules: int, path: str, rights: int) -> None:
    """Add a path, where it exists, to a ruleset."""
    if not os.path.exists(path):
        return
    if not os.path.isdir(path):
        rights &= ~READ_DIR
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = struct.pack("=Qi", rights, place)
    checked(libc.syscall(ADD_RULE, rules, PATH_BENEATH, rule, 0))


def close_others(keep: list) -> None:
    """Close every descriptor but the standard three and those named."""
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2 and number not in keep:
            with contextlib.suppress(OSError):  # the one that read the folder is closed already
                os.close(number)


def restrict(program: bytes) -> None:
    """Load the seccomp filter: `struct sock_fprog` is a count and a pointer."""
    code = ctypes.create_string_buffer(program, len(program))
    packed = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    prctl(SET_SECCOMP, FILTER, ctypes.c_char_p(packed))


if __name__ == "__main__":
    main()
