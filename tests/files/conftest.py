"""A disk that fails: an action is killed, or refused, at every one of its file operations in turn.

After a kill the disk holds only what it had to hold (POSIX): bytes that were not fsynced are torn,
and a new name in a folder that was not fsynced since is lost, unless it is a manifest, which an
unlucky disk writes first.
"""

import builtins
import io
import os
import shutil
import signal
import stat
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from baiwen.errors import UserError
from baiwen.files.durable import is_partial

OPERATIONS = ("open", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir")
OPEN = io.open
# Exit codes of the child: no fault met; finished in spite of one; an exception; a missing fsync.
FINISHED, SURVIVED, REFUSED, FORGETFUL, BROKEN = range(5)
MOST = 300  # file operations of the longest action


class Disk:
    """Knows what of `root` a power cut would leave, and counts the operations down to the fault."""

    def __init__(self, root: Path, left: int, fault: int | None) -> None:
        self.root, self.left, self.fault = root, left, fault
        self.lock, self.crashing = threading.RLock(), False
        self.sizes: dict[int, int] = {}  # fsynced bytes of each file, by inode
        self.names: dict[int, set[str]] = {}  # fsynced names of each folder
        for folder, folders, files in os.walk(root):
            self.names[os.stat(folder).st_ino] = {*folders, *files}
            for seen in (os.stat(Path(folder, name)) for name in files):
                self.sizes[seen.st_ino] = seen.st_size

    def install(self) -> None:
        for name in OPERATIONS:
            setattr(os, name, self.failing(getattr(os, name)))
        builtins.open = io.open = self.failing(OPEN)

    def failing(self, operation: Callable) -> Callable:
        def run(*args, **kwargs):
            with self.lock:
                self.left -= not self.crashing
                if self.left < 0 and self.fault is None and not self.crashing:
                    self.crash()
                if self.left == -1 and self.fault is not None:
                    raise OSError(self.fault, os.strerror(self.fault))
                result = operation(*args, **kwargs)
                if operation.__name__ == "fsync":
                    self.keep(args[0])
                elif operation is OPEN and "x" in "".join(map(str, args[1:2])):
                    self.sizes.pop(os.fstat(result.fileno()).st_ino, None)  # may be a used number
                return result

        return run

    def keep(self, descriptor: int) -> None:
        seen = os.fstat(descriptor)
        if stat.S_ISDIR(seen.st_mode):
            self.names[seen.st_ino] = set(os.listdir(descriptor))
        else:
            self.sizes[seen.st_ino] = seen.st_size

    def crash(self) -> None:
        self.crashing = True
        for folder, folders, files in os.walk(self.root, topdown=False):
            for path in (Path(folder, name) for name in files):
                seen, kept = path.stat(), self.sizes.get(path.stat().st_ino, 0)
                if kept < seen.st_size:
                    os.truncate(path, max(kept, seen.st_size // 2))
            known = self.names.get(os.stat(folder).st_ino, set()) | {"manifest.json"}
            for path in (Path(folder, name) for name in {*folders, *files} - known):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        os.kill(os.getpid(), signal.SIGKILL)

    def forgets(self) -> bool:
        """Whether a folder's visible names changed after its last fsync."""
        for folder, folders, files in os.walk(self.root):
            changed = {*folders, *files} ^ self.names.get(os.stat(folder).st_ino, set())
            if not all(map(is_partial, changed)):
                return True
        return False


@pytest.fixture
def faults() -> Callable[..., Iterator[str]]:
    """`faults(root, prepare, action, fault=None)`: after each fault, how the action ended.

    Yields "killed", "refused" (an exception) or "finished", with `root` as it was left; ends with
    the first attempt that meets no fault. A `fault` is an errno; None kills the process.
    """

    def play(
        root: Path,
        prepare: Callable[[], None],
        action: Callable[[], None],
        fault: int | None = None,
    ) -> Iterator[str]:
        for left in range(MOST):
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir()
            prepare()
            status = attempt(Disk(root, left, fault), action)
            code = None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            assert code not in (FORGETFUL, BROKEN), "a folder was not fsynced, or see the output"
            yield {None: "killed", REFUSED: "refused"}.get(code, "finished")
            if code == FINISHED:
                return
        pytest.fail(f"still failing after {MOST} operations")

    return play


def attempt(disk: Disk, action: Callable[[], None]) -> int:
    """Run the action on the failing disk in a child, and return how the child ended."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    code = BROKEN
    try:
        disk.install()
        action()
        code = FINISHED if disk.left >= 0 else SURVIVED
        if code == FINISHED and disk.forgets():
            code = FORGETFUL
    except (OSError, UserError):
        code = REFUSED
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
