"""How far a classifier agrees with its judge, on texts that it has not seen.

    told = agreement(made.scores(texts), levels, domains, rubric)
    told["dimensions"]["clarity"]["spearman"]       # {"value": 0.71, "low": 0.66, "high": 0.75}

Of each dimension: Spearman's rank correlation; the quadratic-weighted kappa of the rounded level
(Cohen, 1968); for the decision to keep a document (`Dimension.good`) the F1, and the AUC, which
needs no threshold. Of domains: accuracy beside the share of the commonest one, and who is taken for
whom. Intervals hold 95 % of as many resamples of the texts (Efron, 1979), drawn by a fixed seed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from baiwen.data.classifier.model import Scores
from baiwen.data.rubric import Dimension, Rubric

RESAMPLES, SEED = 1000, 0
Statistic = Callable[..., float | None]  # of arrays of one length; None: it has no meaning


def agreement(
    scores: Scores, levels: np.ndarray, domains: np.ndarray, rubric: Rubric
) -> dict[str, Any]:
    """Everything that can be said of it, as JSON.

    levels: int64 [texts, D], from 0, the least; below 0 where the judge says nothing. domains:
    int64 [texts], places in the rubric, or below 0.
    """
    return {
        "dimensions": {
            one.name: dimension(one, scores.levels[:, place], levels[:, place])
            for place, one in enumerate(rubric.dimensions)
        },
        "domains": labels(scores.domains, domains, [one.name for one in rubric.domains]),
    }


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """An agreement in words: a line for each dimension, and one for the domains."""
    for name, one in told["dimensions"].items():
        shown = [f"{what} {_interval(one[what])}" for what in ("spearman", "kappa", "f1")]
        yield f"{name}: {', '.join(shown)} (n = {one['n']:,})"
    if found := told["domains"]:
        commonest = f"the commonest is {found['commonest']:.1%} of n = {found['n']:,}"
        yield f"domain: accuracy {_interval(found['accuracy'])}; {commonest}"


def dimension(one: Dimension, scores: np.ndarray, levels: np.ndarray) -> dict[str, Any]:
    """Of a dimension: scores float [texts], on its scale; levels int64 [texts], from 0."""
    judged = levels >= 0
    said, told = scores[judged].astype(np.float64), levels[judged] + one.least
    rounded = np.floor(said + 0.5)
    kept, good = one.good(said), one.good(told)
    upwards = said if one.better == "high" else -said
    return {
        "n": len(told),
        "good": _share(good),
        "spearman": estimate(spearman, said, told),
        "kappa": estimate(kappa, rounded, told),
        "f1": estimate(f1, kept, good),
        "auc": estimate(auc, upwards, good),
        "error": estimate(lambda a, b: float(np.abs(a - b).mean()), said, told),
    }


def labels(chances: np.ndarray, domains: np.ndarray, names: Sequence[str]) -> dict[str, Any] | None:
    """Of domains: chances float [texts, L], places int64 [texts]; None where there are none."""
    judged = domains >= 0
    if not names or not judged.any():
        return None
    said, told = chances[judged].argmax(1), domains[judged]
    counts = np.bincount(told * len(names) + said, minlength=len(names) ** 2)
    table = counts.reshape(len(names), len(names))
    return {
        "n": len(told),
        "accuracy": estimate(lambda a, b: float((a == b).mean()), said, told),
        "commonest": float(table.sum(1).max() / len(told)),
        "f1": {
            name: f1(said == place, told == place)
            for place, name in enumerate(names)
            if table[place].any()
        },
        "confusion": {  # what the judge calls it: what the classifier does
            name: {other: int(n) for other, n in zip(names, row, strict=True) if n}
            for name, row in zip(names, table, strict=True)
            if row.any()
        },
    }


def estimate(statistic: Statistic, *arrays: np.ndarray) -> dict[str, float] | None:
    """A statistic of arrays with its interval; None where it has no meaning."""
    n = len(arrays[0])
    if not n or (value := statistic(*arrays)) is None:
        return None
    rng = np.random.default_rng(SEED)
    drawn = (rng.integers(0, n, n) for _ in range(RESAMPLES))
    found = [statistic(*(array[places] for array in arrays)) for places in drawn]
    low, high = np.quantile([one for one in found if one is not None], (0.025, 0.975))
    return {"value": value, "low": float(low), "high": float(high)}


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """The correlation of ranks, ties at the mean of theirs; None where one of them is constant."""
    left, right = ranks(a), ranks(b)
    left, right = left - left.mean(), right - right.mean()
    spread = float(np.sqrt((left @ left) * (right @ right)))
    return float(left @ right) / spread if spread else None


def kappa(a: np.ndarray, b: np.ndarray) -> float | None:
    """Cohen's kappa with quadratic weights: 1 - disagreement / what chance would make of it."""
    by_chance = a.var() + b.var() + (a.mean() - b.mean()) ** 2
    return float(1 - np.square(a - b).mean() / by_chance) if by_chance else None


def f1(said: np.ndarray, true: np.ndarray) -> float | None:
    """The harmonic mean of precision and recall of `said`; None where nothing is said or true."""
    both = int(said.sum()) + int(true.sum())
    return float(2 * (said & true).sum() / both) if both else None


def auc(scores: np.ndarray, good: np.ndarray) -> float | None:
    """How often a good one scores above another, ties half; None unless there are both."""
    n = int(good.sum())
    if not 0 < n < len(good):
        return None
    return float((ranks(scores)[good].sum() - n * (n + 1) / 2) / (n * (len(good) - n)))


def ranks(values: np.ndarray) -> np.ndarray:
    """The ranks from 1 on: float64 [n]; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def _share(mask: np.ndarray) -> float | None:
    return float(mask.mean()) if len(mask) else None


def _interval(one: Mapping[str, float] | None) -> str:
    if one is None:
        return "undefined"
    return f"{one['value']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"
