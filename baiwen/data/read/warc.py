"""WARC (ISO 28500), as crawls are kept: each page that came with status 200 is a document.

HTML becomes its main content, plain text stays; pictures, redirects, requests and the crawler's own
records are passed over. `meta` gains `url` and `date`. Where each record is a gzip member of its
own, processes read stretches of the file; other files are cut into records by one reader.
"""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from baiwen import files
from baiwen.data.document import PROSE, Document, document, flawed
from baiwen.data.read.html import decoded, page
from baiwen.data.read.places import Place, opened, size
from baiwen.data.read.records import by_member, members, records
from baiwen.data.read.span import SNIPPET, Cut, Piece, Reading, Span, carried, ranges, too_long

ENDINGS = (".warc", ".warc.gz")
HTML, PLAIN = ("text/html", "application/xhtml+xml"), "text/plain"


def cut(place: Place, reading: Reading) -> Iterator[Cut]:
    """Stretches of bytes, or records that one reader has unpacked."""
    packing = ".gz" if str(place).lower().endswith(".gz") else ""
    total = size(place) if packing else None
    with opened(place) as file:
        if total is not None:
            if by_member(file):
                yield from ranges(place, total, reading)
                return
            file.seek(0)
        found = records(files.unpacked(file, packing), reading.document_bytes)
        yield from carried(place, found, reading)


def read(span: Span, meta: dict[str, Any], reading: Reading) -> Iterator[Document]:
    """A document for each page."""
    about = {"source": str(span.place), "domain": PROSE, **meta}
    for offset, data, flaw in span.pieces or _within(span, reading.document_bytes):
        place = f"{span.place}@{offset}"
        try:
            archive = ArchiveIterator(BytesIO(data), WarcRecordType.response, auto_decode="all")
            for record in () if flaw else archive:
                found = _page(record, place, about, reading)
                if found:
                    yield found
                if found and found.flaw:  # the archive may stand within the record
                    break
        except OSError as error:
            flaw = f"damaged: {error}"
        if flaw:
            yield flawed(place, _beginning(data), flaw, about)


def _within(span: Span, most: int) -> Iterator[Piece]:
    """The records whose gzip members begin within a stretch of a file."""
    assert span.end is not None
    with opened(span.place) as file:
        yield from members(file, span.start, span.end, most)


def _page(
    record: WarcRecord, place: str, meta: dict[str, Any], reading: Reading
) -> Document | None:
    """The document of a record, if it is a page."""
    http, kind = record.http_headers, (record.http_content_type or "").lower()
    if http is None or http.status_code != 200 or kind not in (*HTML, PLAIN):
        return None
    url, date = record.headers.get("WARC-Target-URI"), record.record_date
    about = meta | {"url": (url or "").strip("<>"), "date": date.isoformat() if date else ""}
    data = record.reader.read(reading.document_bytes + 1)
    if len(data) > reading.document_bytes:
        return flawed(place, _beginning(data), too_long(None, reading.document_bytes), about)
    if kind in HTML:
        return page(data, place, about, reading, record.http_charset)
    text = decoded(data, record.http_charset)
    if text is None:
        return flawed(place, _beginning(data), "text in no charset known", about)
    return document(text, {"place": place, **about})


def _beginning(data: bytes) -> str:
    return data[:SNIPPET].decode(errors="replace")
