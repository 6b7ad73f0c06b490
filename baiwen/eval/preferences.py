"""How well a reward model orders answers that it has not learned from.

    judged = Judged(rewards=(1.7, 0.2), ranks=(1, 0), lengths=(12, 30), kind="arithmetic")
    measure([judged, ...])["accuracy"]       # {"value": 0.81, "n": 500, "low": 0.77, ...}

A prompt counts once, whatever the number of its pairs of a better and a worse answer: its accuracy
is the share of pairs in which the better one has the higher reward. The chance of that, as the
model sees it, is sigmoid(|r_i - r_j|) (Bradley and Terry); `calibration` sets it against how often
it was so.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np

from baiwen.eval.statistics import Estimate, Z, proportion

BINS = 10  # of the chance that the model gives to its own choice, from a half to one


@dataclass(frozen=True)
class Judged:
    """The answers to one prompt."""

    rewards: tuple[float, ...]
    ranks: tuple[float, ...]  # what is right: a higher one is better
    lengths: tuple[int, ...]  # tokens
    kind: str = ""
    source: str = ""

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Places of a better and a worse answer."""
        places = range(len(self.ranks))
        return [(i, j) for i, j in product(places, places) if self.ranks[i] > self.ranks[j]]


def measure(judged: Sequence[Judged]) -> dict[str, Any]:
    """Everything about these prompts, plain values for JSON; each has a pair, and there is one.

    accuracy, and `by_kind` and `by_source` the same; `longer`: the accuracy of preferring the
    longer answer, below which a reward model has learned nothing else; margin: mean, deviation and
    quantiles over pairs; score: mean reward of the better and the worse; calibration; and where
    prompts have more than two answers `best`: how often the one of the highest reward is of the
    highest rank, and how often one drawn at random is.
    """
    margins = np.array([one.rewards[i] - one.rewards[j] for one in judged for i, j in one.pairs])
    told = {
        "prompts": len(judged),
        "pairs": len(margins),
        "accuracy": accuracy(judged),
        "by_kind": _by(judged, [one.kind for one in judged]),
        "by_source": _by(judged, [one.source for one in judged]),
        "longer": _mean([_hits(one.lengths, one.pairs) for one in judged]),
        "margin": _spread(margins),
        "score": {
            "better": float(np.mean([one.rewards[i] for one in judged for i, _ in one.pairs])),
            "worse": float(np.mean([one.rewards[j] for one in judged for _, j in one.pairs])),
        },
        "calibration": calibration(margins),
    }
    many = [one for one in judged if len(one.ranks) > 2]
    return told | ({"best": _best(many)} if many else {})


def accuracy(judged: Sequence[Judged]) -> dict[str, float]:
    """The mean over prompts, with its 95 % interval."""
    return _mean([_hits(one.rewards, one.pairs) for one in judged])


def calibration(margins: np.ndarray) -> dict[str, Any]:
    """How sure the model is of its choice, and how often it is right, by bins of the former.

    margins [P]: reward of the better answer less that of the worse. `error` is the mean distance of
    the two over all pairs (expected calibration error).
    """
    sure = 1 / (1 + np.exp(-np.abs(margins)))  # from a half to one
    right = np.where(margins == 0, 0.5, margins > 0)
    place = np.minimum(((2 * sure - 1) * BINS).astype(int), BINS - 1)
    bins = []
    for number in np.unique(place):
        here = place == number
        bins.append(
            {
                "from": (1 + number / BINS) / 2,
                "to": (1 + (number + 1) / BINS) / 2,
                "predicted": float(sure[here].mean()),
                "observed": float(right[here].mean()),
                "n": int(here.sum()),
            }
        )
    error = sum(one["n"] * abs(one["predicted"] - one["observed"]) for one in bins) / len(margins)
    return {"error": float(error), "bins": bins}


def _hits(values: Sequence[float], pairs: Sequence[tuple[int, int]]) -> float:
    """The share of pairs whose better answer has the higher value; a tie is half a hit."""
    gaps = [values[i] - values[j] for i, j in pairs]
    return float(np.mean([0.5 if gap == 0 else gap > 0 for gap in gaps]))


def _mean(values: Sequence[float]) -> dict[str, float]:
    """The mean of numbers from 0 to 1 with its 95 % interval: Wilson's where each is 0 or 1."""
    n, mean = len(values), float(np.mean(values))
    if {*values} <= {0.0, 1.0}:
        return asdict(proportion(round(sum(values)), n))
    error = float(np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    low, high = max(0.0, mean - Z * error), min(1.0, mean + Z * error)
    return asdict(Estimate(mean, n, error, low, high))


def _by(judged: Sequence[Judged], names: Sequence[str]) -> dict[str, dict[str, float]]:
    groups: dict[str, list[Judged]] = defaultdict(list)
    for one, name in zip(judged, names, strict=True):
        groups[name].append(one)
    return {name: accuracy(groups[name]) for name in sorted(groups) if name}


def _spread(margins: np.ndarray) -> dict[str, float]:
    marks = {f"p{mark}": float(np.percentile(margins, mark)) for mark in (5, 25, 50, 75, 95)}
    return {"mean": float(margins.mean()), "deviation": float(margins.std()), **marks}


def _best(judged: Sequence[Judged]) -> dict[str, Any]:
    """Best of n: of the answers with the highest reward, how often is one of the highest rank?"""
    chosen = [one.ranks[int(np.argmax(one.rewards))] == max(one.ranks) for one in judged]
    drawn = [float(np.mean(np.array(one.ranks) == max(one.ranks))) for one in judged]
    return {"chosen": _mean([float(hit) for hit in chosen]), "drawn": _mean(drawn)}
