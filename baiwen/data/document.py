"""A document: an id, a text, and where it comes from.

    {"id": "9b1c...", "text": "...", "meta": {"source": "stdlib", "license": "PSF-2.0",
                                              "domain": "code", "language": "python", ...}}

Texts are in Unicode's NFC (the tokenizer's own form) with `\\n` at the end of lines, so that a text
has one id whatever machine it was written on.

`meta.domain` parts the corpus into the sources of a mixture; `code` has filters of its own.
Documents made from the same original (a source file and its documentation) share `meta.family`, so
that a split never parts them.
"""

import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xxhash

PROSE, CODE = "prose", "code"

# Code points of scripts that write no spaces: Thai, Japanese kana, Chinese characters.
_UNSPACED = ((0x0E00, 0x0E7F), (0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF))


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
        return str(self.meta.get("domain") or PROSE)

    @property
    def family(self) -> str:
        """What it shares with the other documents made from the same original."""
        return str(self.meta.get("family") or self.squeezed)

    @cached_property
    def squeezed(self) -> str:
        """The text with every run of white space as one space: equal for what looks equal."""
        return " ".join(self.words)

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
        """What stands between spaces."""
        return self.text.split()

    @cached_property
    def unspaced(self) -> int:
        """Characters of scripts that write no spaces; each counts as a word."""
        if self.text.isascii():
            return 0
        points = np.frombuffer(self.text.encode("utf-32-le"), dtype="<u4")
        return sum(int(((points >= low) & (points <= high)).sum()) for low, high in _UNSPACED)

    @property
    def spaced(self) -> bool:
        """Whether it is mostly in a script that writes spaces, so that `words` are words."""
        return self.unspaced < len(self.words)

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
