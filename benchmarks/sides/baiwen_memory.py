"""A side: steps of Baiwen's training loop on a shape, and the memory that they take."""

import json
import sys
from dataclasses import replace
from typing import Any

import torch

from baiwen.data.loader import Batch
from baiwen.dist import session
from baiwen.model.documents import Documents
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.train import estimate
from baiwen.train.guard import Guard
from baiwen.train.loop import advance
from baiwen.train.losses import lm
from baiwen.train.meter import peak_memory, steady
from baiwen.train.optim import Optim, build
from baiwen.train.spread import Spread
from benchmarks.sides.model import tile
from benchmarks.turns import Turn


def main(settings: dict[str, Any]) -> None:
    """All steps at once, when it is told."""
    turn = Turn()
    turn.wait()
    shape = replace(SIZES[settings["size"]], **settings["change"])
    tokens, micro = settings["rows"] * settings["length"], settings["micro"]
    place = {name: settings[name] for name in ("dtype", "threads")}
    with session(device="cpu", **place) as world, steady():
        program = peak_memory(world.device) + estimate.LIBRARIES
        recompute = settings["recompute"]
        planned = estimate.resident(shape, Spread(), tokens, world, recompute, micro > 1)
        model = Transformer(shape)
        model.checkpoint_blocks = recompute
        tile(model)
        optim, guard = Optim(), Guard(max_skipped=10, skip_spikes=False)
        optimizers = build(model, optim)
        for _ in range(settings["steps"]):
            step = [batch(shape.vocab_size, settings) for _ in range(micro)]
            advance(model, step, lm, optimizers, guard, world, optim)
        turn.figures = {
            "planned": planned | {"the program itself": program},
            "peak": peak_memory(world.device),
            "weights": sum(parameter.numel() for parameter in model.parameters()),
        }
        turn.wait()


def batch(vocabulary: int, settings: dict[str, Any]) -> Batch:
    """Rows of random tokens, each one document."""
    rows, length = settings["rows"], settings["length"]
    tokens = torch.randint(vocabulary, (rows, length))
    documents = Documents.of([[length]] * rows)
    return Batch(
        tokens=tokens,
        targets=tokens.roll(-1, 1),
        mask=torch.ones(rows, length),
        positions=documents.positions,
        documents=documents,
        count=float(tokens.numel()),
        real=tokens.numel(),
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
