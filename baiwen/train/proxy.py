"""Proxies: fresh small models that are trained only to be measured.

    model = taught(shape, loader.step, config, world, out, steps=300, seed=0, length=256)

The one way in which stages that compare many small runs (mixtures of sources, learning rates) train
one of them: the loop of pre-training, from weights that follow from the seed alone.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from baiwen.dist import World
from baiwen.model import count
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.train.loop import Loop, train
from baiwen.train.losses import Batch, lm
from baiwen.train.optim import Optim
from baiwen.train.parallel import Parallel, shard
from baiwen.train.schedule import Schedule


class Taught(Protocol):
    """What says how a proxy is trained: the knobs of a stage, or of one run of it."""

    @property
    def optim(self) -> Optim:
        """Its optimizer."""

    @property
    def schedule(self) -> Schedule:
        """Its learning rate over the steps."""


class Around(Protocol):
    """The knobs of a stage that all its proxies share."""

    loop: Loop
    parallel: Parallel


def taught(
    shape: ModelConfig,
    batches: Callable[[int], Sequence[Batch]],
    how: Taught,
    around: Around,
    world: World,
    out: Path,
    *,
    steps: int,
    seed: int,
    length: int,
    heldout: Sequence[Batch] = (),
    until: int | None = None,
) -> Transformer:
    """A fresh model of `shape`, trained for `steps` as `train/loop.py` does, or `until` one.

    length: tokens of a row, on which the FLOPs that are logged depend.
    """
    fresh = Transformer(shape)
    fresh.init_weights(seed)
    model = shard(fresh, around.parallel, world)
    train(
        model,
        batches,
        lm,
        steps=steps,
        optim=how.optim,
        schedule=how.schedule,
        loop=around.loop,
        world=world,
        out=out,
        heldout=heldout,
        flops_per_token=count.flops_per_token(shape, length),
        until=until,
    )
    return model
