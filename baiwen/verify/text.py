"""Words and sentences of English and Chinese, counted as a reader counts them.

    words("It's well-known: 我爱 GPT-4")     -> ["It's", "well", "known", "我", "爱", "GPT", "4"]
    [*sentences("Mr. Li left. 他走了！好。")]  -> ["Mr. Li left.", "他走了！", "好。"]

Words are runs of letters and digits with the apostrophes inside them; each Chinese character is a
word, as a word count of Chinese counts. English sentences are Punkt's.
"""

import re
import unicodedata
from collections.abc import Iterator

from baiwen.verify.punkt import cut

_CHINESE = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(f"[{_CHINESE}]|[^\\W_{_CHINESE}]+(?:['’][^\\W_{_CHINESE}]+)*")
_LETTER = f"[^\\W_{_CHINESE}]"  # of a script that sets its words apart

_ITEM = re.compile(r"\s*(?:[-*+•●]|\(?\d{1,3}[.)、])\s+")
_BLOCKS = re.compile(r"\n\s*\n|\n(?=[^\S\n]*(?:[-*+•●]|\(?\d{1,3}[.)、])\s)")
_CHINESE_END = re.compile(r"(?<=[。！？…])(?![。！？…」』”’）】\"'])|(?<=[。！？…][」』”’）】\"'])")
_QUOTED = tuple("\"'”’)]")


def words(text: str) -> list[str]:
    """The words of `text` in order; "well-known" is two, "don't" is one."""
    return _WORD.findall(unicodedata.normalize("NFC", text))


def phrase(text: str, gap: str = r"\s+") -> re.Pattern[str]:
    """Finds the words of `text` as whole words in any case, with `gap` between them."""
    parts = unicodedata.normalize("NFC", text).split()
    before = f"(?<!{_LETTER})" if re.match(_LETTER, parts[0]) else ""
    after = f"(?!{_LETTER})" if re.search(f"{_LETTER}$", parts[-1]) else ""
    return re.compile(before + gap.join(map(re.escape, parts)) + after, re.IGNORECASE)


def paragraphs(text: str) -> list[str]:
    """The pieces between empty lines that are not empty themselves, stripped."""
    return [piece.strip() for piece in re.split(r"\n\s*\n", text) if piece.strip()]


def sentences(text: str) -> Iterator[str]:
    """The sentences of `text`: Punkt's, ended by `。！？…`, empty lines and list items as well.

    A piece without a letter or a digit, and the number of an item, is no sentence; neither is the
    rest of one that goes on in lower case after a quotation (`"Why?" he asked.`).
    """
    for block in _BLOCKS.split(text):
        item = _ITEM.match(block)
        for part in _CHINESE_END.split(block[item.end() :] if item else block):
            yield from (piece.strip() for piece in _joined(cut(part)) if _WORD.search(piece))


def _joined(pieces: Iterator[str]) -> Iterator[str]:
    held = next(pieces, "")
    for piece in pieces:
        if piece.lstrip()[:1].islower() and held.endswith(_QUOTED):
            held = f"{held} {piece}"
        else:
            yield held
            held = piece
    yield held
