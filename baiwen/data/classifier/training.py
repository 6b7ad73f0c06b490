"""Training: a judge's marks on some texts become a classifier.

    made, losses = fit(train, tune, rubric, Features(), Training())

AdaGrad (Duchi et al., 2011), a text at a time in an order that the seed gives: rare words, which
say most, take larger steps. Each head ends where its loss on texts set aside (`tune`) is least.
One thread, so the same marks give the same weights on the same machine.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from baiwen import log
from baiwen.config import Knobs
from baiwen.data.classifier.features import SHAPES, Features, Found
from baiwen.data.classifier.model import BINS, SHAPED, Classifier, Seen, sigmoid, softmax
from baiwen.data.rubric import Rubric

UNJUDGED = -1  # in the place of a level or a domain
LEARNED = ("words", "shapes", "thresholds", "bias")
DIGITS = 6  # of a loss that is told
TINY = 1e-30  # the least probability that a loss takes the logarithm of
SURE = 1e-3  # least and largest share that a level's prior is taken for
# AdaGrad's sums of squares begin with these. That of words holds back those seen a few times: on
# DCLM's labels (ten folds of 247) the AUC is 0.86 with 1e-8, 0.88 with 0.1, 0.89 with 1; with 4,000
# texts of 20 sources the loss is 1.07, 1.05 and 1.04, the last after twice as many epochs.
START, WORDS = 1e-8, 0.1


class Training(Knobs):
    """How the classifier learns."""

    lr: Annotated[float, Field(gt=0)] = 0.3  # of AdaGrad; not reported
    epochs: Annotated[int, Field(gt=0)] = 20  # over the texts, at most
    patience: Annotated[int, Field(gt=0)] = 2  # epochs that lower no head's loss, then it ends
    texts_per_word: Annotated[int, Field(gt=0)] = 2  # that a word must be in to be learned
    seed: int = 0  # of the order


class Examples(NamedTuple):
    """Texts and what a judge says of them."""

    found: Found
    levels: np.ndarray  # int64 [texts, D]: from 0, the least; UNJUDGED where it says nothing
    domains: np.ndarray  # int64 [texts]: the domain's place in the rubric; UNJUDGED

    def take(self, texts: np.ndarray) -> "Examples":
        """Some of them, by their places."""
        return Examples(self.found.take(texts), self.levels[texts], self.domains[texts])


@dataclass(frozen=True)
class Truth:
    """What the heads should say, as numbers that a loss is made of."""

    above: np.ndarray  # float32 [texts, D, K]: 1 where the level is above the k-th
    judged: np.ndarray  # float32 [texts, D, K]: 0 where there is nothing to learn
    domains: np.ndarray  # int64 [texts]


def fit(
    train: Examples, tune: Examples, rubric: Rubric, look: Features, knobs: Training
) -> tuple[Classifier, dict[str, list[float]]]:
    """The classifier, and the loss of each head on `tune` after each epoch, by its name.

    Heads have no weight in common, so each is taken from the epoch that is best for it.
    """
    made = _begun(train, rubric, look, knobs)
    seen, truth = made.seen(train.found), _truth(train, rubric)
    aside, told = made.seen(tune.found), _truth(tune, rubric)
    best, losses = _copied(made), [np.full(len(rubric.names), np.inf)]
    for epoch in _epochs(made, seen, truth, knobs):
        now = loss(epoch, aside, told)
        for head in np.flatnonzero(now < np.min(losses, axis=0)):
            _keep(best, epoch, int(head))
        losses.append(now)
        if len(losses) - 1 - np.argmin(losses, axis=0).max() >= knobs.patience:
            break
    by_head = np.round(losses[1:], DIGITS).T.tolist()
    return best, dict(zip(rubric.names, by_head, strict=True))


def loss(made: Classifier, seen: Seen, truth: Truth) -> np.ndarray:
    """The mean negative log-likelihood of a mark in nats: [D], or [D + 1] where there are domains.

    0 where there are no marks.
    """
    scores = made.summed(seen)
    dimensions = truth.above.shape[1]
    margins = (2 * truth.above - 1) * (scores[:, :dimensions, None] - _finite(made.thresholds))
    found = (np.logaddexp(0, -margins) * truth.judged).sum((0, 2))
    found = found / np.maximum(truth.judged.any(2).sum(0), 1)
    if not len(made.bias):
        return found
    known = np.flatnonzero(truth.domains >= 0)
    chances = softmax(scores[known, dimensions:] + made.bias)
    right = chances[np.arange(len(known)), truth.domains[known]]
    return np.append(found, -np.log(np.maximum(right, TINY)).sum() / max(len(known), 1))


def _begun(train: Examples, rubric: Rubric, look: Features, knobs: Training) -> Classifier:
    """A classifier that says of every text how often there is what."""
    texts = np.bincount(train.found.ids, minlength=1 << look.bits)
    known = np.flatnonzero(texts >= knobs.texts_per_word)
    table = np.zeros(1 << look.bits, np.int32)
    table[known] = np.arange(1, len(known) + 1)
    outputs = len(rubric.dimensions) + len(rubric.domains)
    shares = np.arange(1, BINS) / BINS
    truth = _truth(train, rubric)
    above = (truth.above * truth.judged).sum(0) / np.maximum(truth.judged.sum(0), 1)
    above = np.clip(above, SURE, 1 - SURE)
    thresholds = np.where(_levels(rubric), np.log(1 - above) - np.log(above), np.inf)
    counts = np.bincount(train.domains[train.domains >= 0], minlength=len(rubric.domains))
    return Classifier(
        rubric,
        look,
        table,
        np.zeros((len(known) + 1, outputs), np.float32),
        np.quantile(train.found.shapes, shares, axis=0).T.astype(np.float32),
        np.zeros((len(SHAPES) * BINS, outputs), np.float32),
        thresholds.astype(np.float32),
        np.log((counts + 1) / (counts.sum() + len(counts))).astype(np.float32),
    )


def _epochs(made: Classifier, seen: Seen, truth: Truth, knobs: Training) -> Iterator[Classifier]:
    """`made` after each epoch, its arrays changed in place."""
    rng = np.random.default_rng(knobs.seed)
    words, *others = (np.full(getattr(made, one).shape, START, np.float32) for one in LEARNED)
    words += np.float32(WORDS)
    shapes, thresholds, bias = others
    lr, cell = np.float32(knobs.lr), np.float32(SHAPED)
    for epoch in range(1, knobs.epochs + 1):
        for text in log.track(rng.permutation(len(seen.cells)), f"epoch {epoch}", unit="texts"):
            rows = seen.rows[seen.bounds[text] : seen.bounds[text + 1]]
            share = np.float32(max(len(rows), 1) ** -0.5)
            cells = seen.cells[text]
            weights = made.words[rows]
            scores = share * weights.sum(0) + cell * made.shapes[cells].sum(0)
            levels, domains = _slopes(made, scores, truth, text)
            slope = np.concatenate((levels.sum(1), domains))
            sums = words[rows] + np.square(share * slope)
            words[rows] = sums
            made.words[rows] = weights - lr * share * slope / np.sqrt(sums)
            shapes[cells] += np.square(cell * slope)
            made.shapes[cells] -= lr * cell * slope / np.sqrt(shapes[cells])
            thresholds += np.square(levels)
            made.thresholds[:] += lr * levels / np.sqrt(thresholds)
            bias += np.square(domains)
            made.bias[:] -= lr * domains / np.sqrt(bias)
        yield made


def _slopes(
    made: Classifier, scores: np.ndarray, truth: Truth, text: int
) -> tuple[np.ndarray, np.ndarray]:
    """The loss's slopes: by each threshold's margin [D, K], by each domain's score [L]."""
    dimensions = truth.above.shape[1]
    above = sigmoid(scores[:dimensions, None] - made.thresholds)
    levels = (above - truth.above[text]) * truth.judged[text]
    domains = softmax(scores[dimensions:] + made.bias)
    if (domain := truth.domains[text]) < 0:
        return levels, np.zeros_like(domains)
    domains[domain] -= 1
    return levels, domains


def _truth(examples: Examples, rubric: Rubric) -> Truth:
    exist = _levels(rubric)
    above = examples.levels[:, :, None] > np.arange(exist.shape[1])
    judged = (examples.levels != UNJUDGED)[:, :, None] & exist
    return Truth(above.astype(np.float32), judged.astype(np.float32), examples.domains)


def _levels(rubric: Rubric) -> np.ndarray:
    """Which dimension has a level above the k-th: bool [D, K]."""
    above = np.array([one.most - one.least for one in rubric.dimensions], np.int64)
    return np.arange(above.max(initial=0)) < above[:, None]


def _finite(thresholds: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(thresholds), thresholds, 0)


def _copied(made: Classifier) -> Classifier:
    """The same with learned arrays of its own."""
    return replace(made, **{name: getattr(made, name).copy() for name in LEARNED})


def _keep(best: Classifier, made: Classifier, head: int) -> None:
    """Copy what a head has learned: a dimension, or after the last one the domains."""
    dimensions = len(made.rubric.dimensions)
    outputs = slice(head, head + 1 if head < dimensions else None)
    best.words[:, outputs] = made.words[:, outputs]
    best.shapes[:, outputs] = made.shapes[:, outputs]
    if head < dimensions:
        best.thresholds[head] = made.thresholds[head]
    else:
        best.bias[:] = made.bias
