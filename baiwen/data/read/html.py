"""HTML: the main content of a page as text, by resiliparse.

The bytes are read as the page's own charset, told by a byte order mark, by HTTP, by its `meta` or
else guessed (uchardet), in this order, the first that fits them; browsers show a page in which a
few bytes are broken and so do we, with U+FFFD in their place.
"""

import codecs
from collections.abc import Iterator
from typing import Any

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5
from resiliparse.parse.html import HTMLTree

from baiwen.data.document import PROSE, Document, document, flawed
from baiwen.data.read.places import Place, content
from baiwen.data.read.span import Cut, Reading, Span, whole
from baiwen.data.read.text import long_file

ENDINGS = (".html", ".htm", ".xhtml")
BROKEN = 0.001  # share of its characters that may be broken
DEPTH = 512  # of elements, as in Chromium; extraction takes time by its square
TOO_DEEP = " > ".join("*" * (DEPTH + 1))
# Charsets of the web (WHATWG, Encoding) that hold more than Python's codec of that name.
WIDER = {"gbk": "gb18030", "big5": "big5hkscs", "shift_jis": "cp932", "euc_kr": "cp949"}
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def cut(place: Place, reading: Reading) -> Iterator[Cut]:
    """The file as one span."""
    return whole(place, reading)


def read(span: Span, meta: dict[str, Any], reading: Reading) -> Iterator[Document]:
    """Its document."""
    about = {"source": str(span.place), "domain": PROSE, **meta}
    data = content(span.place, reading.document_bytes)
    if data is None:
        yield long_file(span.place, about, reading.document_bytes)
    else:
        yield page(data, str(span.place), about, reading)


def page(
    data: bytes, place: str, meta: dict[str, Any], reading: Reading, charset: str | None = None
) -> Document:
    """The document of a page, flawed where its bytes are no text; charset: as HTTP told it."""
    text = decoded(data, charset)
    if text is None:
        return flawed(place, data.decode(errors="replace"), "text in no charset known", meta)
    if (zero := text.find("\0")) >= 0:
        return flawed(place, text, f"no HTML: a zero byte as character {zero:,}", meta)
    tree = HTMLTree.parse(text)
    if tree.document and tree.document.query_selector(TOO_DEEP):
        return flawed(place, text, f"no HTML: more than {DEPTH} elements within each other", meta)
    found = extract_plain_text(
        tree, preserve_formatting=True, main_content=reading.main_content, alt_texts=False
    )
    return document(found, {"place": place, **meta})


def decoded(data: bytes, charset: str | None = None) -> str | None:
    """The text of a page, by the first charset that fits; None where none does."""
    for name in _charsets(data, charset):
        try:
            text = data.decode(WIDER.get(name, name), errors="replace")
        except LookupError:  # a charset of the web that Python does not have
            continue
        if text.count("\ufffd") <= BROKEN * len(text):
            return text
    return None


def _charsets(data: bytes, charset: str | None) -> Iterator[str]:
    """Which charsets a page may be in, the likeliest first."""
    yield from (name for mark, name in MARKS.items() if data.startswith(mark))
    if charset and (told := map_encoding_to_html5(charset)):
        yield told
    for from_meta in (True, False):
        if found := detect_encoding(data, from_html_meta=from_meta):
            yield found
