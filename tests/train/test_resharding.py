"""Checkpoints of many ranks: what one layout writes another reads, and what none of them loses."""

import math
import re

import pytest

from baiwen import files
from baiwen.model import weights


@pytest.fixture(scope="module")
def folder(made_by):
    """What the ranks of `resharded.py` made."""
    return made_by("resharded")


@pytest.fixture(scope="module")
def faults(folder):
    return files.read_json(folder / "faults.json")


@pytest.mark.slow
def test_weights_and_moments_pass_through_layouts_bit_for_bit(folder):
    """fsdp + tensor + expert on 4 ranks -> fsdp on 2 -> 1 -> tensor on 2 -> replicas on 2."""
    rows = list(files.read_jsonl(folder / "read.jsonl"))
    assert len(rows) == 5 and all(row == rows[0] for row in rows)
    for name in ("self_attn.q_proj.weight", "mlp.experts.up_proj", "mlp.shared_expert_gate.weight"):
        for key in ("", "|exp_avg", "|exp_avg_sq", "|step"):
            assert f"model.layers.1.{name}{key}" in rows[0]
    assert len(set(rows[0].values())) > len(rows[0]) / 2


@pytest.mark.slow
def test_many_ranks_publish_the_bytes_of_one(folder):
    one, four = (bytes_of(folder / f"published-{turn}") for turn in (2, 0))
    assert four == one
    assert len([name for name in one if name.startswith("model-")]) >= 3
    assert one["best/config.json"] == one["config.json"]
    differ = [name for name in one if f"best/{name}" in one and one[name] != one[f"best/{name}"]]
    assert len(differ) == 1  # the file of the one weight that the best has otherwise
    weights.load(folder / "published-0")


@pytest.mark.slow
def test_no_byte_is_written_twice(folder):
    checkpoint = folder / "state/step-00000005"  # of two copies
    index = files.read_json(checkpoint / "tensors.json")
    numbers = sum(path.stat().st_size for path in checkpoint.glob("*.safetensors")) // 4
    boxes = [box["shape"] for entry in index.values() for box in entry["pieces"]]
    whole = sum(math.prod(entry["shape"]) for entry in index.values())
    assert sum(map(math.prod, boxes)) == whole < numbers < 1.5 * whole  # beside headers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("full", r"cannot write \S+step-00000002: the file passes the size limit"),
        ("nan", "checkpoint of step 3: model.norm.weight holds NaN"),
    ],
)
def test_what_one_rank_cannot_write_stops_all(faults, fault, told):
    first, second = faults[fault]
    assert re.search(told, first) and first == f"rank 1: {second}"


@pytest.mark.slow
def test_after_a_failed_save_the_one_before_is_whole_and_nothing_else_is_left(faults):
    assert faults["left"] == ["step-00000001"]


@pytest.mark.slow
def test_a_checkpoint_without_the_file_of_a_rank_is_passed_over_by_all(faults):
    assert faults["resumed"] == [1, 1]


@pytest.mark.slow
def test_a_rank_killed_at_any_moment_of_a_save_leaves_the_checkpoint_before_it(folder):
    trials = list(files.read_jsonl(folder / "kills.jsonl"))
    assert all(trial["whole"] for trial in trials)
    alone = [trial for trial in trials if trial["ranks"] == 1]
    assert [trial["died"] for trial in alone] == [True] * (len(alone) - 1) + [False]
    steps = [trial["step"] for trial in alone]
    assert steps.count(1) > 10 and steps.count(2) > 3  # as well while the first one is deleted
    assert steps == sorted(steps)
    beside = [trial for trial in trials if trial["ranks"] == 2]
    assert {trial["victim"] for trial in beside} == {0, 1}
    assert all(trial["died"] and trial["step"] == 1 for trial in beside)


def bytes_of(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
