"""Durable writing: a name holds its old content or its whole new content, whatever happens.

A file is written under a hidden temporary name in the same folder, fsynced, renamed over the name,
and the folder is fsynced, so that neither kill -9 nor a power cut can leave half a file: the rule
of POSIX rename(2) and fsync(2). What a killed writer leaves behind is hidden
(`.NAME.1f0a9c3e.partial`) and swept when its run folder is opened again.

    write("out/config.json", text)
    with writing("out/tokens.bin") as file:
        file.write(block)                 # an exception in here leaves the old file as it was
"""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from baiwen.errors import UserError

REFUSALS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "the file passes the size limit (`ulimit -f`); raise it",
    errno.EACCES: "permission denied; choose a place you may write to",
    errno.EPERM: "permission denied; choose a place you may write to",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another path",
    errno.EEXIST: "a part of the path is a file, not a folder; choose another path",
    errno.EISDIR: "this is a folder; give the path of a file",
    errno.ENAMETOOLONG: "the name is too long; shorten it",
}
# Why a second name for a file may be refused: another disk, a file system without, too many names.
UNLINKED = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK)
PARTIAL = re.compile(r"\..+\.[0-9a-f]{8}\.partial")


def write(path: Path | str, data: bytes | str) -> None:
    """Write a whole file durably, text as UTF-8; UserError where the disk is full or forbids it."""
    with writing(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def writing(path: Path | str, mode: Literal["wb", "w"] = "wb") -> Iterator[IO[Any]]:
    """Open a file that appears under its name, whole and durable, when the block ends well.

    Text ("w") is UTF-8 with `\\n` line ends. On an exception nothing changes under the name.
    """
    path = Path(path)
    temporary = partial(path)
    text = {"encoding": "utf-8", "newline": "\n"} if mode == "w" else {}
    with explained(path, temporary):
        make_folder(path.parent)
        try:
            with open(temporary, mode.replace("w", "x"), **text) as file:  # type: ignore[call-overload]
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def take(path: Path, copy: Path) -> None:
    """Give a file that never changes another name, durably: a link, or a copy on another disk."""
    temporary = partial(copy)
    with explained(copy, temporary):
        make_folder(copy.parent)
        try:
            os.link(path, temporary)
        except OSError as error:
            if error.errno not in UNLINKED:
                raise
            write(copy, path.read_bytes())
            return
        os.replace(temporary, copy)
        sync_folder(copy.parent)


def remove_folder(folder: Path) -> None:
    """Delete a folder durably: killed anywhere, it is there whole or not at all."""
    hidden = partial(folder)
    os.rename(folder, hidden)
    sync_folder(folder.parent)
    shutil.rmtree(hidden)


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, each one durable."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder (new, renamed, removed) survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def partial(path: Path) -> Path:
    """Return a fresh temporary name beside `path`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def is_partial(name: str) -> bool:
    """Say whether this is the temporary name of an unfinished write."""
    return PARTIAL.fullmatch(name) is not None


def sweep(folder: Path) -> None:
    """Delete every unfinished write under `folder`; the caller holds the folder's lock."""
    for place, folders, names in os.walk(folder):
        for name in filter(is_partial, names):
            Path(place, name).unlink()
        for name in filter(is_partial, folders):
            shutil.rmtree(Path(place, name))
        folders[:] = [name for name in folders if not is_partial(name)]


@contextmanager
def explained(*paths: Path) -> Iterator[None]:
    """Turn the system's refusal to write these paths into a UserError that names the first."""
    try:
        yield
    except OSError as error:
        reason = REFUSALS.get(error.errno or 0)
        if reason is None or not _is_about(error, paths):
            raise
        raise UserError(f"cannot write {paths[0]}: {reason}") from error


def _is_about(error: OSError, paths: Sequence[Path]) -> bool:
    """Say whether an error may concern these paths: it names none, or one above or below them."""
    if error.filename is None:  # a write or an fsync
        return True
    named = Path(str(error.filename))
    return any(named.is_relative_to(path) or path.is_relative_to(named) for path in paths)
