"""What all processes of a run hold in memory, seen from outside: the guard where no cgroup is.

    held(4711)      -> bytes of process 4711 and all below it, files in its tmpfs included

Memory of a process is what `/proc/PID/status` calls RssAnon and RssShmem (proc(5)); a page shared
by two counts twice, so the sum errs on the side of ending a run. A file of a tmpfs costs an inode
of the kernel's memory besides its pages, which is counted for it.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
INODE = 1024  # bytes of kernel memory for a file: shmem inode, dentry and their slabs
SCRATCH = ("tmp", "dev/shm")  # what a program can write to, below its root
_RESIDENT = re.compile(rb"^Rss(?:Anon|Shmem):\s+(\d+) kB", re.MULTILINE)


def held(root: int) -> int:
    """Bytes of memory of the process `root` and its descendants, their scratch folders included."""
    tree = list(descendants(root))
    return sum(map(_resident, tree)) + next(filter(None, map(_files, tree)), 0)


def descendants(root: int) -> Iterator[int]:
    """`root` and every process below it. An orphan of a namespace stays below its first process."""
    yield root
    with suppress(OSError):
        for thread in os.listdir(PROC / str(root) / "task"):
            children = (PROC / str(root) / "task" / thread / "children").read_text()
            for child in children.split():
                yield from descendants(int(child))


def _resident(process: int) -> int:
    with suppress(OSError):
        status = (PROC / str(process) / "status").read_bytes()  # its name may be no text
        return 1024 * sum(map(int, _RESIDENT.findall(status)))
    return 0


def _files(process: int) -> int:
    """Bytes and inodes of the tmpfs mounts that the process sees; 0 outside a jail."""
    total = 0
    for folder in SCRATCH:
        with suppress(OSError):
            inside = PROC / str(process) / "root" / folder
            if os.stat(inside).st_dev != os.stat(Path("/", folder)).st_dev:
                found = os.statvfs(inside)
                total += (found.f_blocks - found.f_bfree) * found.f_frsize
                total += (found.f_files - found.f_ffree) * INODE
    return total
