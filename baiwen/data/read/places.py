"""Places: files of this machine and of others, found by path, folder, glob or URL, and opened.

    find(["notes", "books/*.jsonl.zst", "s3://bucket/crawl/*.warc.gz"])
    with opened("hf://datasets/owner/name/train.parquet") as file: ...

What `fsspec` has a driver for can be read; credentials and options are where its drivers look for
them (the environment, `~/.config/fsspec`). Another machine that does not answer stops the run: that
is no flaw of a document.
"""

import glob
import io
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.registry import known_implementations

from baiwen import mistakes
from baiwen.errors import UserError

Place = Path | str  # a file of this machine, or a URL
CARD, KEPT = "data.json", "documents-*.jsonl.zst"  # of a run folder that holds documents
BUFFER = 1 << 18  # bytes read at a time
# What drivers say of a file that is another when its content is.
MARKS = (
    "size",
    "ETag",
    "etag",
    "mtime",
    "LastModified",
    "Last-Modified",
    "last_modified",
    "updated",
)


def find(places: Iterable[str | Path], endings: Collection[str], told: str) -> list[Place]:
    """The files of every path, folder, glob or URL that end so, sorted within each.

    Names that begin with a dot are passed over in folders; of a run folder with documents (of the
    stages data, recall, generate) those that were kept are found. A `UserError` for a place that is
    not there or holds no such file; told: the endings in its words.
    """
    found = (file for place in places for file in _found(str(place), endings, told))
    return list(dict.fromkeys(found))


def local(places: Iterable[Place]) -> list[Path]:
    """Those that are files of this machine."""
    return [place for place in places if isinstance(place, Path)]


def ending(place: Place, endings: Collection[str]) -> str | None:
    """The longest of `endings` that a name has, in small letters."""
    parts = _name(place).lower().split(".")
    suffixes = ("." + ".".join(parts[i:]) for i in range(1, len(parts)))
    return next((suffix for suffix in suffixes if suffix in endings), None)


def size(place: Place) -> int | None:
    """Bytes of a file; None where it can be read from its beginning alone."""
    if isinstance(place, Path):
        with _readable(place):
            return place.stat().st_size
    system, path = _system(place)
    with _readable(place):
        about = system.info(path)
    is_web = place.startswith("http")
    return None if is_web and not about.get("partial") else cast("int | None", about["size"])


def stamp(place: Place) -> str:
    """What tells a file's content from another without reading it: its size, its time of change."""
    if isinstance(place, Path):
        with _readable(place):
            status = place.stat()
        return f"{status.st_size} {status.st_mtime_ns}"
    system, path = _system(place)
    with _readable(place):
        about = system.info(path)
    return " ".join(str(about[mark]) for mark in MARKS if mark in about)


@contextmanager
def opened(place: Place) -> Iterator[IO[bytes]]:
    """A file to read from; what the system refuses is a `UserError` that names the place."""
    if isinstance(place, Path):
        with _readable(place), place.open("rb", buffering=BUFFER) as file:
            yield file
        return
    system, path = _system(place)
    whole_only = place.startswith("http") and size(place) is None
    options = {"block_size": 0} if whole_only else {}
    with _readable(place), io.BufferedReader(system.open(path, "rb", **options), BUFFER) as file:
        yield file


def content(place: Place, most: int) -> bytes | None:
    """All bytes of a file; None where they are more than `most`."""
    with opened(place) as file:
        data = file.read(most + 1)
    return data if len(data) <= most else None


def unknown(place: Place, told: str) -> UserError:
    """What to raise for a file of another format."""
    return UserError(f"{place}: documents are read from files that end in {told}")


def _found(place: str, endings: Collection[str], told: str) -> list[Place]:
    found = _distant(place) if "://" in place else _local(place)
    wanted = [file for file in found if ending(file, endings)]
    if not wanted and list(map(str, found)) == [place]:
        raise unknown(place, told)
    if not wanted:
        raise UserError(f"{place}: holds no file that ends in {told}")
    return wanted


def _local(place: str) -> list[Place]:
    path = Path(place)
    with _readable(path):
        if path.is_file():
            return [path]
        if (path / CARD).is_file() and (kept := sorted(path.glob(KEPT))):
            return [*kept]
        if path.is_dir():
            within = _within(path)
        elif glob.has_magic(place):
            within = (Path(name) for name in glob.iglob(place, recursive=True))
        else:
            raise UserError(mistakes.missing("file, folder or glob of documents", path))
        return sorted(child for child in within if child.is_file())


def _within(folder: Path) -> Iterator[Path]:
    """All files below a folder that are not hidden; an OSError for a folder that is denied us."""
    for name, folders, files in os.walk(folder, onerror=_raised):
        folders[:] = [one for one in folders if not _is_hidden(Path(one))]
        yield from (Path(name, file) for file in files if not _is_hidden(Path(file)))


def _raised(error: OSError) -> None:
    raise error


def _distant(url: str) -> list[Place]:
    system, path = _system(url)
    with _readable(url):
        if "*" in path or "[" in path:
            names = system.glob(path)
        elif system.isfile(path):
            names = [path]
        else:
            inside = system.find(path)
            names = [name for name in inside if not _is_hidden(Path(name.removeprefix(path)))]
    if not names:
        raise UserError(f"{url}: there is no such file or folder, or nothing in it")
    if names == [path]:
        return [url]
    return sorted(system.unstrip_protocol(name) for name in names)


def _system(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a URL and the path in it."""
    try:
        return cast(tuple[AbstractFileSystem, str], url_to_fs(url))
    except ImportError as error:
        known = known_implementations.get(url.partition("://")[0], {})
        package = str(known.get("class", "")).partition(".")[0]
        wanted = "requests aiohttp" if package == "fsspec" else package
        raise UserError(f"{url}: {error}. To read it: pip install {wanted}") from error
    except ValueError as error:
        raise UserError(f"{url}: no such kind of place: {error}") from error


@contextmanager
def _readable(place: Place) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{place}: there is no such file") from error
    except OSError as error:
        inside = f" ({error.filename})" if str(error.filename or place) != str(place) else ""
        raise UserError(f"{place}: cannot be read: {error.strerror or error}{inside}") from error


def _name(place: Place) -> str:
    if isinstance(place, Path):
        return place.name
    path = place.partition("?")[0] if place.startswith("http") else place
    return path.rpartition("/")[2]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)
