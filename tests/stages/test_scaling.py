"""A sweep as a user runs it: its table and law, kills, halving, divergence, workers."""

import csv
import multiprocessing
import random

import pytest

from baiwen import files, stages
from baiwen.data import shards
from baiwen.errors import UserError
from baiwen.scaling import grid, laws, runs
from baiwen.scaling.runs import Task
from baiwen.stages import scaling
from baiwen.tokenizer import train as train_tokenizer
from baiwen.train import loop, proxy

RECIPE = """
stage = "scaling"
out = "out"
shards = "shards"
tokenizer = "tokenizer"
heldout = "heldout.jsonl"
heldout_tokens = 64
tokens = [128, 256]
lr = [1e-3, 1e-2]
tokens_per_step = [32]
max_flops = 3.5e6
sequence_length = 16
micro_tokens = 64
draws = 4
threads = 1
dtype = "float32"
[ladder]
widths = [8, 16]
layers = [1]
[loop]
save_every = 99
"""
PROOF = """
[proof]
size = "w16-l1"
tokens = 256
seeds = 2
[proof.against.other]
tokens_per_step = 64
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working directory with a source, its tokenizer and held-out documents."""
    place, rng = tmp_path_factory.mktemp("scaling"), random.Random(0)
    texts = [" ".join(rng.choices(["cats", "sat", "mats", "dogs"], k=40)) for _ in range(60)]
    tokenizer = train_tokenizer(texts, 264)
    tokenizer.save(place / "tokenizer")
    source = place / "shards" / "text"
    shards.write_index(source, [shards.write_shard(source, 0, texts[10:], tokenizer)], tokenizer)
    with files.jsonl_writer(place / "heldout.jsonl") as put:
        for text in texts[:10]:
            put({"text": text})
    return place


def recipe(place, monkeypatch, text=RECIPE, **knobs):
    monkeypatch.chdir(place)
    files.write("scaling.toml", text)
    (found,) = stages.load("scaling.toml", [f"{key}={value}" for key, value in knobs.items()])
    return found


def run(place, monkeypatch, text=RECIPE, **knobs):
    found = recipe(place, monkeypatch, text, **knobs)
    stages.run(found)
    with open(found.out / "runs.csv") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def swept(place):
    with pytest.MonkeyPatch.context() as patch:
        return run(place, patch, RECIPE + PROOF)


def test_every_point_of_the_grid_is_a_row(swept, place, monkeypatch):
    rates = [(row["size"], row["D"], row["lr"]) for row in swept]
    cells = [("w8-l1", "128"), ("w8-l1", "256"), ("w16-l1", "128")]
    assert rates == [(*cell, lr) for cell in cells for lr in ("0.001", "0.01")]
    assert {row["state"] for row in swept} == {"finished"}
    config = recipe(place, monkeypatch, RECIPE + PROOF).config
    assert scaling.plan(config)["runs"] == len(swept)
    assert sum(float(row["FLOPs"]) for row in swept) == sum(
        one.flops for one in scaling.planned(config, 264 + 22)
    )


def test_the_table_is_one_that_laws_are_fitted_on(swept, place):
    found = grid.read(place / "out/runs.csv")
    assert len(found) == 6
    assert set(found.batch) == {32.0}
    laws.write(place / "again.json", laws.fit(place / "out/runs.csv", draws=4))
    assert (place / "again.json").read_bytes() == (place / "out/laws.json").read_bytes()


def test_a_larger_rate_learns_more_of_so_few_tokens(swept):
    losses = [float(row["heldout loss"]) for row in swept]
    assert all(fast < slow for slow, fast in zip(losses[::2], losses[1::2], strict=True))


def test_the_proof_trains_every_setting_with_every_seed(swept, place):
    told = files.read_json(place / "out/proof.json")
    assert list(told["settings"]) == ["law", "other"]
    assert [len(one["losses"]) for one in told["settings"].values()] == [2, 2]
    assert told["settings"]["law"]["lr"] == pytest.approx(1e-2, rel=0.01)
    assert told["settings"]["other"]["lr"] == 3e-4  # the trainer's own
    assert told["settings"]["other"]["lead"] > 0


def test_a_sweep_that_was_killed_ends_in_the_same_bytes(swept, place, monkeypatch):
    saved, trained = proxy.train, []

    def train(*given, out, until=None, **knobs):
        trained.append(out.name)
        if len(trained) == 3:
            saved(*given, out=out, until=2, **knobs)  # saved there, and the process ends
            raise KeyboardInterrupt
        return saved(*given, out=out, until=until, **knobs)

    monkeypatch.setattr(proxy, "train", train)
    with pytest.raises(KeyboardInterrupt):
        run(place, monkeypatch, RECIPE + PROOF, out="killed")
    run(place, monkeypatch, RECIPE + PROOF, out="killed")
    for name in ("runs.csv", "laws.json", "proof.csv", "proof.json"):
        assert (place / "killed" / name).read_bytes() == (place / "out" / name).read_bytes()
    assert trained.count(trained[2]) == 2
    assert len(trained) == 6 + 4 + 1
    assert not (place / "killed/state").exists()


@pytest.mark.slow
def test_two_workers_make_the_same_bytes(swept, place, monkeypatch):
    run(place, monkeypatch, out="two", workers=2)
    for name in ("runs.csv", "laws.json"):
        assert (place / "two" / name).read_bytes() == (place / "out" / name).read_bytes()
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_workers_that_ray_places_make_the_same_bytes(swept, place, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed")
    placed = "{ count = 2, cpus = 0.5, store = 104857600 }"
    run(place, monkeypatch, out="placed", workers=placed)
    for name in ("runs.csv", "laws.json"):
        assert (place / "placed" / name).read_bytes() == (place / "out" / name).read_bytes()


def test_a_worker_that_does_not_see_the_run_folder_trains_the_same(swept, place, monkeypatch):
    config = recipe(place, monkeypatch).config
    one = scaling.planned(config, 264 + 22)[0]
    files.write(place / "elsewhere/run.json", "{}")
    trained = runs.Trainer(config, place / "elsewhere", "of another").train(Task(one, one.steps))
    assert trained.row == files.read_json(place / "out/runs" / f"{one.name}.json")
    assert [path.name for path in (place / "elsewhere").iterdir()] == ["run.json"]


def test_a_run_that_ended_before_its_row_was_written_is_read_and_not_trained_again(
    swept, place, monkeypatch
):
    config = recipe(place, monkeypatch).config
    task = Task(scaling.planned(config, 264 + 22)[0], 4)
    first = runs.train(config, place / "ended", task)
    monkeypatch.setattr(loop, "advance", None)
    assert runs.train(config, place / "ended", task).row == first.row


def test_a_plan_counts_on_all_of_ray_s_workers(place, monkeypatch):
    config = recipe(place, monkeypatch, workers="{ count = 64 }").config
    assert " on 64 at a time" in scaling.plan(config)["time"]


def test_ray_and_torchrun_are_not_mixed(place, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="Ray places them or torchrun starts the ranks"):
        run(place, monkeypatch, out="mixed", workers="{ count = 2 }")


def test_mixtures_of_experts_are_swept_beside_dense_models(place, monkeypatch):
    experts = "[{ experts = 4, top_k = 1, width = 0.5, shared = 0.5 }]"
    rows = run(place, monkeypatch, out="mixtures", experts=experts, lr="[1e-2]")
    dense, mixed = rows[:1], [row for row in rows if float(row["sparsity"])]
    assert {row["size"] for row in mixed} >= {"w8-l1-e4k1-w0.5-s0.5"}
    for row in mixed:
        assert float(row["sparsity"]) == 0.75
        assert float(row["active N"]) < float(row["N"])
    assert dense[0]["N"] == dense[0]["active N"]
    assert {row["state"] for row in rows} == {"finished"}
    variables = laws.read(place / "mixtures/laws.json").hyper.lr.variables
    assert variables == ("parameters", "tokens", "ratio")


def test_a_run_that_diverges_is_a_row_without_a_loss(place, monkeypatch):
    rows = run(place, monkeypatch, out="diverged", lr="[1e-2, 1e30]")
    wild = [row for row in rows if row["lr"] == "1e+30"]
    assert {(row["state"], row["smooth loss"], row["heldout loss"]) for row in wild} == {
        ("diverged", "", "")
    }
    assert laws.read(place / "diverged/laws.json").runs == 3


def test_at_each_rung_the_better_half_of_a_cell_goes_on(place, monkeypatch):
    knobs = {"tokens": "[256]", "lr": "[1e-4, 1e-3, 3e-3, 1e-2]", "halving": 2, "rungs": 2}
    run(place, monkeypatch, out="halved", max_flops=2e6, **knobs)
    rungs = {}
    for path in (place / "halved/runs").glob("*.json"):
        row = files.read_json(path)
        rungs.setdefault(row["steps"], {})[row["lr"]] = row["state"], row["smooth loss"]
    assert {step: len(rows) for step, rows in rungs.items()} == {2: 4, 4: 2, 8: 1}
    for step, above in ((2, 4), (4, 8)):
        assert {state for state, _ in rungs[step].values()} == {"stopped"}
        order = sorted(rungs[step], key=lambda lr: rungs[step][lr][1])
        assert set(order[: len(rungs[above])]) == set(rungs[above])
    assert [state for state, _ in rungs[8].values()] == ["finished"]


def test_a_run_that_halving_lets_go_on_is_the_one_of_a_whole_sweep(swept, place, monkeypatch):
    test = run(place, monkeypatch, out="some", halving=2, rungs=1)
    assert test[1] == swept[1]


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"max_flops": 1.0}, "every cell is above it"),
        ({"sizes": '["tinny"]'}, "'tinny' is none of .*tiny"),
        ({"tokens_per_step": "[40]"}, "tokens_per_step = 40 must be a multiple"),
        ({"tokens": "[]"}, "needs tokens or tokens_per_parameter"),
        ({"parallel.tensor": 2}, "one process trains each run of a sweep"),
        ({"loop.keep_best": "true"}, "of a run of a sweep no model is kept"),
        ({"tokens": "[]", "tokens_per_parameter": "[0.03]"}, "the cells of .* rise together"),
    ],
)
def test_what_cannot_be_swept_is_told_at_once(place, monkeypatch, knobs, told):
    with pytest.raises(ValueError, match=told):
        recipe(place, monkeypatch, **knobs)
