"""What the tests of reading share: files of every format, made by hand or by other libraries."""

import gzip
import io
import itertools
import json

import fsspec
import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard

from baiwen.data.read import Reading, chunks, find


@pytest.fixture(scope="session")
def read():
    """All documents of places, chunk by chunk."""

    def documents(*places, meta=None, **knobs):
        found = chunks(find(places), meta, Reading(**knobs))
        return [document for chunk in found for document in chunk.documents()]

    return documents


@pytest.fixture(scope="session")
def stored():
    """Put bytes where a URL finds them, in this process's memory."""
    system, names = fsspec.filesystem("memory"), itertools.count()

    def put(data, ending):
        path = f"/tests/{next(names)}{ending}"
        system.pipe(path, bytes(data))
        return f"memory:/{path}"

    return put


def jsonl(texts):
    return "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()


def parquet(texts, rows_a_group=4):
    file = io.BytesIO()
    table = pa.table({"text": texts})
    pyarrow.parquet.write_table(
        table, file, row_group_size=rows_a_group, write_page_checksum=True, compression="zstd"
    )
    return file.getvalue()


def record(body, kind="text/html; charset=utf-8", status="200 OK", url="https://a.example/"):
    """A response as a record of a WARC file."""
    http = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n\r\n".encode() + body
    header = (
        "WARC/1.0\r\nWARC-Type: response\r\n"
        f"WARC-Target-URI: {url}\r\nWARC-Date: 2024-09-19T00:00:00Z\r\n"
        f"Content-Type: application/http;msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return header.encode() + http + b"\r\n\r\n"


def pages(texts):
    return [record(text.encode(), "text/plain; charset=utf-8") for text in texts]


def pdf(*texts):
    """A PDF of one line a page (ISO 32000-1, 7.5)."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    objects += [b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    leaves = []
    for text in texts:
        drawn = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % len(objects)
        )
        leaves.append(b"%d 0 R" % len(objects))
    kids = b" ".join(leaves)
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(leaves), kids)
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, start=1):
        offsets.append(b"%010d 00000 n \n" % len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    count, start = len(objects) + 1, len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n%s" % (count, b"".join(offsets))
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (count, start)
    return bytes(out)


FILES = {
    ".jsonl": jsonl,
    ".jsonl.gz": lambda texts: gzip.compress(jsonl(texts)),
    ".jsonl.zst": lambda texts: b"".join(zstandard.compress(jsonl([text])) for text in texts),
    ".parquet": parquet,
    ".warc": lambda texts: b"".join(pages(texts)),
    ".warc.gz": lambda texts: b"".join(map(gzip.compress, pages(texts))),
    "-whole.warc.gz": lambda texts: gzip.compress(b"".join(pages(texts))),
}


@pytest.fixture(scope="session")
def made():
    """Files of many documents, by ending: functions from texts to bytes."""
    return FILES


@pytest.fixture(scope="session")
def a_record():
    return record


@pytest.fixture(scope="session")
def a_pdf():
    return pdf
