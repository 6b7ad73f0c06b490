"""JSONL, plain or compressed: a line is a document.

A plain file is cut into stretches of bytes; a line belongs to the stretch in which it begins, and
whoever reads that goes on to the line's end. A compressed one is unpacked by one reader. No line
takes more memory than `document_bytes`: of a longer one only the beginning is kept.
"""

from collections.abc import Iterator
from itertools import takewhile
from typing import IO, Any

from baiwen import files
from baiwen.data.document import Document, flawed
from baiwen.data.read.places import BUFFER, Place, opened, size
from baiwen.data.read.row import row_document
from baiwen.data.read.span import SNIPPET, Cut, Piece, Reading, Span, carried, ranges, too_long
from baiwen.errors import UserError

ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst")


def cut(place: Place, reading: Reading) -> Iterator[Cut]:
    """Stretches of bytes, or lines that one reader has unpacked."""
    packing = next((end for end in (".gz", ".zst") if str(place).lower().endswith(end)), "")
    total = None if packing else size(place)
    if total is not None:
        yield from ranges(place, total, reading)
        return
    with opened(place) as file:
        found = lines(files.unpacked(file, packing), reading.document_bytes)
        yield from carried(place, found, reading)


def read(span: Span, meta: dict[str, Any], reading: Reading) -> Iterator[Document]:
    """A document for each line that is not blank."""
    about = {"source": str(span.place), **meta}
    for offset, line, flaw in span.pieces or _lines_within(span, reading.document_bytes):
        place = f"{span.place}@{offset}"
        try:
            if flaw is None:
                yield row_document(files.parse_row(line, place), place, about)
                continue
        except UserError:
            flaw = _flaw(line)
        yield flawed(place, line.decode(errors="replace"), flaw, about)


def lines(stream: IO[bytes], most: int, offset: int = 0) -> Iterator[Piece]:
    """Each line that is not blank, given the offset of the first.

    Of one with more than `most` bytes the beginning comes, with a flaw; where the stream is cut or
    damaged the last piece is the flaw.
    """
    try:
        while line := stream.readline(most + 1):
            flaw, begin = None, offset
            offset += len(line)
            if len(line) > most and not line.endswith(b"\n"):
                offset += _skip_line(stream)
                line, flaw = line[:SNIPPET], too_long(offset - begin, most)
            if not begin:
                line = line.removeprefix(files.BOM)
            if line.strip():
                yield Piece(begin, line.removesuffix(b"\n"), flaw)
    except files.DAMAGE as error:
        yield Piece(offset, b"", f"cut or damaged from here on: {error}")


def _lines_within(span: Span, most: int) -> Iterator[Piece]:
    """The lines that begin within a stretch of a plain file."""
    end = span.end
    assert end is not None
    with opened(span.place) as file:
        start = _first_line(file, span.start, end)
        if start is not None:
            yield from takewhile(lambda line: line.offset < end, lines(file, most, start))


def _first_line(file: IO[bytes], start: int, end: int) -> int | None:
    """Go to where the first line within a stretch begins; None if none does."""
    if start:
        start -= 1
        file.seek(start)
        while start < end and (rest := file.readline(min(BUFFER, end - start))):
            start += len(rest)
            if rest.endswith(b"\n"):
                break
        else:
            return None
    return start if start < end else None


def _skip_line(stream: IO[bytes]) -> int:
    """Pass over the rest of a line; how many bytes it had."""
    skipped = 0
    while rest := stream.readline(BUFFER):
        skipped += len(rest)
        if rest.endswith(b"\n"):
            break
    return skipped


def _flaw(line: bytes) -> str:
    """Why a line is not a row."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start:,} of the line"
    return "not a JSON object"
