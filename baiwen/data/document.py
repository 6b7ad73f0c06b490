"""A document: an id, a text, and where it comes from.

    {"id": "9b1c...", "text": "...", "meta": {"source": "stdlib", "license": "PSF-2.0",
                                              "domain": "code", "language": "python", ...}}

Texts are in Unicode's NFC (the tokenizer's own form) with `\\n` at the end of lines, so that a text
has one id whatever machine it was written on.

`meta.domain` parts the corpus into the sources of a mixture; `code` has filters of its own.
Documents made from the same original (a source file and its documentation) share `meta.family`, so
that a split never parts them.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import xxhash

PROSE, CODE = "prose", "code"

# Scripts that write no spaces: each of their characters counts as a word.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\s{_UNSPACED}]+")


@dataclass(frozen=True)
class Document:
    """A text with its id and origin; `flaw` says why it could not be read, where it could not."""

    id: str
    text: str
    meta: dict[str, Any]
    flaw: str | None = None

    @property
    def domain(self) -> str:
        """Which part of the corpus it belongs to."""
        return self.meta.get("domain") or PROSE

    @property
    def family(self) -> str:
        """What it shares with the other documents made from the same original."""
        return self.meta.get("family") or squeezed(self.text)

    @cached_property
    def size(self) -> int:
        """Bytes of the text as UTF-8."""
        return len(self.text.encode())

    @cached_property
    def lines(self) -> list[str]:
        """Its lines that are not blank."""
        return [line for line in self.text.split("\n") if line.strip()]

    @cached_property
    def words(self) -> list[str]:
        """What stands between spaces; a character of an unspaced script is a word."""
        return self.text.split() if self.text.isascii() else _WORD.findall(self.text)

    @cached_property
    def spaced(self) -> bool:
        """Whether its script writes spaces between words."""
        unspaced = 0 if self.text.isascii() else len(re.findall(f"[{_UNSPACED}]", self.text))
        return unspaced < 0.3 * len(self.words)

    def row(self) -> dict[str, Any]:
        """The line of a documents file."""
        return {"id": self.id, "text": self.text, "meta": self.meta}


def document(text: str, meta: dict[str, Any], id: str | None = None) -> Document:
    """A readable document, its text normalised; `id` where its origin gave it one."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    return Document(id or xxhash.xxh3_128_hexdigest(text.encode()), text, meta)


def flawed(place: str, text: str, flaw: str, meta: dict[str, Any]) -> Document:
    """What could be made out of a document that cannot be read, to be set aside."""
    return Document(xxhash.xxh3_128_hexdigest(place.encode()), text, {**meta, "place": place}, flaw)


def squeezed(text: str) -> str:
    """The text with every run of white space as one space: equal for documents that look equal."""
    return " ".join(text.split())
