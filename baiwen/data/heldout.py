"""Held-out documents as a few fixed batches, to measure the loss on while training.

    batches = heldout.batches("runs/tiny/data/heldout.jsonl.zst", tokenizer, 512, micro_tokens=4096)

The documents are taken in the order of the file until `most` tokens; the same file gives the same
batches in every step of every run.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from baiwen import files
from baiwen.data.loader import Batch, assemble
from baiwen.data.pack import best_fit
from baiwen.data.pool import Pool, cut
from baiwen.errors import UserError
from baiwen.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Texts:
    """Tokenized documents in memory, each ended by `<|endoftext|>`: a `Stream`."""

    ids: np.ndarray  # int64 [tokens]
    ends: np.ndarray  # int64 [documents]

    def read(self, start: int, stop: int) -> np.ndarray:
        """The ids from `start` to `stop`."""
        return self.ids[start:stop]

    def weights(self, start: int, stop: int) -> float:
        """Every token counts in full."""
        return 1.0


def batches(
    path: Path | str,
    tokenizer: Tokenizer,
    sequence_length: int,
    micro_tokens: int,
    *,
    most: int = 1 << 18,
    rank: int = 0,
    ranks: int = 1,
) -> list[Batch]:
    """This rank's batches of the held-out documents; every rank has as many, of the same sizes.

    most: tokens of text, over all ranks.
    """
    texts = _read(path, tokenizer, most)
    pieces = cut(texts.ends, sequence_length)
    pool = Pool(Path(path).name, texts, pieces, best_fit(pieces.length, sequence_length))
    share = len(pool.rows) // ranks
    if not share:
        raise UserError(
            f"{path}: {len(texts.ids):,} tokens give {len(pool.rows)} rows of {sequence_length:,}, "
            f"fewer than one for each of {ranks} ranks. Hold out more text."
        )
    rows = [(pool, row) for row in range(rank * share, (rank + 1) * share)]
    size = max(micro_tokens // sequence_length, 1)
    return [assemble(rows[i : i + size], sequence_length) for i in range(0, share, size)]


def _read(path: Path | str, tokenizer: Tokenizer, most: int) -> Texts:
    parts: list[np.ndarray] = []
    total = 0
    for row in files.read_jsonl(path):
        ids = np.append(tokenizer.encode_many([row["text"]])[0], tokenizer.end_of_text)
        parts.append(ids.astype(np.int64))
        total += len(ids)
        if total >= most:
            break
    if not parts:
        raise UserError(f"{path}: holds no documents, so there is nothing to measure the loss on")
    return Texts(np.concatenate(parts), np.cumsum([len(part) for part in parts]))
