"""Manifests: a folder counts as complete only when its manifest is there and matches.

`manifest.json` is written last and lists every file, so a folder without one is unfinished, and one
whose files differ from it is damaged:

    {"files": {"config.json": {"sha256": "9f86d081...", "bytes": 660}, ...}}
"""

import ctypes
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from baiwen.errors import UserError
from baiwen.files.durable import explained, is_partial, make_folder, partial, sync_folder, write

MANIFEST = "manifest.json"
LOCK = ".lock"
Entry = dict[str, str | int]  # of a file: its "sha256" and its "bytes"


def seal(folder: Path | str, exclude: Collection[str] = ()) -> None:
    """Make every file of a folder durable and list it in `manifest.json`, which is written last.

    `exclude` names files or whole subfolders, relative to `folder`, that go on changing.
    """
    folder = Path(folder)
    names = sorted(_names(folder, exclude))
    with explained(folder), ThreadPoolExecutor() as pool:  # hashing and fsync release the GIL
        described = pool.map(describe, [folder / name for name in names])
        entries = dict(zip(names, described, strict=True))
    write_manifest(folder, entries)


def write_manifest(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Seal a folder whose files are known and durable: what `describe` says of each, by name."""
    with explained(folder):
        for place in {folder / above for name in entries for above in Path(name).parents}:
            sync_folder(place)
    write(folder / MANIFEST, json.dumps({"files": dict(entries)}, indent=1) + "\n")


def check(folder: Path | str, share: int = 0, shares: int = 1) -> None:
    """Verify every file against the manifest; UserError names the first wrong one and why.

    Of several who check together each reads its share of the files. Those that the manifest does
    not list are ignored.
    """
    folder = Path(folder)
    entries = listed(folder)
    for name, entry in entries.items():
        _check_size(folder, name, entry)
    entries = dict(sorted(entries.items())[share::shares])
    with ThreadPoolExecutor() as pool:
        digests = pool.map(sha256, [folder / name for name in entries])
        for (name, entry), digest in zip(entries.items(), digests, strict=True):
            if digest != entry["sha256"]:
                raise _damaged(folder, name, "its bytes changed (SHA-256 differs)")


def complete(folder: Path | str) -> bool:
    """Say whether the manifest is there and all sizes match it; `check` reads the bytes too."""
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        return False
    try:
        for name, entry in listed(folder).items():
            _check_size(folder, name, entry)
    except UserError:
        return False
    return True


@contextmanager
def writing_folder(path: Path | str, close: Callable[[Path], None] = seal) -> Iterator[Path]:
    """Build a whole folder under a temporary name; it appears, sealed and durable, at the end.

    A sealed folder of that name is replaced in one step; of a link to one, the folder is. One that
    holds anything else is refused, so that no file is lost to a mistyped path. On an exception
    nothing changes under the name. `close` seals it: by `write_manifest` where the files are known
    and need not be read again.
    """
    path = Path(path).resolve() if Path(path).is_symlink() else Path(path)
    _refuse_foreign(path)
    temporary = partial(path)
    with explained(path, temporary):
        make_folder(path.parent)
        temporary.mkdir()
        try:
            yield temporary
            close(temporary)
            if path.exists():
                _swap(temporary, path)
            else:
                os.rename(temporary, path)
            sync_folder(path.parent)
        finally:
            if temporary.exists():  # what an exception left, or the folder that was replaced
                shutil.rmtree(temporary)


def _names(folder: Path, exclude: Collection[str]) -> Iterator[str]:
    """Yield the files of a folder, relative, with `/`; not `exclude`, the manifest or the lock."""
    for place, folders, files in os.walk(folder):
        relative = Path(place).relative_to(folder)
        folders[:] = [name for name in folders if _listed(relative / name, exclude)]
        yield from (
            (relative / name).as_posix() for name in files if _listed(relative / name, exclude)
        )


def _listed(relative: Path, exclude: Collection[str]) -> bool:
    name = relative.as_posix()
    return name not in exclude and name not in (MANIFEST, LOCK) and not is_partial(relative.name)


def describe(path: Path) -> Entry:
    """Fsync a file that anyone may have written, and describe it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"sha256": digest, "bytes": file.tell()}


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed(folder: Path) -> dict[str, Entry]:
    """What the manifest lists; UserError where it is absent, is not ours, or leaves the folder."""
    path = folder / MANIFEST
    try:
        entries = json.loads(path.read_bytes())["files"]
        ours = all(_is_entry(name, entry) for name, entry in entries.items())
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} has no {MANIFEST}: it is not complete; run its stage again"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(folder, MANIFEST, "it is not a manifest") from error
    if not ours:
        raise _damaged(folder, MANIFEST, "it is not a manifest")
    return entries


def _is_entry(name: str, entry: Entry) -> bool:
    """Say whether a line of a manifest is of our form, and its file within the folder."""
    inside = not Path(name).is_absolute() and ".." not in Path(name).parts
    return inside and isinstance(entry["sha256"], str) and isinstance(entry["bytes"], int)


def _check_size(folder: Path, name: str, entry: Entry) -> None:
    path = folder / name
    if not path.is_file():
        raise _damaged(folder, name, "it is missing")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise _damaged(folder, name, f"it has {size:,} bytes, not {entry['bytes']:,}")


def _damaged(folder: Path, name: str, reason: str) -> UserError:
    return UserError(
        f"{folder / name}: {reason}, so the folder is damaged; "
        f"restore the file, or delete {folder} and make it again"
    )


def _refuse_foreign(folder: Path) -> None:
    """UserError where replacing `folder` would lose a file that its manifest does not list."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; choose another place for the folder")
    known = listed(folder) if (folder / MANIFEST).is_file() else {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and name != MANIFEST and name not in known:
            raise UserError(
                f"{folder} holds {name}, which would be lost; "
                "choose another place, or delete the folder"
            )


def _swap(one: Path, other: Path) -> None:
    """Exchange two names: in one step where the system can (renameat2, Linux), else in three."""
    libc = ctypes.CDLL(None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE (linux/fcntl.h, linux/fs.h)
    names = os.fsencode(one), os.fsencode(other)
    if hasattr(libc, "renameat2") and not libc.renameat2(here, names[0], here, names[1], exchange):
        return
    aside = partial(other)
    os.rename(other, aside)
    os.rename(one, other)
    os.rename(aside, one)
