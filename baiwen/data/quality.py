"""Decisions by scores: documents below a bound go, be it a value or that of the best share.

    steps = ["classify", "quality"]

    [[quality]]                                 # by value
    score = "classify.harmfulness"
    most = 3.5

    [[quality]]                                 # the best 40 % of the bytes of each language
    score = {"classify.educational_value" = 1.0, "classify.noise" = -0.5}
    keep = 0.4
    by = "bytes"
    within = ["language"]

Rules are taken in order, each sees what the ones before have left. Scores were found by an earlier
step, so that other bounds cost nothing (report, section 3.1: thresholds are not known).
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Annotated, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from baiwen.config import Knobs
from baiwen.data.pipeline.step import VERDICT, Global, Map, Parts

NAME = "quality"
Column = Annotated[str, Field(pattern=r"^\w+\.\w+$")]  # of an earlier step


class Quality(Knobs):
    """A rule on a score."""

    score: Column | Annotated[dict[Column, float], Field(min_length=1)]  # one, or weights
    least: float | None = None  # that stays; FineWeb-Edu: 3 of 5; report: unknown
    most: float | None = None  # that stays
    keep: Annotated[float, Field(gt=0, lt=1)] | None = None  # share that stays, the best first
    by: Literal["documents", "bytes"] | Column = "documents"  # what the share is of
    within: tuple[Literal["domain", "language"], ...] = ()  # a share of each, not of all together

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.least is None and self.most is None and self.keep is None:
            raise ValueError("needs least, most or keep")
        return self

    @property
    def weights(self) -> Mapping[str, float]:
        """What each column counts for."""
        return {self.score: 1.0} if isinstance(self.score, str) else self.score

    @property
    def told(self) -> str:
        """The score, in words."""
        if isinstance(self.score, str):
            return self.score
        return " ".join(f"{weight:+g} {name}" for name, weight in self.score.items())

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that it needs."""
        sizes = () if self.keep is None or self.by == "documents" else (self.by,)
        return (*self.weights, *sizes, *(self.within if self.keep else ()))


def steps(rules: Sequence[Quality]) -> tuple[Map | Global]:
    """The step: all documents have to meet only where a rule keeps a share."""
    reads = tuple(dict.fromkeys(name for rule in rules for name in rule.reads))
    if any(rule.keep is not None for rule in rules):
        return (Global(NAME, partial(best, rules=tuple(rules), reads=reads), reads),)
    return (Map(NAME, partial(bounded, rules=tuple(rules)), reads),)


def best(parts: Parts, rules: Sequence[Quality], reads: Sequence[str]) -> Iterator[pa.Table]:
    """The verdicts of all documents together; held in memory are the columns `reads` alone."""
    tables = [parts.table(part, reads).select(reads) for part in range(len(parts))]
    ends = list(accumulate(map(len, tables), initial=0))
    verdicts = bounded(pa.concat_tables(tables), rules) if tables else VERDICT.empty_table()
    for start, end in pairwise(ends):
        yield verdicts.slice(start, end - start)


def bounded(table: pa.Table, rules: Sequence[Quality]) -> pa.Table:
    """The verdict of the first rule that a document of the table does not keep to."""
    names = np.full(len(table), None, object)
    values, bounds = np.full(len(table), np.nan), np.full(len(table), np.nan)
    left = np.ones(len(table), bool)
    for rule in rules:
        scores = _scores(table, rule)
        for why, gone, bound in _gone(table, rule, scores, left):
            names[gone] = f"{rule.told}: {why}"
            values[gone] = scores[gone]
            bounds[gone] = bound[gone]
            left &= ~gone
    columns = [pa.array(names, pa.string())]
    columns += [pa.array(found, mask=np.isnan(found)) for found in (values, bounds)]
    return pa.table(columns, schema=VERDICT)


def _scores(table: pa.Table, rule: Quality) -> np.ndarray:
    """float64 [documents]; NaN where a step has found nothing."""
    weighed = [weight * _numbers(table[name]) for name, weight in rule.weights.items()]
    return np.sum(weighed, axis=0)


def _gone(
    table: pa.Table, rule: Quality, scores: np.ndarray, left: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Why some of the documents that are `left` go, which they are, and each one's bound."""
    yield "no score", left & np.isnan(scores), np.full(len(scores), np.nan)
    there = left & ~np.isnan(scores)
    if rule.least is not None:
        yield "too low", there & (scores < rule.least), np.full(len(scores), rule.least)
        there &= scores >= rule.least
    if rule.most is not None:
        yield "too high", there & (scores > rule.most), np.full(len(scores), rule.most)
        there &= scores <= rule.most
    if rule.keep is not None:
        bounds = _quantiles(table, rule, scores, there)
        yield f"not of the best {rule.keep:g}", there & (scores < bounds), bounds


def _quantiles(table: pa.Table, rule: Quality, scores: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The least score that stays in each document's group; equal scores stay or go together."""
    sizes = _numbers(table[rule.by]) if rule.by != "documents" else np.ones(len(scores))
    groups = _groups(table, rule.within)
    bounds = np.full(groups.max(initial=0) + 1, -np.inf)
    order = np.flatnonzero(there)
    order = order[np.lexsort((-scores[order], groups[order]))]  # each group's, the best first
    for members in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        if len(members):
            total = np.cumsum(sizes[members])
            last = min(int(np.searchsorted(total, rule.keep * total[-1])), len(members) - 1)
            bounds[groups[members[0]]] = scores[members[last]]
    return bounds[groups]


def _groups(table: pa.Table, within: Sequence[str]) -> np.ndarray:
    """A number for each document, the same for those of one group: int64 [documents]."""
    groups = np.zeros(len(table), np.int64)
    for name in within:
        codes = pc.fill_null(table[name], "").combine_chunks().dictionary_encode().indices
        found = codes.to_numpy(zero_copy_only=False)
        groups = groups * (found.max(initial=0) + 1) + found
    return groups


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """float64, NaN for null."""
    return column.cast(pa.float64()).to_numpy()
