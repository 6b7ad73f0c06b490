"""The filter of system calls: a small assembler for the BPF that seccomp reads.

Kernel documentation: userspace-api/seccomp_filter. What is denied follows findings E: whatever
mounts, traces, loads code into the kernel, opens namespaces or rings, keeps memory that no limit
counts, or talks over a network.

    program("x86_64")                  for a jail with namespaces of its own (levels A and B)
    program("x86_64", alone=True)      for level C: also no second process, no socket, no signal

An instruction is 8 bytes: operation u16, jump if true u8, jump if false u8, operand u32. A filter
reads `struct seccomp_data`: the number at 0, the architecture at 4, arguments of 8 bytes from 16.
"""

import errno
import struct

LOAD, EQUAL, AT_LEAST, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Calls that Linux got after those of this table (and all of the x32 ABI) do not exist inside.
UNKNOWN_FROM = 463

# name -> number on x86_64, on aarch64 (None: it has no such call). Linux's own tables.
Table = dict[str, tuple[int | None, int | None]]

# Denied wherever a program runs.
DENIED: Table = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "semget": (64, 190),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "shmget": (29, 194),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}

# Denied besides at level C, where the host's processes and files share our namespaces: a second
# process, sockets, signals, and what Landlock does not govern of files and of other processes.
DENIED_ALONE: Table = {
    "accept": (43, 202),
    "chmod": (90, None),
    "chown": (92, None),
    "connect": (42, 203),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "fork": (57, None),
    "fremovexattr": (199, 16),
    "fsetxattr": (190, 7),
    "futimesat": (261, None),
    "inotify_init1": (294, 26),
    "ioprio_set": (251, 30),
    "kill": (62, 129),
    "lchown": (94, None),
    "lremovexattr": (198, 15),
    "lsetxattr": (189, 6),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "removexattr": (197, 14),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sendto": (44, 206),
    "setpriority": (141, 140),
    "setxattr": (188, 5),
    "socketpair": (53, 199),
    "tgkill": (234, 131),
    "tkill": (200, 130),
    "truncate": (76, 45),
    "utime": (132, None),
    "utimensat": (280, 88),
    "utimes": (235, None),
    "vfork": (58, None),
}

# Decided by their arguments.
LOOKED_INTO: Table = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "socket": (41, 198),
}
NUMBERS = DENIED | DENIED_ALONE | LOOKED_INTO

AF_UNIX = 1
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # put characters into a terminal
# TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX: what Python and C libraries ask of a file.
PLAIN_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
F_SETOWN, F_SETSIG, F_SETOWN_EX = 8, 10, 15  # have the kernel send a signal to any process
F_SETLEASE = 1024  # has whoever would write a file wait
DENIED_FCNTLS = (F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE)
PR_SET_PDEATHSIG = 1
CLONE_THREAD = 0x00010000
# CLONE_NEWTIME is a flag of clone3 alone; in clone its bit belongs to the signal.
CLONE_NAMESPACES = 0x7E020000  # cgroup uts ipc user pid net, and mount


def program(architecture: str, alone: bool = False) -> bytes:
    """The filter as the kernel takes it: an array of `struct sock_filter`."""
    column = list(ARCHITECTURES).index(architecture)

    def when(name: str, *body: bytes) -> bytes:
        """`body` decides about the call of that name; what it leaves open goes on to the next."""
        number = NUMBERS[name][column]
        if number is None:
            return b""
        inner = b"".join(body)
        return _op(EQUAL, number, 0, len(inner) // 8) + inner

    rules = [when(name, _deny()) for name in (DENIED | DENIED_ALONE if alone else DENIED)]
    rules += [
        when("clone3", _deny(errno.ENOSYS)),  # its flags lie in memory; libc falls back to clone
        when("clone", *_argument(0), _op(ANY_BIT, CLONE_NAMESPACES, 0, 1), _deny(), *_reload()),
    ]
    if alone:
        rules += [
            when("socket", _deny()),
            when("clone", *_argument(0), _op(ANY_BIT, CLONE_THREAD, 1, 0), _deny(), *_reload()),
            when("fcntl", *_argument(1), *_each(*DENIED_FCNTLS), *_reload()),
            when("prctl", *_argument(0), *_each(PR_SET_PDEATHSIG), *_reload()),
            when("prlimit64", *_argument(0), _op(EQUAL, 0, 1, 0), _deny(), *_reload()),
            when("ioctl", *_argument(1), *_only(PLAIN_IOCTLS), _deny(errno.ENOTTY)),
        ]
    else:
        foreign = _deny(errno.EAFNOSUPPORT)
        rules += [
            when("socket", *_argument(0), _op(EQUAL, AF_UNIX, 1, 0), foreign, *_reload()),
            when("ioctl", *_argument(1), *_each(TIOCSTI, TIOCLINUX), *_reload()),
        ]
    head = [
        _op(LOAD, ARCHITECTURE),
        _op(EQUAL, ARCHITECTURES[architecture], 1, 0),
        _op(RETURN, KILL),
        *_reload(),
        _op(AT_LEAST, UNKNOWN_FROM, 0, 1),
        _deny(errno.ENOSYS),
    ]
    return b"".join([*head, *rules, _op(RETURN, ALLOW)])


def _op(code: int, operand: int, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, true, false, operand)


def _deny(number: int = errno.EPERM) -> bytes:
    return _op(RETURN, ERRNO | number)


def _reload() -> list[bytes]:
    return [_op(LOAD, NUMBER)]


def _argument(place: int) -> list[bytes]:
    """The low half of an argument: the calls looked into here read no more of it."""
    return [_op(LOAD, ARGUMENTS + 8 * place)]


def _each(*values: int) -> list[bytes]:
    """Deny each of these values."""
    return [step for value in values for step in (_op(EQUAL, value, 0, 1), _deny())]


def _only(values: tuple[int, ...]) -> list[bytes]:
    """Allow each of these values."""
    return [step for value in values for step in (_op(EQUAL, value, 0, 1), _op(RETURN, ALLOW))]
