"""The sieve: what a reward model thinks of drafts, near duplicates, contamination.

    drafts = rewarded(drafts, score, Reward(model=folder, least=0.0))
    drafts = distinct(drafts, Near())
    drafts = uncontaminated(drafts, knobs, tests)

The report filters its synthetic data by a reward model (section 3.1). Of several samples of one
request the best stays; all have to reach `least`, where it is given. A draft goes that is nearly
another one, nearly a seed, or mostly in its seed word for word.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from baiwen.config import Input, Knobs
from baiwen.data.contamination.decontaminate import Decontaminate, find, opened
from baiwen.data.dedup.minhash import NONE, Shape, jaccard, shingle_sets, signatures
from baiwen.data.generate.drafts import Draft, apply
from baiwen.endpoint import Messages

REWARD, NEAR, CONTAMINATED = "reward", "near", "decontaminate"  # the steps

# A reward for each conversation; None where it is too long to have one.
Score = Callable[[Sequence[Messages]], Sequence[float | None]]
Share = Annotated[float, Field(gt=0, le=1)]


class Reward(Knobs):
    """What a reward model has to think of a document."""

    model: Input  # HF folder of a reward model; report: two of its own, which are not published
    least: float | None = None  # that a document has; none: any; not reported
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # of its weights and matmuls
    best: bool = True  # of the samples of a request only the best stays; not reported


class Near(Knobs):
    """When a document is too much like another."""

    similarity: Share = 0.8  # Jaccard similarity of words in a row; FineWeb: 0.75
    copied: Share = 0.6  # share of them that stand in its seed; not reported
    words: Annotated[int, Field(gt=0)] = 5  # in a row; FineWeb: 5


def rewarded(drafts: Iterable[Draft], score: Score, knobs: Reward) -> Iterator[Draft]:
    """Refused are drafts of a lower reward than `least`, or than another sample's."""

    def step(batch: Sequence[Draft]) -> list[Draft]:
        talks = [[*one.messages, {"role": "assistant", "content": _said(one)}] for one in batch]
        rewards = score(talks)
        scored = zip(batch, rewards, strict=True)
        groups = itertools.groupby(scored, key=lambda pair: pair[0].source)
        return [draft for _, group in groups for draft in _ranked(list(group), knobs)]

    return apply(drafts, step)


def distinct(drafts: Iterable[Draft], knobs: Near) -> Iterator[Draft]:
    """Refused are drafts that are nearly one that came before, a seed, or a part of their seed."""
    seen = Seen(knobs)

    def step(batch: Sequence[Draft]) -> list[Draft]:
        for draft in batch:
            if draft.seed.document:
                seen.seed(draft.seed.id, draft.seed.document)
        texts = pa.chunked_array([pa.array([one.text for one in batch], pa.large_string())])
        keys = seen.keys(texts)
        sets = shingle_sets(texts, seen.shape)
        return [seen.met(*one) for one in zip(batch, keys, sets, strict=True)]

    return apply(drafts, step)


def uncontaminated(drafts: Iterable[Draft], knobs: Decontaminate, tests: str) -> Iterator[Draft]:
    """Refused are drafts that hold a test; tests: the fingerprint of `knobs.against`."""
    index = opened(knobs, tests)

    def step(batch: Sequence[Draft]) -> list[Draft]:
        texts = pa.array([draft.text for draft in batch], pa.large_string())
        return [
            draft.refused(CONTAMINATED, match.rule, match.value, match.bound) if match else draft
            for draft, match in zip(batch, find(texts, index, knobs), strict=True)
        ]

    return apply(drafts, step)


class Seen:
    """The documents so far and the seeds they are of, by the bands of their signatures."""

    def __init__(self, knobs: Near) -> None:
        self.knobs, self.shape = knobs, Shape(words=knobs.words)
        self._sets: list[np.ndarray] = []  # the shingles of each
        self._bands: defaultdict[int, list[int]] = defaultdict(list)  # places in `_sets`
        self._seeds: dict[str, int] = {}

    def keys(self, texts: pa.ChunkedArray) -> list[list[int]]:
        """The keys of the bands of each text."""
        return signatures(pa.table({"text": texts}), self.shape)["keys"].to_pylist()

    def seed(self, name: str, text: str) -> None:
        """Remember a seed, once."""
        if name not in self._seeds:
            texts = pa.chunked_array([pa.array([text], pa.large_string())])
            [keys], [shingles] = self.keys(texts), shingle_sets(texts, self.shape)
            self._seeds[name] = self._add(keys, shingles)

    def met(self, draft: Draft, keys: Sequence[int], shingles: np.ndarray) -> Draft:
        """The draft, refused or remembered."""
        knobs = self.knobs
        if draft.seed.id in self._seeds:
            seed = self._sets[self._seeds[draft.seed.id]]
            copied = len(np.intersect1d(shingles, seed, assume_unique=True)) / max(len(shingles), 1)
            if copied > knobs.copied:
                return draft.refused(NEAR, "copies its seed", copied, knobs.copied)
        places = {place for key in keys if key != NONE for place in self._bands[key]}
        likeness = max((jaccard(shingles, self._sets[place]) for place in places), default=0.0)
        if likeness >= knobs.similarity:
            return draft.refused(NEAR, "near duplicate", likeness, knobs.similarity)
        self._add(keys, shingles)
        return draft

    def _add(self, keys: Sequence[int], shingles: np.ndarray) -> int:
        for key in keys:
            if key != NONE:
                self._bands[key].append(len(self._sets))
        self._sets.append(shingles)
        return len(self._sets) - 1


def _said(draft: Draft) -> str:
    return draft.reply.text if draft.reply else ""


def _ranked(group: Sequence[tuple[Draft, float | None]], knobs: Reward) -> Iterator[Draft]:
    """The samples of a request, scored, and refused by their reward or for a better one."""
    rewards = [-math.inf if reward is None else reward for _, reward in group]
    best = rewards.index(max(rewards))
    for place, (draft, reward) in enumerate(group):
        if reward is None:
            yield draft.refused(REWARD, "too long to be scored")
            continue
        scored = draft.scored(f"{REWARD}.score", reward)
        if knobs.least is not None and reward < knobs.least:
            yield scored.refused(REWARD, "too low", reward, knobs.least)
        elif knobs.best and place != best:
            yield scored.refused(REWARD, "another sample is better", reward, rewards[best])
        else:
            yield scored
