"""Inputs: what tells the content of what a run reads from any other content.

    fingerprint([Path("runs/tiny/data")])       # "sha256 3f1c9a..."

Files that a manifest lists count by the SHA-256 there, which costs nothing; what a run says about
itself (times, rates, the command) does not count, so a run that is made again in the same bits is
the same input. Other files are read, unless they have more than `READ` bytes together: those count
by size and time of change, and the fingerprint begins with "stat", since a copy has other times.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from baiwen.errors import UserError
from baiwen.files.manifest import MANIFEST, listed, sha256

READ = 1 << 28  # bytes: a fraction of a second
COMPARED, TOUCHED = "sha256 ", "stat "  # how a fingerprint begins: by content, by size and time
# Files of a run folder that say how the run went, not what it made.
RECORDS = ("recipe.json", "run.json", "metrics.jsonl", "device.json")

File = tuple[str, Path, str | None]  # name, place, and the SHA-256 of a manifest that lists it


def fingerprint(paths: Sequence[Path]) -> str | None:
    """What the content of these files and folders is; None where one of them is not there."""
    if not all(map(os.path.exists, paths)):  # also False where one may not look
        return None
    found = [file for path in paths for file in _files(path)]
    large = sum(path.stat().st_size for _, path, known in found if not known) > READ
    whole = hashlib.sha256()
    for name, path, known in found:
        mark = known or (_stamp(path) if large else sha256(path))
        whole.update(f"{name}\0{mark}\0".encode())
    return (TOUCHED if large else COMPARED) + whole.hexdigest()


def _files(path: Path) -> Iterator[File]:
    """The files of a path: those that a manifest lists, or else those that are there."""
    if known := list(_known(path.resolve())):
        yield from known
    elif path.is_file():
        yield path.name, path, None
    else:
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path)
            if file.is_file() and not any(part.startswith(".") for part in name.parts):
                yield name.as_posix(), file, None


def _known(path: Path) -> Iterator[File]:
    """What the nearest manifest of `path` or above says of it; a file of another size is read."""
    home = next((place for place in (path, *path.parents) if (place / MANIFEST).is_file()), None)
    if home is None:
        return
    try:
        entries = listed(home)
    except UserError:  # another program's manifest.json
        return
    for name, entry in sorted(entries.items()):
        file = home / name
        if file.is_relative_to(path) and name not in RECORDS and file.is_file():
            whole = file.stat().st_size == entry["bytes"]
            yield file.relative_to(path).as_posix(), file, str(entry["sha256"]) if whole else None


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"
