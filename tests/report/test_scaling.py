"""The section of a sweep, on a table whose laws are known."""

import math

import pytest

from baiwen import files
from baiwen.report.page import Figure, Table
from baiwen.report.runs import Run
from baiwen.report.scaling import scaling
from baiwen.scaling import laws, moe, table

CELLS = [(n, d) for n in (1e4, 4e4, 1.6e5) for d in (1e5, 4e5) if n * d < 2e10]


def row(n, d, lr, bs, state="finished"):
    """A loss whose least value lies at lr = N^-0.5 and 512 tokens a step."""
    off = math.log2(lr * n**0.5) ** 2 + math.log2(bs / 4) ** 2
    loss = (1 + 20 / n**0.3 + 90 / d**0.4) * (1 + 0.004 * off)
    known = {"N": n, "active N": n, "D": d, "lr": lr, "bs": bs, "sequence": 128, "seed": 0}
    lost = state == "diverged"
    return known | {"state": state, "smooth loss": None if lost else loss, "size": f"w{n:.0f}"}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep")
    rates = (2.5e-3, 5e-3, 1e-2, 2e-2)
    rows = [row(n, d, lr, bs) for n, d in CELLS for lr in rates for bs in (2, 4, 8)]
    rows.append(row(1e4, 1e5, 1.0, 2, state="diverged"))
    files.write(out / "runs.csv", table.text(rows))
    files.write_json(out / "recipe.json", {"stage": "scaling"})
    laws.write(out / "laws.json", laws.fit(out / "runs.csv", draws=4))
    setting = {"lr": 0.01, "tokens_per_step": 512, "spread": None, "standard_error": None}
    settings = {
        "law": setting | {"losses": [3.0], "heldout loss": 3.0, "lead": 0.0},
        "lost": setting | {"losses": [None], "heldout loss": None, "lead": None},
        "other": setting | {"losses": [3.5], "heldout loss": 3.5, "lead": 0.5},
    }
    proof = {"N": 1.6e5, "D": 4e5, "times": 3.0, "settings": settings}
    files.write_json(out / "proof.json", proof)
    return list(scaling([Run("sweep", out)]))


def rows(told, first):
    return next(b.rows for b in told if isinstance(b, Table) and b.head[0].startswith(first))


def test_each_cell_has_its_best_run(told):
    cells = rows(told, "cell")
    assert len(cells) == len(CELLS)
    # N 10,000: the best rate is 0.01; 12 finished runs and the one without a loss.
    assert cells[0][:5] == ["w10000", "10,000", "100,000", "12", "1"]
    assert cells[0][7:9] == ["0.01", "512"]


def test_there_is_a_drawing_of_valleys_laws_and_proof(told):
    drawn = {block.name: block.svg for block in told if isinstance(block, Figure)}
    assert list(drawn) == ["valleys-sweep.svg", "laws-sweep.svg", "proof-sweep.svg"]
    assert drawn["valleys-sweep.svg"].count("N 10k, D 100k") == 1
    assert "lost" not in drawn["proof-sweep.svg"]
    assert drawn["proof-sweep.svg"].count(">other<") == 1


def test_the_lead_stands_beside_each_other_setting(told):
    assert [line[4:] for line in rows(told, "setting")] == [
        ["3.0000", ""],
        ["", ""],
        ["3.5000", "0.5000"],
    ]


def test_mixtures_of_experts_stand_apart_and_have_their_dense_equals(tmp_path):
    """Dense runs and mixtures of 3 parameters for each active one, whose kappa is 0.5."""
    dense = [row(n, d, n**-0.5, bs) for n in (1e4, 4e4, 1.6e5) for d in (1e5, 4e5) for bs in (4, 8)]
    mixed = [
        row(n, d, n**-0.5, bs) | {"N": 3 * n, "sparsity": 0.75, "size": f"w{n:.0f}-e8k2"}
        for n in (1e4, 4e4)
        for d in (1e5, 4e5)
        for bs in (4, 8)
    ]
    for one in mixed:
        one["smooth loss"] = 1 + 20 / (one["active N"] * 3**0.5) ** 0.3 + 90 / one["D"] ** 0.4
        one["smooth loss"] *= 1.004 if one["bs"] == 8 else 1
    files.write(tmp_path / "runs.csv", table.text(dense + mixed))
    files.write_json(tmp_path / "recipe.json", {"stage": "scaling"})
    found = laws.fit(tmp_path / "runs.csv", draws=4)
    laws.write(tmp_path / "laws.json", found)
    files.write_json(tmp_path / "parity.json", moe.parities(found.moe, dense + mixed))
    told = list(scaling([Run("sweep", tmp_path)]))
    assert [line[1] for line in rows(told, "cell")][:4] == ["10,000"] * 2 + ["10,000 of 30,000"] * 2
    equal = rows(told, "mixture")
    assert [line[:4] for line in equal] == [
        ["w10000-e8k2", "0.75", "10,000", "30,000"],
        ["w40000-e8k2", "0.75", "40,000", "120,000"],
    ]
    assert [line[-1] for line in equal] == ["1.73x"] * 2
    (drawn,) = [block.svg for block in told if isinstance(block, Figure) and "laws" in block.name]
    assert drawn.count("N 10k of 30k") == 2  # in the panels of batch and loss


def test_a_folder_of_another_stage_has_no_section(tmp_path):
    files.write(tmp_path / "runs.csv", "N,D\n1,2\n")
    assert list(scaling([Run("other", tmp_path)])) == []
