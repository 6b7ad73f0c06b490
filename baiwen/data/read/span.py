"""Spans: what one process reads at a time of a file, and the pieces that lie in it.

Most formats can be cut without reading them: a span is then a stretch of bytes (JSONL, WARC with a
gzip member a record), a row group (Parquet) or the whole file, and the process that gets it opens
the file itself. Where a file has to be unpacked from its beginning, one reader cuts it and the span
carries the `pieces`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, NamedTuple, TypeVar

from pydantic import Field

from baiwen.config import Knobs
from baiwen.data.read.places import Place, size

T = TypeVar("T")
Bytes = Annotated[int, Field(gt=0)]

CHUNK = 4 << 20  # bytes of files that one process reads at a time
SNIPPET = 1000  # bytes that are kept of what is too long to be a document


class Reading(Knobs):
    """How files become documents."""

    document_bytes: Bytes = 64 << 20  # most of one; longer ones are set aside; not reported
    chunk_bytes: Bytes = CHUNK  # of files that a process reads at a time; not reported
    main_content: bool = True  # of HTML: without navigation, footers and the like; not reported


class Piece(NamedTuple):
    """The bytes of one document, and where they begin."""

    offset: int  # in the file; in what is unpacked where it has to be unpacked from its beginning
    data: bytes
    flaw: str | None = None  # why they are no document


class Span(NamedTuple):
    """What is read at a time of a file."""

    place: Place
    start: int = 0  # byte; of Parquet the row group
    end: int | None = None  # byte; of Parquet its last row
    row: int = 0  # of Parquet: rows of the file that come before
    pieces: Sequence[Piece] = ()  # read already


Cut = tuple[Span, int]  # with about how many bytes it is


def whole(place: Place, reading: Reading) -> Iterator[Cut]:
    """A file that is one document."""
    total = size(place)
    yield Span(place), reading.chunk_bytes if total is None else total


def ranges(place: Place, total: int, reading: Reading) -> Iterator[Cut]:
    """A file of so many bytes that can be read from any place on."""
    for start in range(0, total, reading.chunk_bytes):
        end = min(start + reading.chunk_bytes, total)
        yield Span(place, start, end), end - start


def carried(place: Place, pieces: Iterable[Piece], reading: Reading) -> Iterator[Cut]:
    """A file of which one reader has read all these pieces."""
    sized = ((piece, len(piece.data)) for piece in pieces)
    for group in grouped(sized, reading.chunk_bytes):
        yield Span(place, pieces=group), sum(len(piece.data) for piece in group)


def grouped(items: Iterable[tuple[T, int]], most: int) -> Iterator[list[T]]:
    """Items, each given with its size, in groups of about `most`."""
    group: list[T] = []
    total = 0
    for item, item_size in items:
        group.append(item)
        total += item_size
        if total >= most:
            yield group
            group, total = [], 0
    if group:
        yield group


def too_long(length: int | None, most: int) -> str:
    """Why what has so many bytes, if that is known, is no document."""
    found = "longer" if length is None else f"{length:,} bytes, more"
    return f"{found} than document_bytes = {most:,}"
