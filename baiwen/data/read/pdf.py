"""PDF: the text of its pages, by pypdf. What has none, or wants a password, is flawed.

Lines break where the page breaks them, and columns come in the order of the file. Nothing is
recognised in images.
"""

import importlib
import io
import logging
from collections.abc import Iterator
from typing import Any

from baiwen.data.document import PROSE, Document, document, flawed
from baiwen.data.read.places import Place, content
from baiwen.data.read.span import Cut, Reading, Span, too_long, whole
from baiwen.data.read.text import long_file

ENDINGS = (".pdf",)


def cut(place: Place, reading: Reading) -> Iterator[Cut]:
    """The file as one span."""
    return whole(place, reading)


def read(span: Span, meta: dict[str, Any], reading: Reading) -> Iterator[Document]:
    """Its document."""
    about = {"source": str(span.place), "domain": PROSE, **meta}
    data = content(span.place, reading.document_bytes)
    if data is None:
        yield long_file(span.place, about, reading.document_bytes)
        return
    text, flaw = _text(data, reading.document_bytes)
    if flaw:
        yield flawed(str(span.place), text, flaw, about)
    else:
        yield document(text, {"place": str(span.place), **about})


def _text(data: bytes, most: int) -> tuple[str, str | None]:
    """The text of the pages before any flaw, and the flaw."""
    # 0.2 CPU seconds of import, paid only by who reads PDF.
    pypdf = importlib.import_module("pypdf")
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it tells of each of its repairs
    pages: list[str] = []
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            return "", "encrypted: it wants a password"
        for page in reader.pages:
            pages.append(page.extract_text())
            if sum(map(len, pages)) > most:
                return pages[0], too_long(None, most)
    except Exception as error:  # on a damaged file pypdf raises whatever Python can
        told = f"page {len(pages) + 1}: {type(error).__name__}: {error}"
        return "\n\n".join(pages), f"no whole PDF: {told}"
    text = "\n\n".join(pages)
    if not text.strip():
        return "", f"no text in its {len(pages)} pages: images of pages?"
    # What it makes of a broken font may hold half a surrogate pair, which is no text.
    return text.encode(errors="replace").decode(), None
