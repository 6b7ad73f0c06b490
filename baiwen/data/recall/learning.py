"""The classifier of a round: examples of a kind against others, and a score for each text.

made = learn("math", examples, others, Training())
odds(made, pa.array(["Let x be a prime. Then ..."]))        # above 0: rather of the kind
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from baiwen import files
from baiwen.data.classifier.features import Features, features
from baiwen.data.classifier.model import Classifier
from baiwen.data.classifier.training import Examples, Training, fit
from baiwen.data.rubric import Domain, Rubric

OTHER = "other"  # all that is not of the kind
ASIDE = 10  # one of so many examples is not learned from, but says when to end


def learn(kind: str, examples: Sequence[str], others: Sequence[str], knobs: Training) -> Classifier:
    """What tells texts of the kind from others; one of ten of each says when to end."""
    rubric = Rubric((), (Domain(name=kind), Domain(name=OTHER)))
    texts = pa.array([*examples, *others], pa.large_string())
    domains = np.repeat([0, 1], [len(examples), len(others)])
    marks = Examples(features(texts, Features()), np.zeros((len(domains), 0), np.int64), domains)
    aside = np.arange(len(domains)) % ASIDE == 0
    train, tune = (marks.take(np.flatnonzero(those)) for those in (~aside, aside))
    return fit(train, tune, rubric, Features(), knobs)[0]


def odds(made: Classifier, texts: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The logarithm of the odds that each text is of the kind: float32 [texts]."""
    scores = made.summed(made.seen(features(texts, made.features))) + made.bias
    return scores[:, 0] - scores[:, 1]


@dataclass(frozen=True)
class Scoring:
    """A part of the corpus, what scores it, and where the scores go."""

    part: Path
    classifier: Path
    path: Path


def score(task: Scoring) -> None:
    """Write the scores of a part, float32, unless they are there."""
    if not task.path.is_file():
        texts = pq.read_table(task.part, columns=["text"])["text"]
        scores = odds(_classifier(task.classifier), texts)
        files.write(task.path, scores.astype("<f4").tobytes())


@lru_cache(maxsize=1)
def _classifier(folder: Path) -> Classifier:
    return Classifier.load(folder)
