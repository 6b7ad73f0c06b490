"""The mixture step: how many times each document is taken, by its domain and language.

    steps = [..., "domain", "mixture"]
    [balance]
    times = {entertainment = 0.3, science = 2, "*/zh" = 1.5}   # `Balance` in data/rates.py
    epochs = 4

A document is taken floor(rate) times, and once more where a hash of its id, in [0, 1), lies below
what is left of the rate. So its copies hang on its id and its group's rate alone, on no order, part
or worker, and a higher rate only ever adds copies. The rates come from the sizes of all groups.

    mixture([table.select([*READS, COPIES]) for table in ...])        # the table of the card
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from baiwen.data.pipeline.step import VERDICT, Global, Map, Parts, Step
from baiwen.data.rates import Balance, Group, rates
from baiwen.tokenizer.tokenizer import Tokenizer

RULE = "mixture: down-sampled"
UNKNOWN = "und"  # ISO 639-2: the language is undetermined
READS, TOKENS = ("domain", "language", "bytes"), "tokens.count"
COPIES = "mixture.copies"


@dataclass(frozen=True)
class Size:
    """How much there is of something."""

    documents: int
    bytes: int
    tokens: int | None  # None without a tokenizer

    @property
    def amount(self) -> int:
        """Tokens where they are known, else bytes."""
        return self.bytes if self.tokens is None else self.tokens


def steps(knobs: Balance) -> list[Step]:
    """The step; before it, where a tokenizer is given, the tokens of a sample of the documents."""
    decide = partial(balance, knobs=knobs)
    if knobs.tokenizer is None:
        return [Global("mixture", decide, READS)]
    count = partial(tokens, tokenizer=knobs.tokenizer, sample=knobs.sample, seed=knobs.seed)
    return [Map("tokens", count), Global("mixture", decide, (*READS, TOKENS))]


def tokens(table: pa.Table, tokenizer: Path, sample: float = 1.0, seed: int = 0) -> pa.Table:
    """`count`: tokens of each text whose hash lies below `sample`, else null.

    They are those of a shard, with the one that ends a document.
    """
    chosen = draws(table["id"], seed + 1) < sample
    texts = table["text"].filter(pa.array(chosen)).to_pylist()
    counts = np.zeros(len(table), np.int64)
    counts[chosen] = [len(ids) + 1 for ids in _tokenizer(tokenizer).encode_many(texts, threads=1)]
    return pa.table({"count": pa.array(counts, mask=~chosen)})


def balance(parts: Parts, knobs: Balance) -> Iterator[pa.Table]:
    """`copies` of each document; one of which none is taken has a verdict: its draw, the rate."""
    columns = READS if knobs.tokenizer is None else (*READS, TOKENS)
    found = census(parts.table(part, columns) for part in range(len(parts)))
    rate = rates({group: size.amount for group, size in found.items()}, knobs)
    for part in range(len(parts)):
        table = parts.table(part, ("domain", "language"))
        own = np.array([rate[group] for group in _groups(table)], np.float64)
        yield taken(own, draws(table["id"], knobs.seed))


def taken(rate: np.ndarray, draw: np.ndarray) -> pa.Table:
    """`copies` and the verdict of documents of these rates and draws, float64 [documents]."""
    copies = (np.floor(rate) + (draw < rate % 1)).astype(np.int32)
    stays = copies > 0
    columns = [
        pa.array([None if kept else RULE for kept in stays.tolist()], pa.string()),
        pa.array(draw, mask=stays),
        pa.array(rate, mask=stays),
        pa.array(copies),
    ]
    return pa.table(columns, schema=VERDICT.append(pa.field("copies", pa.int32())))


def draws(ids: pa.ChunkedArray, seed: int) -> np.ndarray:
    """A number in [0, 1) for each id, a function of it and of the seed alone: float64 [n]."""
    digest, names = xxhash.xxh3_64_intdigest, ids.cast(pa.binary()).to_pylist()
    hashes = np.fromiter((digest(name, seed) for name in names), np.uint64, len(names))
    return (hashes >> np.uint64(11)) * 2.0**-53


def mixture(tables: Iterable[pa.Table]) -> dict[str, Any]:
    """The table of the card, from `READS`, `COPIES` and, where they were counted, `TOKENS`.

    Rows without copies never came as far as the step.
    """
    came = [table.filter(table[COPIES].is_valid()) for table in tables]
    return summary(census(came), census(came, copies=True))


def census(tables: Iterable[pa.Table], copies: bool = False) -> dict[Group, Size]:
    """How much there is of each domain and language, in alphabetical order.

    tables: `READS`, perhaps `TOKENS`; with `copies` each row counts as often as `COPIES` says.
    Counted tokens stand for those of their whole group, by bytes; where none of a group were
    counted, those of all groups do.
    """
    sums: dict[Group, np.ndarray] = {}
    for table in tables:
        for group, row in _sums(table, copies):
            sums[group] = sums.get(group, 0) + row
    _, _, all_seen, all_counted = sum(sums.values(), np.zeros(4, np.int64)).tolist()
    found = {}
    for group in sorted(sums):
        documents, size, seen, counted = sums[group].tolist()
        above, below = (counted, seen) if seen else (all_counted, all_seen)
        found[group] = Size(documents, size, round(size * above / below) if below else None)
    return found


def summary(before: Mapping[Group, Size], after: Mapping[Group, Size]) -> dict[str, Any]:
    """The mixture as plain values, for the card.

        {"before": {"documents", "bytes", "tokens"}, "after": {...}, "groups": [{"domain": "web",
         "language": "zh", "before": {"documents", "bytes", "tokens", "share"}, "after": {...}}]}

    A share is of the tokens where they are known, else of the bytes.
    """
    sides = {"before": before, "after": after}
    totals = {name: _total(side.values()) for name, side in sides.items()}
    groups: list[dict[str, Any]] = []
    for domain, language in before:
        row: dict[str, Any] = {"domain": domain, "language": language}
        for name, side in sides.items():
            size = side.get((domain, language), Size(0, 0, 0))
            row[name] = vars(size) | {"share": size.amount / max(1, totals[name].amount)}
        groups.append(row)
    return {name: vars(total) for name, total in totals.items()} | {"groups": groups}


def _total(sizes: Iterable[Size]) -> Size:
    found = list(sizes)
    tokens = [size.tokens for size in found if size.tokens is not None]
    documents, bytes_ = (
        sum(getattr(size, name) for size in found) for name in ("documents", "bytes")
    )
    return Size(documents, bytes_, sum(tokens) if tokens else None)


def _groups(table: pa.Table) -> list[Group]:
    languages = table["language"].fill_null(UNKNOWN).to_pylist()
    return list(zip(table["domain"].to_pylist(), languages, strict=True))


def _sums(table: pa.Table, copies: bool) -> Iterator[tuple[Group, np.ndarray]]:
    """Of each group: documents, bytes, bytes whose tokens were counted, and these: int64 [4]."""
    times = table[COPIES] if copies else pa.repeat(1, len(table))
    size = table["bytes"]
    counted = table[TOKENS] if TOKENS in table.column_names else pa.nulls(len(table), pa.int64())
    columns = {
        "documents": times,
        "bytes": pc.multiply(times, size),
        "seen": pc.multiply(times, pc.if_else(counted.is_valid(), size, 0)),
        "counted": pc.multiply(times, counted.fill_null(0)),
    }
    keys = {"domain": table["domain"], "language": table["language"].fill_null(UNKNOWN)}
    sums = pa.table(keys | columns).group_by(list(keys)).aggregate([(n, "sum") for n in columns])
    for row in sums.to_pylist():
        values = [row[f"{name}_sum"] for name in columns]
        yield (row["domain"], row["language"]), np.array(values, np.int64)


@cache
def _tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder)
