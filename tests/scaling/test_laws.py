import itertools
import json
import re

import numpy as np
import pytest

from baiwen.errors import UserError
from baiwen.scaling import laws
from baiwen.scaling.moe import Mixture
from baiwen.scaling.presets import LOSSES


def table(path, sizes=(1e8, 3e8, 1e9), tokens=(1e9, 1e10), ratios=(1, 4)):
    """Runs around a known best, in Step Law's columns; an expert counts as 0.4 in logarithms."""
    rows = ["N,active N,D,lr,bs,smooth loss"]
    random = np.random.default_rng(0)
    for n, d, ratio in itertools.product(sizes, tokens, ratios):
        for lr, batch in random.normal(0, 0.3, (30, 2)):
            loss = LOSSES["epoch"].at(n * ratio**0.4, d) * (1 + 0.02 * (lr**2 + batch**2))
            best = 2 * n**-0.7 * d**0.3, 1e-3 * d**0.57
            row = n * ratio, n, d, best[0] * np.exp(lr), best[1] * np.exp(batch), loss
            rows.append(",".join(map(repr, map(float, row))))
    path.write_text("\n".join(rows))
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    return laws.fit(table(tmp_path_factory.mktemp("table") / "runs.csv"), draws=20)


def test_what_is_read_is_what_was_written(fitted, tmp_path):
    laws.write(tmp_path / "laws.json", fitted)
    again = laws.read(tmp_path / "laws.json")
    for name in ("lr", "batch"):
        one, other = getattr(again.hyper, name), getattr(fitted.hyper, name)
        assert one.predict(7e9, 1e12) == other.predict(7e9, 1e12)
    assert again.loss.predict(7e9, 1e12) == fitted.loss.predict(7e9, 1e12)
    size = Mixture(2e9, 14e9)
    assert again.moe.parity(size, 1e12) == fitted.moe.parity(size, 1e12)
    assert (again.table, again.runs, again.cells) == (fitted.table, 360, 12)
    laws.write(tmp_path / "again.json", again)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "laws.json").read_bytes()


def test_the_same_table_gives_the_same_bytes(fitted, tmp_path):
    laws.write(tmp_path / "one.json", fitted)
    laws.write(tmp_path / "two.json", laws.fit(table(tmp_path / "runs.csv"), draws=20))
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_a_law_that_the_runs_cannot_tell_is_missing_and_why(tmp_path):
    few = laws.fit(table(tmp_path / "runs.csv", sizes=(1e8, 1e9), ratios=(4,)), draws=2)
    laws.write(tmp_path / "laws.json", few)
    again = laws.read(tmp_path / "laws.json")
    assert again.loss is None and "0 runs of 0 sizes" in again.missing["loss"]
    assert again.moe is None and "1 ratios of total" in again.missing["moe"]


def test_mixtures_do_not_count_as_dense_runs(fitted, tmp_path):
    dense = laws.fit(table(tmp_path / "runs.csv", ratios=(1,)), draws=2)
    assert dense.moe is None and not dense.missing
    assert fitted.loss.named["alpha"] == pytest.approx(dense.loss.named["alpha"], rel=0.1)
    assert fitted.moe.kappa == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda raw: raw.pop("hyper"), "hyper: Field required"),
        (lambda raw: raw["hyper"]["lr"].update(weights=["much"]), "hyper.lr.weights"),
        (lambda raw: raw["hyper"]["lr"].update(weights=[1.0]), "lr: weights, draws"),
        (lambda raw: raw["hyper"]["lr"].update(variables=["tokens"]), "lr: weights, draws"),
        (lambda raw: raw["loss"].update(residuals=[0.1]), "loss: weights, draws"),
        (lambda raw: raw["loss"].update(huber="little"), "loss.huber"),
    ],
)
def test_what_is_no_law_is_named(fitted, tmp_path, change, told):
    path = tmp_path / "laws.json"
    laws.write(path, fitted)
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(UserError, match=f"laws.json: .*{re.escape(told)}"):
        laws.read(path)
