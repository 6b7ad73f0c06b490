"""The section of mixtures, from folders made by hand."""

import json

import pytest

from baiwen.report.experts import experts
from baiwen.report.page import Figure, Table
from baiwen.report.runs import Run

LOAD = {
    "expert_violation": 0.5, "expert_violation_worst": 1.0, "idle_experts": 0.125,
    "router_entropy": 1.2, "tokens": 100.0,
}  # fmt: skip


def folder(path, losses, each, load=None, **recipe):
    path.mkdir()
    rows = [
        {"step": i + 1, "tokens": 100.0, "heldout_loss": loss} | (load or {})
        for i, loss in enumerate(losses)
    ]
    (path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (path / "device.json").write_text(json.dumps({"flops_per_token": each}))
    (path / "recipe.json").write_text(json.dumps({"stage": "pretrain"} | recipe))
    if load:
        counts = [[300, 100, 0, 0], [100, 100, 100, 100]]
        (path / "experts.jsonl").write_text(json.dumps({"step": 2, "counts": counts}) + "\n")
    return Run(path.name, path)


def table(blocks, first):
    (found,) = [b for b in blocks if isinstance(b, Table) and b.head[0] == first[0]
                and b.head[1].startswith(first[1])]  # fmt: skip
    return found


def test_losses_stand_at_the_flops_that_all_have_spent(tmp_path):
    """Three steps of 10 FLOPs a token reach beyond two of 10 * sqrt(2): between them in log."""
    dense = folder(tmp_path / "dense", [4.0, 3.0, 2.0], 10.0)
    mixture = folder(tmp_path / "mixture", [3.5, 2.5], 10.0 * 2**0.5, LOAD)
    more = folder(tmp_path / "more", [1.0], 10.0, start="dense")
    lost = folder(tmp_path / "lost", [None], 10.0)  # not finite
    found = table(list(experts([dense, mixture, more, lost])), ("run", "loss at 2.83k FLOPs"))
    rows = {row[0]: row[1:] for row in found.rows}
    assert rows.keys() == {"dense", "mixture"}, "one that goes on from another had more"
    assert rows["mixture"] == ["2.500", "2.83k"]
    assert float(rows["dense"][0]) == pytest.approx(2.145, abs=0.002)


def test_the_load_stands_as_a_grid_and_by_its_extremes(tmp_path):
    blocks = list(experts([folder(tmp_path / "mixture", [3.0, 2.0], 1.0, LOAD)]))
    (row,) = table(blocks, ("run", "layers")).rows
    assert row == ["mixture", "2", "4", "0.50", "1.00", "12.5 %", "1.20", "1.39"]
    names = [block.name for block in blocks if isinstance(block, Figure)]
    assert names == ["experts.svg", "routers.svg"], "nothing to compare it with"


def test_a_last_step_that_was_not_finite_is_shown_as_such(tmp_path):
    run = folder(tmp_path / "mixture", [3.0, None], 1.0, LOAD | {"router_entropy": None})
    assert table(list(experts([run])), ("run", "layers")).rows[0][6] == "nan"


def test_dense_runs_alone_have_no_such_section(tmp_path):
    assert not list(experts([folder(tmp_path / "a", [3.0], 1.0), folder(tmp_path / "b", [3.0], 1)]))
