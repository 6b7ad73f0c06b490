"""Documents from files: text, source code, HTML, PDF, JSONL, Parquet and WARC.

    paths = find(["notes", "books/*.jsonl.zst", "s3://bucket/crawl/*.warc.gz"])
    for chunk in chunks(paths):                     # a few MB of work for one process
        for document in chunk.documents(): ...

A format is a file here with `ENDINGS`, `cut(place, reading)`, which parts a file into spans without
reading it where that can be, and `read(span, meta, reading)`, which yields the documents of a span.
What cannot be read comes as a document with a flaw, at the place where it lies: `FILE`,
`FILE@BYTE` (of JSONL and WARC; of an archive that has to be unpacked from its beginning, a byte of
what it holds: `zstd -dc FILE | tail -c +BYTE`), or `FILE#ROW` (of Parquet, from 1). The documents,
their ids and their order are the same however many processes read them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from baiwen.data.document import Document
from baiwen.data.read import html, jsonl, parquet, pdf, places, text, warc
from baiwen.data.read.places import Place, local, size, stamp
from baiwen.data.read.span import CHUNK, Reading, Span, grouped
from baiwen.data.read.text import text_file
from baiwen.errors import UserError

__all__ = [
    "CHUNK",
    "ENDINGS",
    "Chunk",
    "Place",
    "Reading",
    "by_size",
    "chunks",
    "documents",
    "find",
    "local",
    "size",
    "stamp",
    "text_file",
    "texts_of",
]

FORMATS = (text, html, pdf, jsonl, parquet, warc)
BY_ENDING = {ending: format for format in FORMATS for ending in format.ENDINGS}
ENDINGS = tuple(BY_ENDING)
TOLD = " ".join(one for one in ENDINGS if one not in text.CODES) + ", or as code does (.py .c ...)"


@dataclass(frozen=True)
class Chunk:
    """A piece of reading for one process."""

    reader: Callable[..., Iterator[Document]]  # a function of a module's top level, or a `partial`
    items: Sequence[Any]  # what it reads
    meta: dict[str, Any]  # what its documents' own meta is laid over
    domain: str | None = None  # to which all its documents belong, whatever their own meta says
    filtered: bool = True  # whether the heuristic filters judge them

    def urls(self) -> list[str]:
        """Those that it is yet to read from."""
        spans = [item for item in self.items if isinstance(item, Span) and not item.pieces]
        return list(dict.fromkeys(str(span.place) for span in spans if isinstance(span.place, str)))

    def documents(self) -> Iterator[Document]:
        """Read it."""
        found = self.reader(self.items, self.meta)
        if self.domain is None:
            return found
        own = {"domain": self.domain}
        return (replace(document, meta=document.meta | own) for document in found)


def find(places_: Iterable[str | Path]) -> list[Place]:
    """The files of every path, folder, glob or URL, sorted within each; a `UserError` for none."""
    return places.find(places_, BY_ENDING, TOLD)


def chunks(
    paths: Iterable[Place], meta: dict[str, Any] | None = None, reading: Reading | None = None
) -> Iterator[Chunk]:
    """The documents of `paths` as chunks, in order; `meta` is for fields that they do not have."""
    reading = reading or Reading()
    spans = (cut for path in paths for cut in _format(path).cut(path, reading))
    for group in grouped(spans, reading.chunk_bytes):
        yield Chunk(partial(read_spans, reading=reading), group, meta or {})


def read_spans(spans: Sequence[Span], meta: dict[str, Any], reading: Reading) -> Iterator[Document]:
    """The documents of spans of files."""
    for span in spans:
        yield from _format(span.place).read(span, meta, reading)


def documents(paths: Iterable[Place]) -> Iterator[Document]:
    """Every document of `paths`; a `UserError` names one that cannot be read."""
    for chunk in chunks(paths):
        for found in chunk.documents():
            if found.flaw:
                raise UserError(f"{found.meta['place']}: {found.flaw}")
            yield found


def texts_of(paths: Iterable[Place]) -> Iterator[str]:
    """The text of every document of `paths`; a `UserError` names one that cannot be read."""
    return (found.text for found in documents(paths))


def by_size(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """Files in groups that one process reads at a time."""
    return grouped(((path, path.stat().st_size) for path in paths), Reading().chunk_bytes)


def _format(place: Place) -> Any:  # noqa: ANN401 - one of the modules above
    found = places.ending(place, BY_ENDING)
    if found is None:
        raise places.unknown(place, TOLD)
    return BY_ENDING[found]
