"""Text to ids: a table and tiktoken for speed, `tokenizers` as the reference.

Batches of simple text are cut in bulk and looked up (`table.py`); the rest goes through tiktoken.
Both libraries merge the same pairs in the same order, provided that the merge of rank r makes the
regular token 256 + r, as in every file that a BPE trainer wrote. That is checked once, and the ids
of a probe text are compared; a vocabulary that fails either check is encoded by `tokenizers` alone.

`tokenizers` normalises inside (NFC), tiktoken does not. Text that Python calls normal is taken as
it is; the rest goes through the NFC of `tokenizers`, whose Unicode tables are older than Python's:
what is normal by the newer tables is normal by the older.
"""

import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tiktoken
from tokenizers import models, normalizers

from baiwen.errors import UserError
from baiwen.tokenizer.cut import stretches
from baiwen.tokenizer.table import Table
from baiwen.tokenizer.vocabulary import PATTERN, Vocabulary, backend

_NFC = normalizers.NFC()
LARGE = 1 << 22  # characters of a text that is not looked up: it would fill memory
_PROBE_TOKENS = 2_000  # of the vocabulary, evenly spread, go into the probe
_PROBES = (
    "The quick brown fox's 12,345 jumps; they'll\tsay \"I'VE\"...\n\n",
    "  def f(x):\r\n\treturn x**2  \n   ",
    "千问，一千个问题。我们从 2024 年 9 月开始；日本語のテキスト、한국어 문장도 있습니다。",
    "Übergrößenträger naïve cafe\u0301 Ελληνικά русский العربية हिन्दी ไทย עברית 각",
    "\u1100\u1161\u11a8 a\u0315\u0323 q\u0307\u0323",
    "👩‍👩‍👧‍👦🏳️‍🌈 ①½Ⅳ １２３ \u00a0\u2003\u3000 \u200b\ufeff x̧̛ ﬁ ſ K",
)


class Encoder:
    """Encodes text; no character sequence ever becomes a control token."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._exact = backend(models.BPE(vocab=vocabulary.ids, merges=[*vocabulary.merges]))
        ranks = {spelling: rank for rank, spelling in enumerate(vocabulary.spellings)}
        self._fast = _tiktoken(ranks) if _merges_make_ids(vocabulary) else None
        probe = _probe(vocabulary)
        exact = [self._reference(text) for text in probe]
        if self._fast and not _equal(exact, [self._ids(text) for text in probe]):
            self._fast = None
        self._table = Table(ranks, self._ids) if self._fast else None
        if self._table and not _equal(exact, self._looked_up(probe, self._table)):
            self._table = None

    @property
    def fast(self) -> bool:
        """Is tiktoken in use?"""
        return self._fast is not None

    def encode(self, text: str) -> np.ndarray:
        """The ids of `text`, uint32 [T]; `UserError` for half a surrogate pair."""
        try:
            return self._ids(text)
        except UnicodeEncodeError as error:
            raise UserError(
                f"the text holds a lone surrogate (half a character) at {error.start}: "
                "decode its source as UTF-8, or replace it"
            ) from error

    def encode_many(self, texts: Sequence[str], threads: int) -> list[np.ndarray]:
        """`encode` of each text, by `threads` threads (both libraries release the GIL)."""
        if threads == 1 and self._table:
            return self._looked_up(texts, self._table)
        if threads == 1 or len(texts) < 2:
            return [self.encode(text) for text in texts]
        size = -(-len(texts) // (threads * 8))  # eight turns a thread even out long and short texts
        parts = [texts[start : start + size] for start in range(0, len(texts), size)]
        with ThreadPoolExecutor(threads) as pool:
            encoded = pool.map(lambda part: [self.encode(text) for text in part], parts)
            return [ids for part in encoded for ids in part]

    def _looked_up(self, texts: Sequence[str], table: Table) -> list[np.ndarray]:
        """`encode` of each text, its simple stretches through the table."""
        parts = [
            [(simple and len(part) < LARGE, part) for simple, part in stretches(text)]
            for text in texts
        ]
        ready = iter(table.encode([part for text in parts for simple, part in text if simple]))
        found = []
        for text, own in zip(texts, parts, strict=True):
            try:
                ids = [next(ready) if simple else self._ids(part) for simple, part in own]
            except UnicodeEncodeError:
                ids = [self.encode(text)]  # tells where
            found.append(ids[0] if len(ids) == 1 else np.concatenate(ids))
        return found

    def _ids(self, text: str) -> np.ndarray:
        if self._fast is None:
            return self._reference(text)
        if not (text.isascii() or unicodedata.is_normalized("NFC", text)):
            text = _NFC.normalize_str(text)
        try:
            return self._fast.encode_to_numpy(text, disallowed_special=())
        except UnicodeEncodeError:
            raise
        except ValueError:  # its regex engine cannot back up over about a million blanks
            return self._reference(text)

    def _reference(self, text: str) -> np.ndarray:
        text.encode()  # `tokenizers` calls a lone surrogate a TypeError
        return np.array(self._exact.encode(text).ids, dtype=np.uint32)


def _equal(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    return all(map(np.array_equal, one, other))


def _merges_make_ids(vocabulary: Vocabulary) -> bool:
    """Does the merge of rank r make the token 256 + r, for every r?"""
    merged = (left + right for left, right in vocabulary.merges)
    return (
        len(vocabulary.tokens) == 256 + len(vocabulary.merges)
        and all(len(token) == 1 for token in vocabulary.tokens[:256])
        and all(map(str.__eq__, merged, vocabulary.tokens[256:]))
    )


def _tiktoken(ranks: dict[bytes, int]) -> tiktoken.Encoding:
    return tiktoken.Encoding("baiwen", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})


def _probe(vocabulary: Vocabulary) -> list[str]:
    step = -(-len(vocabulary.tokens) // _PROBE_TOKENS)
    words = [spelling.decode(errors="replace") for spelling in vocabulary.spellings[::step]]
    return [*_PROBES, "".join(words), " ".join(words)]
