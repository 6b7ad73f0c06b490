"""Measures of agreement, against SciPy's and definitions spelled out."""

import numpy as np
import pytest
from scipy import stats

from baiwen.data.classifier import agreement
from baiwen.data.classifier.model import Scores
from baiwen.data.rubric import Dimension, Domain, Rubric

RNG = np.random.default_rng(0)
LEVELS = RNG.integers(1, 6, 200)
SAID = np.clip(LEVELS + RNG.integers(-1, 2, 200), 1, 5)


def test_spearman_is_that_of_scipy_with_ties():
    expected = stats.spearmanr(SAID, LEVELS).statistic
    assert agreement.spearman(SAID, LEVELS) == pytest.approx(expected)
    assert agreement.spearman(SAID, np.ones(200)) is None


def test_kappa_is_that_of_the_weighted_tables():
    table = np.zeros((5, 5))
    np.add.at(table, (SAID - 1, LEVELS - 1), 1)
    weights = np.square(np.arange(5)[:, None] - np.arange(5))
    chance = np.outer(table.sum(1), table.sum(0)) / table.sum()
    expected = 1 - (weights * table).sum() / (weights * chance).sum()
    assert agreement.kappa(SAID.astype(float), LEVELS) == pytest.approx(expected)


def test_auc_is_the_share_of_pairs_in_order():
    good = LEVELS >= 3
    expected = stats.mannwhitneyu(SAID[good], SAID[~good]).statistic / (good.sum() * (~good).sum())
    assert agreement.auc(SAID, good) == pytest.approx(expected)
    assert agreement.auc(SAID, np.ones(200, bool)) is None


def test_f1_is_that_of_precision_and_recall():
    said, good = SAID >= 4, LEVELS >= 4
    precision, recall = (said & good).sum() / said.sum(), (said & good).sum() / good.sum()
    assert agreement.f1(said, good) == pytest.approx(2 * precision * recall / (precision + recall))


def test_intervals_hold_what_they_should(monkeypatch):
    """Of 40 samples of a coin, about 95 % of the intervals hold its mean."""
    monkeypatch.setattr(agreement, "RESAMPLES", 200)
    coins = np.random.default_rng(1).integers(0, 2, (40, 80))
    found = [agreement.estimate(lambda a: float(a.mean()), row) for row in coins]
    assert 34 <= sum(one["low"] <= 0.5 <= one["high"] for one in found) <= 40
    assert agreement.estimate(lambda a: float(a.mean()), np.array([])) is None


def test_what_is_better_low_is_good_below_the_bound():
    noise = Dimension(name="noise", better="low", keep=2)
    told = agreement.dimension(noise, np.array([1.2, 2.4, 2.6, 5]), np.array([0, 1, 2, 4]))
    assert told["f1"]["value"] == told["auc"]["value"] == 1 and told["good"] == 0.5


def test_documents_without_a_mark_do_not_count():
    rubric = Rubric((Dimension(name="clarity"),), (Domain(name="a"), Domain(name="b")))
    scores = Scores(np.array([[1.0], [3.0], [5.0]]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]))
    told = agreement.agreement(scores, np.array([[0], [-1], [4]]), np.array([0, 1, -1]), rubric)
    assert told["dimensions"]["clarity"]["n"] == told["domains"]["n"] == 2
    assert told["domains"]["confusion"] == {"a": {"a": 1}, "b": {"b": 1}}
    assert told["domains"]["commonest"] == 0.5 and len(list(agreement.lines(told))) == 2
    none = agreement.agreement(scores, np.full((3, 1), -1), np.full(3, -1), rubric)
    assert none["dimensions"]["clarity"]["spearman"] is None and none["domains"] is None
    assert "undefined" in next(agreement.lines(none))
