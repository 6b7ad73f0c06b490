"""The step `classify`: every document's scores and domain, from a folder of the stage `classifier`.

    steps = ["heuristics", "classify", "quality"]
    [classify]
    folder = "runs/mine/classifier"

It finds `classify.NAME` for each dimension (the expected level), and where the classifier knows
domains `classify.label`, the likeliest, and `classify.probability`. Nothing is decided here.
"""

from functools import cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from baiwen.config import Input, Knobs
from baiwen.data.classifier.model import Classifier
from baiwen.data.pipeline.step import Map

DIGITS = 3  # that are kept: what differs between processors is smaller


class Classify(Knobs):
    """Which classifier."""

    folder: Input  # made by the stage `classifier`


def steps(knobs: Classify) -> tuple[Map]:
    """The step."""
    return (Map("classify", partial(score, knobs=knobs)),)


def score(table: pa.Table, knobs: Classify) -> pa.Table:
    """The scores of a table's `text`, a row each; the folder is read once in a process."""
    made = _loaded(knobs.folder)
    found = made.scores(table["text"])
    columns = {
        one.name: pa.array(_rounded(found.levels[:, place]))
        for place, one in enumerate(made.rubric.dimensions)
    }
    if made.rubric.domains:
        names = pa.array([one.name for one in made.rubric.domains], pa.string())
        columns["label"] = names.take(pa.array(found.domains.argmax(1)))
        columns["probability"] = pa.array(_rounded(found.domains.max(1)))
    return pa.table(columns)


def _rounded(scores: np.ndarray) -> np.ndarray:
    return np.round(scores.astype(np.float64), DIGITS)


@cache
def _loaded(folder: Path) -> Classifier:
    return Classifier.load(folder)
