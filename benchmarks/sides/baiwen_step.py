"""A side: Baiwen's training step, `train.loop.advance`, on rows of random tokens.

B rows, T tokens of a row.
"""

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from baiwen.data.loader import Batch
from baiwen.dist import World, session
from baiwen.model.config import ModelConfig
from baiwen.model.documents import Documents
from baiwen.model.transformer import Transformer
from baiwen.train.guard import Guard
from baiwen.train.loop import advance
from baiwen.train.losses import lm
from baiwen.train.meter import steady
from baiwen.train.optim import Optim, build
from benchmarks.sides.model import SHAPE, THETA, fill
from benchmarks.turns import Turn


def main(settings: dict[str, Any]) -> None:
    """A step whenever it is told."""
    with place(settings) as world, steady():
        step = trainer(world)
        draw = batches(settings)
        turn = Turn()
        while True:
            turn.wait()
            turn.figures = {"tokens": settings["rows"] * settings["length"], **step(draw())}


def place(settings: dict[str, Any]) -> AbstractContextManager[World]:
    """The session of a training stage; with `give_back`, one in which malloc is left as it was."""
    torch.set_num_threads(settings["threads"])
    if settings.get("give_back"):
        return nullcontext(World(0, 1, torch.device("cpu"), torch.float32))
    return session(device="cpu", dtype=settings["dtype"], threads=settings["threads"])


def trainer(world: World) -> Callable[[Batch], dict[str, float]]:
    """What does one step on a batch and tells its loss."""
    model = Transformer(ModelConfig(**SHAPE, rope_theta=THETA))
    fill(model)
    optim = Optim(lr=3e-4)
    optimizers = build(model, optim, dtype=world.dtype)
    guard = Guard(max_skipped=10, skip_spikes=False)

    def step(batch: Batch) -> dict[str, float]:
        metrics = advance(model, [batch], lm, optimizers, guard, world, optim)
        return {"loss": metrics["loss"]}

    return step


def batches(settings: dict[str, Any]) -> Callable[[], Batch]:
    """Draws [B, T] random tokens; each row is one document."""
    rows, length = settings["rows"], settings["length"]
    generator = torch.Generator().manual_seed(0)

    def draw() -> Batch:
        tokens = torch.randint(SHAPE["vocab_size"], (rows, length), generator=generator)
        documents = Documents.of([[length]] * rows)
        return Batch(
            tokens=tokens,
            targets=tokens.roll(-1, 1),
            mask=(torch.arange(length) < length - 1).float().expand(rows, length),
            positions=documents.positions,
            documents=documents,
            count=float(rows * (length - 1)),
            real=tokens.numel(),
        )

    return draw


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
