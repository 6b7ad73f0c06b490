"""A step of a model on rows that ranks share, or that one process has; small enough to repeat.

python tests/train/shared_rows.py OUT        # what two and four ranks make of the cases
"""

import dataclasses
import os
import socket
import sys
import traceback
from pathlib import Path

import tiny
import torch
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from baiwen import dist
from baiwen.data.loader import Batch
from baiwen.model.documents import Documents
from baiwen.model.positions import DualChunk
from baiwen.train.balance import Routers
from baiwen.train.context import share
from baiwen.train.loop import accumulate, evaluate
from baiwen.train.losses import lm
from baiwen.train.parallel import ContextParallel, shard

SHARP = {"initializer_range": 0.3}  # what a token attends to matters
CONFIGS = {
    "dense": dataclasses.replace(tiny.CONFIG, **SHARP),
    "moe": dataclasses.replace(tiny.MOE, **SHARP),
    "dual": dataclasses.replace(
        tiny.CONFIG, dual_chunk_attention_config=DualChunk(8, 3, 8), **SHARP
    ),
}
CONFIGS |= {"trees": CONFIGS["dense"], "micro": CONFIGS["moe"]}
CASES = [f"{kind}-{form}" for kind in CONFIGS for form in ("ulysses", "ring")]
FEW = ["moe-ulysses", "dual-ring"]  # of four ranks
ROWS = [[24], [5, 13, 6], [1, 22, 1], [11, 2, 2, 9]]
PADDING = [0, 6, 0, 0]
TRUNKS = [[-1], [-1, 0, 0], [-1, -1, -1], [-1, 0, 0, -1]]


def batch(kind, share=0, shares=1):
    """A share of four rows of 24 tokens, whose documents end anywhere."""
    generator = torch.Generator().manual_seed(0)
    tokens, targets = torch.randint(96, (2, 4, 24), generator=generator)[:, share::shares]
    mask = torch.rand(4, 24, generator=generator).round(decimals=1)
    mask[1, -6:] = 0
    mask = mask[share::shares]
    lengths, padding, trunks = (x[share::shares] for x in (ROWS, PADDING, TRUNKS))
    documents = Documents.of(lengths, padding, trunks if kind == "trees" else ())
    count, real = float(mask.sum(dtype=torch.float64)), mask.numel() - sum(padding)
    return Batch(tokens, targets, mask, documents.positions, documents, count, real)


def step(kind, form, world, recompute=False):
    """What a step of `world` logs, and its gradients, whole."""
    knobs = ContextParallel(
        context=world.layout.context, context_form=form, activation_checkpointing=recompute
    )
    model = shard(tiny.model(CONFIGS[kind]), knobs, world)
    mine = [share(batch(kind, world.share, world.shares), form, world)]
    routers = Routers(model.config, world, z_loss=0.1, micro=0.1 if kind == "micro" else 0.0)
    metrics = accumulate(model, mine, lm, world, routers)
    found = {name: p.grad for name, p in model.named_parameters()}
    whole = {n: x.full_tensor() if isinstance(x, DTensor) else x for n, x in found.items()}
    measured = evaluate(model, mine, lm, world)["heldout_loss"]
    return metrics | {"measured": torch.tensor(measured)}, whole


def run(out, cases, groups):
    """Each case on these ranks, of which so many share rows; whole tensors by name in `out`."""
    for ranks in groups:
        with dist.session(
            "cpu", "float32", threads=1, timeout=60, layout=dist.Layout(context=ranks)
        ) as world:
            for case in cases:
                found = step(*case.split("-"), world, recompute=True)
                for name, tensors in zip(("metrics", "gradients"), found, strict=True):
                    if world.main:
                        tensors = {key: x.contiguous() for key, x in tensors.items()}
                        save_file(tensors, out / f"{case}-{world.size}-{ranks}-{name}")


def fork(ranks, work, *arguments):
    """Work as the ranks of one job, each a fork of this process, which has run nothing yet."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    children = []
    for rank in range(ranks):
        child = os.fork()
        if not child:
            os.environ |= shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            try:
                work(*arguments)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    ends = [os.waitpid(child, 0)[1] for child in children]
    if any(ends):
        sys.exit(1)


if __name__ == "__main__":
    fork(2, run, Path(sys.argv[1]), CASES, [2])
    fork(4, run, Path(sys.argv[1]), FEW, [2, 4])
