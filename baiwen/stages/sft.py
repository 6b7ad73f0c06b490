"""Supervised fine-tuning: a base model learns to answer (report, section 4.1).

    stage = "sft"
    out = "runs/tiny/sft"
    start = "runs/tiny/extend"
    data = "runs/tiny/instruct/train.jsonl"
    sequence_length = 512        # report: 32768

Conversations are packed whole into rows, do not see each other, and only what the assistant says is
learned. Several files are a mixture: for the second stage of long context (spec 10) short and long
ones, `data = {short = "...", long = "..."}`, with `mixture.weights` or `mixture.long_share`.
Writes an HF folder of a chat model with `metrics.jsonl`, `rows.json` and `device.json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator

from baiwen import files
from baiwen.config import Count, Input, Knobs
from baiwen.data import conversations
from baiwen.data.loader import Batch, Loader, Split, sample
from baiwen.data.mixture import Mixture
from baiwen.data.pool import Pool
from baiwen.dist import World
from baiwen.model import count, weights
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.train import estimate
from baiwen.train.context import share
from baiwen.train.loop import Loop, train
from baiwen.train.losses import lm
from baiwen.train.optim import Optim
from baiwen.train.parallel import ContextParallel, session, shard
from baiwen.train.publish import publish
from baiwen.train.schedule import Schedule
from baiwen.train.work import Work, needed


class Config(Knobs):
    """Which model to teach what."""

    every_rank: ClassVar[bool] = True

    out: Path  # the run folder
    start: Input  # the model to teach: an HF folder with its tokenizer
    # conversations (JSONL: messages, tools), or several files by name; report: over a million
    data: Input | Annotated[dict[str, Input], Field(min_length=1)]
    mixture: Mixture = Mixture()
    heldout: Input | None = None  # conversations whose loss is measured every loop.eval_every steps
    heldout_tokens: Count = 65_536  # of them that are measured
    epochs: Annotated[float, Field(gt=0)] = 2  # report: 2
    sequence_length: Count = 32_768  # tokens of a row; report: 32768
    tokens_per_step: Count = 2**20  # over all ranks; not reported
    micro_tokens: Count = 32_768  # that one rank, or those that share rows, compute at once
    train: conversations.Train = "all"  # which turns of the assistant are learned: all, last
    too_long: conversations.TooLong = "drop"  # conversations longer than a row: drop, truncate
    optim: Optim = Optim(lr=7e-6)  # report: 7e-6, weight decay 0.1, clip 1.0
    schedule: Schedule = Schedule(final_lr=7e-7)  # report: to 7e-7, by a shape it does not name
    loop: Loop = Loop()
    parallel: ContextParallel = ContextParallel()
    seed: int = 0  # of the order of rows
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # of matmuls; the weights train in fp32
    threads: Count | None = None  # of the CPU; none: torch's choice
    workers: Count = 1  # processes that render conversations
    save_dtype: Literal["bfloat16", "float32"] = "bfloat16"  # of the written weights

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.loop.keep_best and self.heldout is None:
            raise ValueError("loop.keep_best needs heldout, whose loss says which is the best")
        Split(self.sequence_length, self.tokens_per_step, self.micro_tokens)  # on any ranks
        self.parallel.check(self.sequence_length)
        return self


def run(config: Config, folder: files.RunFolder) -> None:
    """Teach the model and write it."""
    with session(config, weights.read_config(config.start)) as world:
        tokenizer = Tokenizer.load(config.start)
        loader = Loader(
            _pools(config, _files(config), config.mixture), Split.of(config, world), config.seed
        )
        if world.main:
            files.write_json(folder.path / "rows.json", loader.describe())
        model = shard(_model(config), config.parallel, world)
        shared = partial(share, form=config.parallel.context_form, world=world)
        best = train(
            model,
            lambda step: [shared(batch) for batch in loader.step(step)],
            lm,
            steps=loader.steps(config.epochs),
            optim=config.optim,
            schedule=config.schedule,
            loop=config.loop,
            world=world,
            out=folder.path,
            heldout=[shared(batch) for batch in _heldout(config, world)],
            flops_per_token=count.flops_per_token(model.config, config.sequence_length),
        )
        dtype = getattr(torch, config.save_dtype)
        publish(model, tokenizer, folder.path, world, dtype=dtype, chat=True, best=best)


def work(config: Config, shape: ModelConfig | None = None) -> Work:
    """What is to be trained, of another shape if one is given."""
    paths, tokens = _files(config), None
    if all(path.exists() for path in (config.start, *paths.values())):
        split = Split(config.sequence_length, config.tokens_per_step, config.micro_tokens)
        steps = Loader(_pools(config, paths, config.mixture), split).steps(config.epochs)
        tokens = steps * config.tokens_per_step  # padding is computed, too
    if shape is None:
        needed(start=config.start)
        shape = weights.read_config(config.start)
    return Work(
        shape,
        config.sequence_length,
        config.tokens_per_step,
        tokens,
        merging=config.optim.merging.itemsize,
        alone=config.optim.alone,
    )


def plan(config: Config) -> dict[str, str | int]:
    """What a run would take on this machine."""
    return estimate.figures(work(config), config)


def _files(config: Config) -> dict[str, Path]:
    """The files of conversations by name."""
    return config.data if isinstance(config.data, dict) else {config.data.name: config.data}


def _pools(config: Config, paths: Mapping[str, Path], mixture: Mixture) -> list[Pool]:
    return conversations.pools(
        paths,
        config.start,
        config.sequence_length,
        mixture,
        train=config.train,
        too_long=config.too_long,
        workers=config.workers,
    )


def _model(config: Config) -> Transformer:
    """The model to teach, in fp32; its config.json allows rows as long as those it learns from."""
    model = weights.load(config.start, dtype=torch.float32)
    length = max(config.sequence_length, model.config.max_position_embeddings)
    model.config = replace(model.config, max_position_embeddings=length)
    return model


def _heldout(config: Config, world: World) -> Sequence[Batch]:
    """This rank's share of the held-out rows."""
    if config.heldout is None:
        return ()
    (pool,) = _pools(config, {config.heldout.name: config.heldout}, Mixture())
    return sample(pool, Split.of(config, world), config.heldout_tokens)
