"""Scores of the suite: both marks by task, length and depth, each with n and interval.

score(samples)["passkey"]["lengths"]["4096"]["depths"]["0.50"]["strict"]
    -> {"value": 1.0, "n": 5, "standard_error": 0.0, "low": 0.57, "high": 1.0}
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import fsum
from typing import Any

from baiwen.eval.long import ruler
from baiwen.eval.long.answers import Sample
from baiwen.eval.statistics import clustered


def score(samples: Sequence[Sample]) -> dict[str, Any]:
    """Both marks of each task, by length, and by depth where there is one; and RULER's mean."""
    tasks: dict[str, list[Sample]] = defaultdict(list)
    for one in samples:
        tasks[one.task].append(one)
    scores = {task: _by_length(of_task) for task, of_task in tasks.items()}
    all_of_ruler = [one for one in samples if one.task in ruler.TASKS]
    return scores | ({"ruler": _by_length(all_of_ruler)} if all_of_ruler else {})


def mean(samples: Sequence[Sample]) -> float:
    """The mean strict mark, by which two forms compare."""
    return fsum(one.strict for one in samples) / len(samples)


def sparsity(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """What was seen of the prompts that were read sparsely, by length."""
    by_length: dict[int, list[Mapping[str, float]]] = defaultdict(list)
    for one in samples:
        if one.sparsity:
            by_length[one.length].append(one.sparsity)
    return {str(length): _seen(by_length[length]) for length in sorted(by_length)}


def _seen(prompts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over the tokens that were read so; what was in the cache already is not among them."""
    tokens = fsum(one["tokens"] for one in prompts)
    means = {
        name: fsum(one[name] * one["tokens"] for one in prompts) / tokens
        for name in ("density", "recall")
    }
    return {**means, "lowest_recall": min(one["lowest_recall"] for one in prompts)}


def _by_length(samples: Sequence[Sample]) -> dict[str, Any]:
    lengths = sorted({one.length for one in samples})
    return {"all": _marks(samples)} | {
        "lengths": {
            str(length): _by_depth([one for one in samples if one.length == length])
            for length in lengths
        }
    }


def _by_depth(samples: Sequence[Sample]) -> dict[str, Any]:
    depths = sorted({one.depth for one in samples if one.depth is not None})
    by_depth = {
        f"{depth:.2f}": _marks([one for one in samples if one.depth == depth]) for depth in depths
    }
    return _marks(samples) | ({"depths": by_depth} if depths else {})


def _marks(samples: Sequence[Sample]) -> dict[str, Any]:
    """Both marks' means; what was asked of one text at several depths is a cluster.

    No marks from 0 to 1 spread more than rights and wrongs of that mean do, so Wilson's interval of
    a share holds for them, too.
    """
    texts = [(one.task, one.length, one.sample) for one in samples]
    return {
        name: asdict(clustered([getattr(one, name) for one in samples], texts))
        for name in ("official", "strict")
    }
