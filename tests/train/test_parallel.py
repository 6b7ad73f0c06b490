"""Two ranks are one: FSDP2 over gloo against one process."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from baiwen.train.losses import head_loss
from baiwen.train.parallel import Parallel, shard

TINY = Path(__file__).with_name("tiny.py")


def two_ranks(out, *knobs):
    """The tiny run under torchrun, with half of the rows on each rank."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(TINY), str(out), *knobs],
        env=env,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def same_losses(tiny, one, other):
    rows = list(zip(tiny.metrics(one), tiny.metrics(other), strict=True))
    assert len(rows) == 10
    for left, right in rows:
        assert left.keys() == right.keys()
        for name in left:
            assert left[name] == pytest.approx(right[name], rel=1e-5, abs=1e-6), (
                left["step"],
                name,
            )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_two_ranks_have_the_losses_of_one(tiny, tmp_path, kind):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    config = tiny.MOE if kind == "moe" else tiny.CONFIG
    tiny.run(one, steps=10, micro_rows=8, config=config)
    two_ranks(two, "steps=10", f"model={kind}")
    same_losses(tiny, one, two)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_ranks(tiny, tmp_path):
    """Two ranks, then one, then two; against one throughout."""
    one, mixed = tmp_path / "one", tmp_path / "mixed"
    for out in (one, mixed):
        out.mkdir()
    tiny.run(one, steps=10, schedule="constant")
    two_ranks(mixed, "steps=4", "schedule=constant")
    tiny.run(mixed, steps=7, schedule="constant")
    two_ranks(mixed, "steps=10", "schedule=constant")
    rows = tiny.metrics(mixed)
    assert [row["step"] for row in rows] == list(range(1, 11))
    for left, right in zip(tiny.metrics(one), rows, strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-5)
        assert left["grad_norm"] == pytest.approx(right["grad_norm"], rel=1e-4)


def test_compiled_blocks_give_the_same_gradients(tiny, world, monkeypatch):
    """Traced in earnest; run by the eager backend, since inductor's C++ takes a minute."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    batch = tiny.loader(micro_rows=8).step(0)[0]
    grads = []
    for knobs in (Parallel(), Parallel(compile=True, activation_checkpointing=True)):
        model = shard(tiny.model(), knobs, world)
        outputs = model(batch.tokens, positions=batch.positions, documents=batch.documents)
        head_loss(outputs.hidden, outputs.head, batch.targets, batch.mask)[0].backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    plain, compiled = grads
    assert plain.keys() == compiled.keys()
    for name, grad in plain.items():
        torch.testing.assert_close(grad, compiled[name], rtol=1e-4, atol=1e-4)
