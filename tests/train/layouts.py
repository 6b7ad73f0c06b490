"""All objectives under all layouts of ranks, and as one process: steps of the real loop.

    python tests/train/layouts.py OUT          # OUT/KIND/NAME/metrics.jsonl of each run

In a run that is "all" each step has another objective: text, text of which little is learned, pairs
of answers, rollouts. Its model has a dense and a sparse layer; the step's rows divide among ranks
or not, as they come. A context is for rows alone. A layout takes a turn of all objectives and what
follows it; those that have all dimensions between them take twenty steps.
"""

import dataclasses
import gc
import sys
from functools import partial
from pathlib import Path

import numpy as np
import tiny
import torch
from safetensors.torch import save_file
from shared_rows import fork

from baiwen import dist
from baiwen.data.tree import Tree
from baiwen.data.trees import batches
from baiwen.model.reward import RewardModel
from baiwen.train import tensor
from baiwen.train.context import share
from baiwen.train.local import local
from baiwen.train.loop import Loop, train
from baiwen.train.losses import lm
from baiwen.train.optim import Optim
from baiwen.train.parallel import ContextParallel, shard
from baiwen.train.policy import policy
from baiwen.train.preference import dpo
from baiwen.train.ranking import ranking
from baiwen.train.schedule import Schedule

STEPS, FEW = 20, 4
MIXED = dataclasses.replace(tiny.MOE, decoder_sparse_step=2)
UNTIED = dataclasses.replace(tiny.CONFIG, tie_word_embeddings=False, num_key_value_heads=4)
CONFIGS = {"all": MIXED, "rows": MIXED, "untied": UNTIED, "ranking": tiny.CONFIG}
TURNS = {
    "all": ("lm", "sft", "dpo", "policy"),
    "rows": ("lm", "sft"),
    "untied": ("lm", "dpo"),
    "ranking": ("ranking",),
}
OBJECTIVES = {
    "lm": partial(lm, z_loss=1e-3),
    "sft": lm,
    "dpo": partial(dpo, nll=0.1),
    "policy": partial(policy, beta=0.1, temperature=0.8, truncation=2.0),
    "ranking": partial(ranking, center=0.01),
}
RUNS = {  # number of ranks -> kind and name of a run -> its knobs
    1: {(kind, "one"): {} for kind in CONFIGS},
    2: {
        ("all", "shard"): {},
        ("all", "tensor"): {"tensor": 2},
        ("all", "expert"): {"expert": 2},
        ("rows", "context"): {"context": 2},
        ("ranking", "tensor"): {"tensor": 2},
    },
    4: {
        ("all", "replicate-tensor"): {"replicate": 2, "tensor": 2},
        ("all", "replicate-shard-expert"): {"replicate": 2, "expert": 2},
        ("all", "shard-tensor-expert"): {"tensor": 2, "expert": 4},
        ("rows", "context-tensor-expert"): {"context": 2, "tensor": 2, "expert": 2},
        ("untied", "four-tensor"): {"tensor": 4},
    },
}
LONG = [("all", "shard-tensor-expert"), ("rows", "context")]
MOVED = {4: ({"tensor": 2}, 2), 2: ({"tensor": 2}, 4), 1: ({}, 6)}  # one run, and until when
CASES = {case: STEPS if case in LONG else FEW for ranks in (2, 4) for case in RUNS[ranks]}
CASES |= {("all", "moved"): MOVED[1][1]}
ONE = {kind: max(n for case, n in CASES.items() if case[0] == kind) for kind in CONFIGS}


def trees(kind, world, rng):
    """This share of a step's prompts, each with two answers of which the first is the better."""

    def drawn():
        start, length = rng.integers(9, 80), rng.integers(2, 7)
        after, (up, down) = start + length, rng.integers(2, 6, 2)
        answers = [[after + i for i in range(up)], [after - i for i in range(down)]]
        tokens = [[rng.normal(-4.5, 0.1) for _ in answer] for answer in answers]
        values = {"advantages": [1.0, -0.5], "ref_logprobs": tokens}
        values |= {"old_logprobs": tokens, "sampler_logprobs": tokens}
        if kind != "policy":
            values = {"rank": [1, 0], "ref_logprobs": [sum(one) for one in tokens]}
        return Tree(list(range(start, after)), answers, values=values)

    count = "answers" if kind == "policy" else "trees"
    ranks = {"rank": world.share, "ranks": world.shares}
    return batches([drawn() for _ in range(5)], 4 * tiny.LENGTH, count=count, **ranks)


def given(kind, parallel, world, step, seed=0):
    """This rank's micro-batches of a step, which say what their objective is."""
    turns = TURNS[kind]
    asked = turns[step % len(turns)]
    if asked in ("lm", "sft"):
        some = tiny.loader(world, rows=4, micro_rows=4 // world.shares, seed=seed).step(step)
        some = [share(batch, parallel.context_form, world) for batch in some]
    else:
        some = trees(asked, world, np.random.default_rng((seed, step)))
    for batch in some:
        batch.objective = OBJECTIVES[asked]
    return some


def run(out, kind, knobs, until):
    """Train in `out` up to step `until`, resuming, as these ranks."""
    parallel = ContextParallel(**knobs, activation_checkpointing=kind == "all")
    with dist.session("cpu", "float32", threads=1, timeout=60, layout=parallel.layout) as world:
        model = tiny.model(CONFIGS[kind])
        if kind == "ranking":
            model = RewardModel.on(model)
        gc.freeze()  # what is imported, which the loop would go through, is no garbage
        train(
            shard(model, parallel, world),
            partial(given, kind, parallel, world),
            lambda outputs, batch: batch.objective(outputs, batch),
            steps=STEPS,
            until=until,
            optim=Optim(lr=1e-3),
            schedule=Schedule(warmup=0),
            loop=Loop(save_every=STEPS, eval_every=FEW),
            world=world,
            out=out,
            heldout=given(kind, parallel, world, 0, seed=9),
        )


def part(rank):
    """A gradient in bf16, of a rank's tokens."""
    return torch.randn(64, 64, generator=torch.Generator().manual_seed(rank)).bfloat16()


def whole(out):
    """The gradient of a matrix that four ranks have whole, in bf16."""
    layout = dist.Layout(tensor=4)
    with dist.session("cpu", "bfloat16", threads=1, timeout=60, layout=layout) as world:
        layer = torch.nn.Linear(64, 64, bias=False, dtype=torch.bfloat16)
        tensor.distribute(layer, world.meshes)
        with local(layer):
            (layer.weight * part(world.rank)).sum().backward()
        if world.main:
            save_file({"sum": layer.weight.grad.to_local()}, out / "whole")


def work(out, ranks):
    """All that so many ranks have to do."""
    for (kind, name), knobs in RUNS[ranks].items():
        run(out / kind / name, kind, knobs, CASES.get((kind, name), ONE[kind]))
    run(out / "all" / "moved", "all", *MOVED[ranks])
    if ranks == 4:
        whole(out)


if __name__ == "__main__":
    for ranks in (4, 2, 1):
        fork(ranks, work, Path(sys.argv[1]), ranks)
