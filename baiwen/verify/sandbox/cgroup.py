"""A memory and process budget for all processes of a run together: a control group of its own.

    with Cgroup.make(limits) as group:
        words = [*group.entering(), "bwrap", ...]     # joins the group, then becomes the rest
        ...
        group.killed_for_memory()

Version 2 wants a folder whose `subtree_control` hands memory and pids on; version 1 has a hierarchy
for each of the two. Kernel documentation: admin-guide/cgroup-v2, admin-guide/cgroup-v1/memory.
"""

import functools
import os
import secrets
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from baiwen.verify.sandbox.limits import Limits

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
PREFIX = "baiwen"
# `sh` writes its own number into each group, before it becomes the command.
ENTER = 'for place in $1; do echo $$ > "$place/cgroup.procs" || exit 125; done; shift; exec "$@"'
PATIENCE = 2.0  # seconds for the kernel to forget the processes of a group
STALE = 60.0  # seconds after which an empty group of no process is nobody's


@dataclass(frozen=True)
class Cgroup:
    """The folders of one run: one of version 2, or two of version 1."""

    places: tuple[Path, ...]

    @staticmethod
    def parents(root: Path = ROOT, own: Path = OWN) -> tuple[Path, ...]:
        """The folders in which a group can be made, () where there are none."""
        paths = _own_paths(own)
        first = _version_1(root, paths)
        return first or _version_2(root, paths)

    @classmethod
    def make(cls, limits: Limits) -> "Cgroup":
        """A new group with the budgets of `limits`; `OSError` where none can be made."""
        parents = cls.parents()
        if not parents:
            raise OSError("no writable control group with memory and pids")
        for parent in parents:
            sweep(parent)
        # Never a name that a run left behind, whose process was killed and had the same number.
        name = f"{PREFIX}-{os.getpid()}-{secrets.token_hex(8)}"
        group = cls(tuple(parent / name for parent in parents))
        try:
            for place in group.places:
                place.mkdir()
            group._bound(limits)
        except OSError:
            group.close()
            raise
        return group

    def __enter__(self) -> "Cgroup":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def entering(self) -> list[str]:
        """The words before a command that make it join, with all its children."""
        return ["/bin/sh", "-c", ENTER, "sh", " ".join(map(str, self.places))]

    def killed_for_memory(self) -> bool:
        """Whether the kernel ended a process of the group for want of memory."""
        for file in ("memory.events", "memory.oom_control"):
            with suppress(OSError):
                rows = dict(map(str.split, (self.places[0] / file).read_text().splitlines()))
                return rows.get("oom_kill", "0") != "0"
        return False

    def close(self) -> None:
        """End what is left in the group, and remove it."""
        until = time.monotonic() + PATIENCE
        for place in self.places:
            while place.is_dir():
                self._kill(place)
                with suppress(OSError):
                    place.rmdir()
                    break
                if time.monotonic() > until:
                    return
                time.sleep(0.001)

    def _bound(self, limits: Limits) -> None:
        memory, *_, pids = self.places
        # The processes of bubblewrap and setpriv live in the group too.
        (pids / "pids.max").write_text(str(limits.processes + 4))
        if (memory / "memory.max").exists():
            (memory / "memory.max").write_text(str(limits.memory))
            optional = {"memory.swap.max": "0", "memory.oom.group": "1"}
        else:
            (memory / "memory.limit_in_bytes").write_text(str(limits.memory))
            optional = {"memory.memsw.limit_in_bytes": str(limits.memory)}
        for file, text in optional.items():
            if (memory / file).exists():
                (memory / file).write_text(text)

    @staticmethod
    def _kill(place: Path) -> None:
        with suppress(OSError):
            for number in (place / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(number), signal.SIGKILL)


@functools.cache  # once for each process
def sweep(parent: Path) -> None:
    """Remove the groups of processes that were killed before they could."""
    for place in parent.glob(f"{PREFIX}-*"):
        with suppress(OSError):
            owner = Path("/proc", place.name.split("-")[1])
            if not owner.exists() and time.time() - place.stat().st_mtime > STALE:
                place.rmdir()  # fails where a process is in it


def _own_paths(own: Path) -> dict[str, str]:
    """`/proc/self/cgroup` as controller -> path; version 2 has the controller ""."""
    if not own.is_file():
        return {}
    rows = [line.split(":", 2) for line in own.read_text().splitlines()]
    return {name: path for _, names, path in rows for name in names.split(",")}


def _version_1(root: Path, paths: Mapping[str, str]) -> tuple[Path, ...]:
    places = tuple(root / name / paths.get(name, "/").lstrip("/") for name in ("memory", "pids"))
    usable = all((place / "cgroup.procs").exists() and _writable(place) for place in places)
    return places if usable else ()


def _version_2(root: Path, paths: Mapping[str, str]) -> tuple[Path, ...]:
    """The nearest group above our own that hands both controllers on to its children."""
    place = root / paths.get("", "/").lstrip("/")
    for parent in (place, *place.parents):
        if not parent.is_relative_to(root):
            break
        control = parent / "cgroup.subtree_control"
        handed_on = control.read_text().split() if control.is_file() else []
        if {"memory", "pids"} <= {*handed_on} and _writable(parent):
            return (parent,)
    return ()


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK) and not os.statvfs(folder).f_flag & os.ST_RDONLY
