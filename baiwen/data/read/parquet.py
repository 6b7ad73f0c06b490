"""Parquet: a row is a document; cut by row groups, read a few rows at a time.

Of its columns only those are read that a document has. Pages are compared with their checksums
where the writer kept any. A file whose footer cannot be read is one flaw; in a damaged row group
the rows before the damage come, then one flaw.
"""

import importlib
from collections.abc import Iterator
from typing import IO, Any

from baiwen.data.document import Document, flawed
from baiwen.data.read.places import Place, opened, size
from baiwen.data.read.row import COLUMNS, row_document
from baiwen.data.read.span import SNIPPET, Cut, Piece, Reading, Span, too_long
from baiwen.errors import UserError

ENDINGS = (".parquet",)
Row = dict[str, Any] | UnicodeDecodeError  # the error in place of a row that is not UTF-8
BATCH = 64  # rows in memory at a time: half a megabyte of usual text


def cut(place: Place, reading: Reading) -> Iterator[Cut]:
    """A span for each row group."""
    if size(place) is None:
        raise UserError(
            f"{place}: Parquet is read from its end, and this server gives files from their "
            "beginning alone. Fetch it first"
        )
    with opened(place) as file:
        try:
            about = _open(file).metadata
            names = about.schema.to_arrow_schema().names
        except _damage() as error:
            yield _flaw(place, f"no whole Parquet file: {_told(error)}"), 0
            return
    if "text" not in names:
        yield _flaw(place, f"no column `text` (its columns: {', '.join(names)})"), 0
        return
    row = 0
    for number in range(about.num_row_groups):
        group = about.row_group(number)
        last = row + group.num_rows
        yield Span(place, number, last, row), group.total_byte_size
        row = last


def read(span: Span, meta: dict[str, Any], reading: Reading) -> Iterator[Document]:
    """A document for each row."""
    about = {"source": str(span.place), **meta}
    for piece in span.pieces:
        yield flawed(str(span.place), "", str(piece.flaw), about)
    if span.pieces:
        return
    number, told = span.row, "a page ends too early"
    with opened(span.place) as file:
        try:
            for number, row in enumerate(_rows(file, span.start), start=span.row + 1):
                yield _document(row, f"{span.place}#{number}", about, reading.document_bytes)
        except _damage() as error:
            told = _told(error)
    if number != span.end:  # a damaged page may also end without a word
        flaw = f"damaged from here to the end of row group {span.start}: {told}"
        yield flawed(f"{span.place}#{number + 1}", "", flaw, about)


def _document(row: Row, place: str, meta: dict[str, Any], most: int) -> Document:
    if isinstance(row, UnicodeDecodeError):
        text = row.object.decode(errors="replace")
        return flawed(place, text, f"not UTF-8 at byte {row.start:,} of a column", meta)
    found = row_document(row, place, meta)
    if found.size > most:
        return flawed(place, found.text[:SNIPPET], too_long(found.size, most), meta)
    return found


def _rows(file: IO[bytes], group: int) -> Iterator[Row]:
    table = _open(file)
    columns = [name for name in ("text", *COLUMNS) if name in table.schema_arrow.names]
    options = {"row_groups": [group], "columns": columns, "use_threads": False}
    for batch in table.iter_batches(BATCH, **options):
        try:
            yield from batch.to_pylist()
        except UnicodeDecodeError:  # Arrow itself checks no strings
            yield from (_row(batch, number) for number in range(batch.num_rows))


def _row(batch: Any, number: int) -> Row:  # noqa: ANN401 - pyarrow has no types
    try:
        return batch.slice(number, 1).to_pylist()[0]
    except UnicodeDecodeError as error:
        return error


def _open(file: IO[bytes]) -> Any:  # noqa: ANN401 - pyarrow has no types
    parquet = importlib.import_module("pyarrow.parquet")
    return parquet.ParquetFile(file, page_checksum_verification=True)


def _damage() -> tuple[type[Exception], ...]:
    """What Arrow raises on bytes that are no Parquet."""
    return (importlib.import_module("pyarrow").ArrowException, OSError)


def _told(error: Exception) -> str:
    """The message of what Arrow raised; what the system did is raised again: it has a number."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    return str(error).strip().splitlines()[0]


def _flaw(place: Place, reason: str) -> Span:
    return Span(place, pieces=[Piece(0, b"", reason)])
