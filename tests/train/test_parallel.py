"""Two ranks are one: FSDP2 over gloo against one process."""

import functools
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from baiwen.train.losses import head_loss
from baiwen.train.parallel import Parallel, shard

TINY = Path(__file__).with_name("tiny.py")


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """Runs on one rank; on two; and on one up to step 4, on two to step 7, on one to step 10."""
    folder = tmp_path_factory.mktemp("ranks")
    for kind in ("dense", "moe"):
        tiny.run(folder / f"one-{kind}", steps=10, micro_rows=8, kind=kind, schedule="constant")
    tiny.run(folder / "mixed", steps=4, schedule="constant")
    wanted = {"two-dense": ["steps=10"], "two-moe": ["steps=10", "kind=moe"], "mixed": ["steps=7"]}
    arguments = [
        [str(folder / name), "schedule=constant", *knobs] for name, knobs in wanted.items()
    ]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(TINY), *itertools.chain(*arguments)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-4000:]
    tiny.run(folder / "mixed", steps=10, schedule="constant")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "other"),
    [("one-dense", "two-dense"), ("one-moe", "two-moe"), ("one-dense", "mixed")],
)
def test_any_number_of_ranks_has_the_losses_of_one(tiny, folder, one, other):
    rows = list(zip(tiny.metrics(folder / one), tiny.metrics(folder / other), strict=True))
    assert [left["step"] for left, _ in rows] == list(range(1, 11))
    for left, right in rows:
        for name in left.keys() & right.keys():
            told = f"{name} of step {left['step']}"
            assert left[name] == pytest.approx(right[name], rel=1e-5, abs=1e-6), told
    assert {"loss", "grad_norm", "tokens", "lr"} <= rows[0][0].keys() & rows[0][1].keys()


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
