"""Measures of a reward model against small cases that can be counted by hand."""

import numpy as np
import pytest

from baiwen.eval.preferences import Judged, calibration, measure


def pair(better, worse, **more):
    return Judged(rewards=(better, worse), ranks=(1, 0), lengths=(5, 3), **more)


def test_accuracy_is_by_prompt_with_its_interval():
    judged = [pair(1, 0, kind="a")] * 3 + [pair(0, 1, kind="b", source="x")]
    found = measure(judged)
    assert found["accuracy"]["value"] == 0.75 and found["accuracy"]["n"] == 4
    assert found["accuracy"]["low"] == pytest.approx(0.3006, abs=1e-3)  # Wilson, by its formula
    assert found["by_kind"]["a"]["value"] == 1 and found["by_kind"]["b"]["value"] == 0
    assert found["by_source"].keys() == {"x"}
    assert found["longer"]["value"] == 1
    assert found["margin"]["mean"] == 0.5 and found["score"] == {"better": 0.75, "worse": 0.25}


def test_a_prompt_with_many_pairs_counts_once():
    many = Judged(rewards=(3, 1, 2, 0), ranks=(1, 1, 0, 0), lengths=(1, 1, 1, 1))
    found = measure([many, pair(0, 1)])
    assert many.pairs == [(0, 2), (0, 3), (1, 2), (1, 3)]
    assert found["pairs"] == 5 and found["accuracy"]["value"] == (3 / 4 + 0) / 2
    assert found["best"]["chosen"]["value"] == 1 and found["best"]["drawn"]["value"] == 0.5


def test_ties_are_half_a_hit():
    found = measure([pair(1, 1)])
    assert found["accuracy"]["value"] == 0.5 and found["longer"]["value"] == 1
    assert found["calibration"]["bins"][0]["observed"] == 0.5


def test_a_model_that_knows_how_sure_it_is_has_no_calibration_error():
    """Margins whose signs are drawn as the model of Bradley and Terry has it."""
    rng = np.random.default_rng(0)
    size = rng.uniform(0, 4, 40_000)
    right = rng.random(len(size)) < 1 / (1 + np.exp(-size))
    found = calibration(np.where(right, size, -size))
    assert found["error"] < 0.01 and sum(part["n"] for part in found["bins"]) == 40_000
    for part in found["bins"]:
        assert part["from"] <= part["predicted"] <= part["to"]
        assert part["observed"] == pytest.approx(part["predicted"], abs=0.03)


def test_a_model_that_is_too_sure_shows_it():
    rng = np.random.default_rng(0)
    margins = np.where(rng.random(1000) < 0.7, 9.0, -9.0)
    assert calibration(margins)["error"] == pytest.approx(0.3, abs=0.05)
