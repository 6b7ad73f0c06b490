"""A linear model with a head for each dimension and each domain, over hashed words and the shape.

    made = Classifier.load("runs/mine/classifier")
    levels, domains = made.scores(texts)        # float32 [texts, D] and [texts, L]

A text's score for a head is the sum of the head's weights of the words and pairs that it has, over
the square root of how many they are, plus a weight for the bin that each of its shapes lies in. A
dimension's score s stands for all its levels at once: P(level > k) = sigmoid(s - threshold k), the
proportional odds of McCullagh (1980), so that the expected level lies within the scale. Domains are
a softmax. In the folder lie `classifier.json` (the rubric and what is looked at) and
`classifier.safetensors` (float32 and int32).
"""

from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from baiwen import config as recipes
from baiwen import files
from baiwen.config import Knobs
from baiwen.data.classifier.features import SHAPES, Features, Found, features
from baiwen.data.rubric import Dimension, Domain, Rubric
from baiwen.errors import UserError

ABOUT, WEIGHTS = "classifier.json", "classifier.safetensors"
BINS = 8  # of a shape, by its quantiles
SHAPED = 0.3  # what a shape's bin counts for, where a word of 400 counts for 0.05
MOST = 4096  # rows that are added up at a time


class Scores(NamedTuple):
    """What a classifier says of texts."""

    levels: np.ndarray  # float32 [texts, D]: the expected level on each dimension
    domains: np.ndarray  # float32 [texts, L]: the probability of each domain


class Seen(NamedTuple):
    """The features of texts that a classifier knows."""

    rows: np.ndarray  # int32 [n]: of `words`, text by text
    bounds: np.ndarray  # int64 [texts + 1]
    cells: np.ndarray  # int64 [texts, SHAPES]: rows of `shapes`


class About(Knobs):
    """What `classifier.json` says of the weights beside it."""

    form: Literal[1] = 1
    dimensions: tuple[Dimension, ...]
    domains: tuple[Domain, ...]
    features: Features


@dataclass(frozen=True)
class Classifier:
    """What was learned."""

    rubric: Rubric
    features: Features
    table: np.ndarray  # int32 [2^bits]: the row of a bucket in `words`; 0: unknown
    words: np.ndarray  # float32 [rows, outputs], outputs being D dimensions and L domains
    edges: np.ndarray  # float32 [SHAPES, BINS - 1]: where a shape's bins end
    shapes: np.ndarray  # float32 [SHAPES * BINS, outputs]
    thresholds: np.ndarray  # float32 [D, levels - 1]; infinite where a dimension has fewer
    bias: np.ndarray  # float32 [L]

    def scores(self, texts: pa.Array | pa.ChunkedArray) -> Scores:
        """Levels and domains of strings."""
        return self.read(self.seen(features(texts, self.features)))

    def seen(self, found: Found) -> Seen:
        """What it knows of the features."""
        rows = self.table.take(found.ids)
        known = rows > 0
        bounds = np.concatenate(([0], np.cumsum(known)))[found.bounds]
        bins = [
            np.searchsorted(e, shape) for e, shape in zip(self.edges, found.shapes.T, strict=True)
        ]
        cells = np.stack(bins, axis=1) + np.arange(len(SHAPES)) * BINS
        return Seen(rows[known], bounds, cells)

    def read(self, seen: Seen) -> Scores:
        """Levels and domains of what is seen."""
        scores = self.summed(seen)
        dimensions = len(self.rubric.dimensions)
        least = np.array([one.least for one in self.rubric.dimensions], np.float32)
        above = sigmoid(scores[:, :dimensions, None] - self.thresholds)
        return Scores(least + above.sum(2), softmax(scores[:, dimensions:] + self.bias))

    def summed(self, seen: Seen) -> np.ndarray:
        """The scores of all heads: float32 [texts, outputs]."""
        scores = self.shapes[seen.cells].sum(1) * np.float32(SHAPED)
        bounds, some = seen.bounds.tolist(), np.empty((MOST, scores.shape[1]), np.float32)
        for text, (start, end) in enumerate(pairwise(bounds)):
            total = scores[text]
            share = np.float32(max(end - start, 1) ** -0.5)
            for at in range(start, end, MOST):
                rows = seen.rows[at : min(at + MOST, end)]
                # "clip" reads into `some` at once; `check` has seen to it that all rows are there.
                total += share * self.words.take(rows, 0, some[: len(rows)], "clip").sum(0)
        return scores

    def save(self, folder: Path, more: dict[str, Any]) -> None:
        """Write its two files; `more` is said in `classifier.json` too."""
        about = About(
            dimensions=self.rubric.dimensions,
            domains=self.rubric.domains,
            features=self.features,
        )
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}
        files.write(folder / WEIGHTS, safetensors.save(arrays))
        files.write_json(folder / ABOUT, {**recipes.resolved(about), **more})

    @classmethod
    def load(cls, folder: Path | str) -> "Classifier":
        """A classifier from its folder; a UserError where it is none, or damaged."""
        told = files.read_json(Path(folder) / ABOUT)
        path = Path(folder) / WEIGHTS
        try:
            about = recipes.parse({name: told[name] for name in About.model_fields}, About, ABOUT)
            arrays = safetensors.load(path.read_bytes())
            made = cls(Rubric(about.dimensions, about.domains), about.features, **arrays)
            made.check()
        except (TypeError, KeyError, ValueError, OSError, SafetensorError) as error:
            raise UserError(
                f"{folder}: this is no classifier, or it is damaged: {error}; it is made by the "
                "stage `classifier`"
            ) from error
        return made

    def check(self) -> None:
        """ValueError unless the arrays fit together."""
        outputs = len(self.rubric.dimensions) + len(self.rubric.domains)
        wanted = {
            "table": (1 << self.features.bits,),
            "words": (len(self.words), outputs),
            "edges": (len(SHAPES), BINS - 1),
            "shapes": (len(SHAPES) * BINS, outputs),
            "thresholds": (len(self.rubric.dimensions), self.thresholds.shape[1]),
            "bias": (len(self.rubric.domains),),
        }
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} is of shape {getattr(self, name).shape}, not {shape}")
        if self.table.min() < 0 or self.table.max() >= len(self.words):
            raise ValueError("table names rows that there are not")


ARRAYS = [one.name for one in fields(Classifier) if one.name not in ("rubric", "features")]


def sigmoid(scores: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-scores)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * scores))


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    if not scores.shape[-1]:
        return scores
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
