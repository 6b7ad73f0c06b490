"""The held-out split: which documents are never trained on.

A document is held out if the hash of its family lies in the lowest `share` of all hashes, whatever
else is in the corpus and in whatever order. A limit in bytes lowers that bar: of too many
candidates those with the lowest hashes stay, again in any order, and a family is never parted.

    Global("heldout", partial(held_out, share=0.02, most=4 << 20), READS)
"""

import itertools
from collections.abc import Iterator, Sequence
from operator import itemgetter

import numpy as np
import pyarrow as pa
import xxhash

from baiwen.data.pipeline.step import VERDICT, Parts

READS = ("family", "bytes")
RULE = "held out"


def held_out(parts: Parts, share: float, most: int) -> Iterator[pa.Table]:
    """The verdict on what is held out: where its hash lies in [0, 1), and the bar it is below.

    share: of the documents. most: bytes of their texts.
    """
    bar = _bar(parts, int(share * 2**64), most)
    for part in range(len(parts)):
        hashes = family_hashes(parts.table(part, ("family",))["family"].to_pylist())
        yield _verdicts(hashes, bar)


def family_hashes(families: Sequence[str]) -> np.ndarray:
    """A number for each family that all its documents share: uint64 [documents]."""
    digest = xxhash.xxh3_64_intdigest
    return np.fromiter((digest(name.encode()) for name in families), np.uint64, len(families))


def _bar(parts: Parts, top: int, most: int) -> int:
    """The hash that held-out families lie below, so that they have `most` bytes at most."""
    found: list[tuple[int, int]] = []
    for part in range(len(parts)):
        table = parts.table(part, READS)
        hashes = family_hashes(table["family"].to_pylist())
        chosen = _below(hashes, top)
        sizes = table["bytes"].to_numpy()[chosen]
        found += zip(hashes[chosen].tolist(), sizes.tolist(), strict=True)
    total = 0
    for family, documents in itertools.groupby(sorted(found), key=itemgetter(0)):
        total += sum(size for _, size in documents)
        if total > most:
            return family
    return top


def _below(hashes: np.ndarray, bar: int) -> np.ndarray:
    return hashes < np.uint64(bar) if bar < 2**64 else np.ones(len(hashes), bool)


def _verdicts(hashes: np.ndarray, bar: int) -> pa.Table:
    held = _below(hashes, bar)
    rules = pa.array([RULE if one else None for one in held.tolist()], pa.string())
    places = pa.array(hashes / 2.0**64, mask=~held)
    bars = pa.array(np.full(len(hashes), bar / 2**64), mask=~held)
    return pa.table([rules, places, bars], schema=VERDICT)
