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
        yield Span(place, number, row=row), group.total_byte_size
        row += group.num_rows


def read(span: Span, meta: dict[str, Any], reading: Reading) -> Iterator[Document]:
    """A document for each row."""
    about = {"source": str(span.place), **meta}
    for piece in span.pieces:
        yield flawed(str(span.place), "", str(piece.flaw), about)
    if span.pieces:
        return
    number = span.row
    with opened(span.place) as file:
        try:
            for number, row in enumerate(_rows(file, span.start), start=span.row + 1):
                yield _document(row, f"{span.place}#{number}", about, reading.document_bytes)
        except _damage() as error:
            flaw = f"damaged from here to the end of row group {span.start}: {_told(error)}"
            yield flawed(f"{span.place}#{number + 1}", "", flaw, about)


def _document(row: dict[str, Any], place: str, meta: dict[str, Any], most: int) -> Document:
    data = row.get("text")
    if not isinstance(data, bytes):
        return row_document(row, place, meta)
    if len(data) > most:
        beginning = data[:SNIPPET].decode(errors="replace")
        return flawed(place, beginning, too_long(len(data), most), meta)
    try:
        return row_document(row | {"text": data.decode()}, place, meta)
    except UnicodeDecodeError as error:
        flaw = f"not UTF-8 at byte {error.start:,} of its text"
        return flawed(place, data.decode(errors="replace"), flaw, meta)


def _rows(file: IO[bytes], group: int) -> Iterator[dict[str, Any]]:
    """The rows of a row group, their `text` as bytes: Arrow checks no UTF-8."""
    arrow = importlib.import_module("pyarrow")
    table = _open(file)
    columns = [name for name in ("text", *COLUMNS) if name in table.schema_arrow.names]
    options = {"row_groups": [group], "columns": columns, "use_threads": False}
    for batch in table.iter_batches(BATCH, **options):
        at = batch.schema.get_field_index("text")
        if arrow.types.is_string(batch.schema.field(at).type):
            batch = batch.set_column(at, "text", batch.column(at).cast(arrow.binary()))
        elif arrow.types.is_large_string(batch.schema.field(at).type):
            batch = batch.set_column(at, "text", batch.column(at).cast(arrow.large_binary()))
        yield from batch.to_pylist()


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
