"""Documents from files: text, source code, JSONL and Parquet, single, in folders or by glob.

    paths = find(["notes", "books/*.jsonl.zst"])
    for chunk in chunks(paths):                     # a few MB of work for one process
        for document in chunk.documents(): ...

A text file is a document. A row of JSONL or Parquet needs a string `text`; `id`, `meta`, `source`,
`license`, `language` (or `lang`), `domain` and `family` are taken over where it has them. What
cannot be read (bytes that are not UTF-8, a broken line) comes as a document with a flaw.
"""

import glob
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from baiwen import files, mistakes
from baiwen.data.document import CODE, PROSE, Document, document, flawed
from baiwen.errors import UserError

TEXT = {".txt": PROSE, ".md": PROSE, ".rst": PROSE, ".py": CODE}  # ending -> domain
ROWS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
ENDINGS = (*TEXT, *ROWS)
CHUNK = 1 << 22  # bytes of text that one process reads at a time
FIELDS = ("source", "license", "language", "domain", "family")
COLUMNS = ("id", "meta", "lang", *FIELDS)  # of a Parquet file that are read where it has them


@dataclass(frozen=True)
class Chunk:
    """A piece of reading for one process."""

    reader: Callable[..., Iterator[Document]]  # a function of a module's top level
    items: Sequence[Any]  # what it reads
    meta: dict[str, Any]  # what its documents' own meta is laid over
    domain: str | None = None  # to which all its documents belong, whatever their own meta says
    filtered: bool = True  # whether the heuristic filters judge them

    def documents(self) -> Iterator[Document]:
        """Read it."""
        own = {} if self.domain is None else {"domain": self.domain}
        for found in self.reader(self.items, self.meta):
            yield replace(found, meta=found.meta | own)


def find(places: Iterable[str | Path]) -> list[Path]:
    """The files of every path, folder or glob, sorted within each; a `UserError` for none."""
    return list(dict.fromkeys(path for place in places for path in _found(str(place))))


def chunks(paths: Sequence[Path], meta: dict[str, Any] | None = None) -> Iterator[Chunk]:
    """The documents of `paths` as chunks, in order; `meta` is for fields that they do not have."""
    meta = meta or {}
    for is_text, group in itertools.groupby(paths, key=lambda path: path.suffix in TEXT):
        if is_text:
            yield from (Chunk(texts, part, meta) for part in by_size(group))
            continue
        for path in group:
            own = {"source": str(path), **meta}
            if path.suffix == ".parquet":
                yield from (Chunk(parquet_rows, part, own) for part in _parquet(path))
            else:
                yield from (Chunk(jsonl_rows, part, own) for part in _jsonl(path))


def documents(paths: Sequence[Path]) -> Iterator[Document]:
    """Every document of `paths`; a `UserError` names one that cannot be read."""
    for chunk in chunks(paths):
        for found in chunk.documents():
            if found.flaw:
                raise UserError(f"{found.meta['place']}: {found.flaw}")
            yield found


def texts_of(paths: Sequence[Path]) -> Iterator[str]:
    """The text of every document of `paths`; a `UserError` names one that cannot be read."""
    return (found.text for found in documents(paths))


def by_size(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """Files in groups of about `CHUNK` bytes."""
    return _grouped((path, path.stat().st_size) for path in paths)


def texts(paths: Sequence[Path], meta: dict[str, Any]) -> Iterator[Document]:
    """A document for each text file."""
    for path in paths:
        own = {"source": str(path), "domain": TEXT[path.suffix], **meta}
        yield text_file(path, own)


def text_file(path: Path, meta: dict[str, Any]) -> Document:
    """The document of a text file, flawed where its bytes are not UTF-8."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return document(data.decode("utf-8-sig"), meta)
    except UnicodeDecodeError as error:
        flaw = f"not UTF-8 at byte {error.start:,}"
        return flawed(str(path), data.decode(errors="replace"), flaw, meta)


def jsonl_rows(lines: Sequence[tuple[str, bytes]], meta: dict[str, Any]) -> Iterator[Document]:
    """A document for each raw line of a JSONL file, given with its place (`path:line`)."""
    for place, line in lines:
        try:
            yield _row(files.parse_row(line, place), place, meta)
        except UserError:
            yield flawed(place, line.decode(errors="replace"), _line_flaw(line), meta)


def parquet_rows(
    rows: Sequence[tuple[str, dict[str, Any]]], meta: dict[str, Any]
) -> Iterator[Document]:
    """A document for each row of a Parquet file, given with its place (`path:row`)."""
    for place, row in rows:
        yield _row(row, place, meta)


def _row(row: dict[str, Any], place: str, meta: dict[str, Any]) -> Document:
    text, own = row.get("text"), row.get("meta")
    if not isinstance(text, str):
        fields = ", ".join(row) or "none"
        return flawed(place, "", f"no string `text` (its fields: {fields})", meta)
    given = {name: str(row[name]) for name in FIELDS if row.get(name)}
    if row.get("lang"):
        given.setdefault("language", str(row["lang"]))
    merged = {**meta, **(_plain(own) if isinstance(own, dict) else {}), **given}
    return document(text, merged, None if row.get("id") is None else str(row["id"]))


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever JSON or Parquet holds
    """The value in types of JSON: dates, bytes, NaN and the like become their text."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    is_plain = value is None or isinstance(value, str | int)
    if is_plain or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def _line_flaw(line: bytes) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start:,} of the line"
    return "not a JSON object"


def _jsonl(path: Path) -> Iterator[list[tuple[str, bytes]]]:
    lines = enumerate(files.read_lines(path), start=1)
    return _grouped(
        ((f"{path}:{number}", line), len(line)) for number, line in lines if line.strip()
    )


def _parquet(path: Path) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    rows = enumerate(files.read_parquet(path, ["text"], COLUMNS), start=1)
    return _grouped(((f"{path}:{number}", row), len(str(row.get("text")))) for number, row in rows)


def _grouped(items: Iterable[tuple[Any, int]]) -> Iterator[list[Any]]:
    """Items, each given with its size, in groups of about `CHUNK` bytes."""
    group: list[Any] = []
    size = 0
    for item, item_size in items:
        group.append(item)
        size += item_size
        if size >= CHUNK:
            yield group
            group, size = [], 0
    if group:
        yield group


def _found(place: str) -> list[Path]:
    path = Path(place)
    if path.is_file():
        if not place.endswith(ENDINGS):
            raise UserError(f"{place}: documents are read from files that end in {_endings()}")
        return [path]
    if path.is_dir():
        found = (child for child in path.rglob("*") if not _is_hidden(child.relative_to(path)))
    elif glob.has_magic(place):
        found = (Path(name) for name in glob.iglob(place, recursive=True))
    else:
        raise UserError(mistakes.missing("file, folder or glob of documents", path))
    wanted = sorted(child for child in found if child.is_file() and child.name.endswith(ENDINGS))
    if not wanted:
        raise UserError(f"{place}: holds no file that ends in {_endings()}")
    return wanted


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _endings() -> str:
    return " ".join(ENDINGS)
