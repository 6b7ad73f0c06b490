"""Held-out documents as rows to measure a loss on: always the same ones.

rows(Path("runs/tiny/data/heldout.jsonl.zst"), tokenizer, split, tokens=65_536)   # list[Batch]
"""

import tempfile
from pathlib import Path

from baiwen.data import read, shards
from baiwen.data.loader import Batch, Split, sample
from baiwen.data.pack import best_fit
from baiwen.data.pool import Pool, cut
from baiwen.tokenizer.tokenizer import Tokenizer


def rows(path: Path, tokenizer: Tokenizer, split: Split, tokens: int) -> list[Batch]:
    """This rank's share of about `tokens` of the documents at `path`; each rank tokenizes them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = read.texts_of(read.find([path]))
        shards.write_index(folder, [shards.write_shard(folder, 0, texts, tokenizer)], tokenizer)
        source = shards.Shards.open(folder)
        pieces = cut(source.ends, split.sequence_length)
        pool = Pool("heldout", source, pieces, best_fit(pieces.length, split.sequence_length))
        return sample(pool, split, tokens)
