"""Pre-training, and longer context as the same stage again (report, sections 3.2 and 3.3).

    stage = "pretrain"
    out = "runs/tiny/pretrain"
    tokenizer = "runs/tiny/tokenizer"
    shards = "runs/tiny/shards"
    size = "tiny"                # or start = "runs/tiny/pretrain", to go on from a model
    sequence_length = 512        # report: 4096, then 32768
    steps = 300                  # or tokens, or epochs

Writes an HF folder with `metrics.jsonl`, `rows.json` (what was loaded) and `device.json`. To extend
the context, give `start`, a longer `sequence_length`, a larger `rope_theta` (adjusted base
frequency, Xiong et al., 2023) and `mixture.long_share`: config.json then says what was trained.
Rows that no device holds are shared by several: `parallel.context`.
"""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator

from baiwen import files
from baiwen.config import Input, Knobs
from baiwen.data import mixture, read, shards
from baiwen.data.loader import Batch, Loader, Split, sample
from baiwen.data.mixture import Mixture
from baiwen.data.pack import best_fit
from baiwen.data.pool import Pool, cut
from baiwen.dist import World
from baiwen.errors import UserError
from baiwen.mistakes import nearest
from baiwen.model import count, weights
from baiwen.model.config import ModelConfig
from baiwen.model.positions import DualChunk
from baiwen.model.sizes import SIZES, fitted
from baiwen.model.transformer import Transformer
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.train import estimate
from baiwen.train.balance import Routers
from baiwen.train.cluster import Work
from baiwen.train.context import share
from baiwen.train.loop import Loop, train
from baiwen.train.losses import lm
from baiwen.train.optim import Optim
from baiwen.train.parallel import ContextParallel, session, shard
from baiwen.train.publish import publish
from baiwen.train.schedule import Schedule

Count = Annotated[int, Field(gt=0)]
# What makes a size, beside the vocabulary, which is the tokenizer's.
SHAPE = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "tie_word_embeddings",
    "num_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
)


class Chunks(Knobs):
    """Dual chunk attention: no distance of two tokens exceeds `chunk_size` (spec 6.2)."""

    chunk_size: Count  # tokens of the longest distance; the 1M models: 262144, the trained length
    local_size: Count  # tokens up to which every distance stays true; the 1M models: 8192


class Config(Knobs):
    """What to train, on what, for how long."""

    every_rank: ClassVar[bool] = True

    out: Path  # the run folder
    shards: Input  # folder of a shards stage: one source a subfolder
    tokenizer: Input  # the one that the shards were written with
    size: str | None = None  # of a fresh model, or that start must have: baiwen/model/sizes.py
    start: Input | None = None  # an HF folder to go on from; none: a fresh model
    heldout: Input | None = None  # documents whose loss is measured every loop.eval_every steps
    heldout_tokens: Count = 65_536  # of them that are measured
    sequence_length: Count = 4096  # tokens of a row; report: 4096, then 32768
    tokens_per_step: Count = 2**20  # over all ranks; not reported
    micro_tokens: Count = 8192  # that one rank, or those that share rows, compute at once
    steps: Count | None = None  # of the optimizer; or
    tokens: Count | None = None  # to train on; report: 18e12; or
    epochs: Annotated[float, Field(gt=0)] | None = None  # over the shards
    # Base of the rotary frequencies; none: that of size or start. Report: 1e4, from 32768 on 1e6.
    rope_theta: Annotated[float, Field(gt=0)] | None = None
    # Dual chunk attention; none: that of size or start. Report: when served, of training unknown.
    dual_chunk: Chunks | None = None
    # Weight of the balance of experts; none: that of size or start. Published MoEs: 0.001.
    router_aux_loss_coef: Annotated[float, Field(ge=0)] | None = None
    # Of each micro-batch's own balance, beside the whole step's; unknown (2501.11873: 0.01).
    router_micro: Annotated[float, Field(ge=0)] = 0.0
    router_z_loss: Annotated[float, Field(ge=0)] = 0.0  # of the experts; unknown (ST-MoE: 1e-3)
    z_loss: Annotated[float, Field(ge=0)] = 0.0  # weight of logsumexp^2; not reported (PaLM: 1e-4)
    mixture: Mixture = Mixture()
    optim: Optim = Optim()
    schedule: Schedule = Schedule()
    loop: Loop = Loop()
    parallel: ContextParallel = ContextParallel()
    seed: int = 0  # of the weights and of the order of rows
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # of matmuls; the weights train in fp32
    threads: Count | None = None  # of the CPU; none: torch's choice
    save_dtype: Literal["bfloat16", "float32"] = "bfloat16"  # of the written weights

    @field_validator("size")
    @classmethod
    def _known(cls, size: str | None) -> str | None:
        if size is not None and size not in SIZES:
            raise ValueError(f"is none of {', '.join(SIZES)}.{nearest(size, list(SIZES))}")
        return size

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.size is None and self.start is None:
            raise ValueError("needs size (a fresh model) or start (an HF folder to go on from)")
        if sum(value is not None for value in (self.steps, self.tokens, self.epochs)) != 1:
            raise ValueError("needs one of steps, tokens and epochs")
        if self.loop.keep_best and self.heldout is None:
            raise ValueError("loop.keep_best needs heldout, whose loss says which is the best")
        Split(self.sequence_length, self.tokens_per_step, self.micro_tokens)  # on any ranks
        self.parallel.check(self.sequence_length)
        return self


def run(config: Config, folder: files.RunFolder) -> None:
    """Train and write the model."""
    with session(config) as world:
        tokenizer = Tokenizer.load(config.tokenizer)
        pools = mixture.pools(
            config.shards, tokenizer.fingerprint, config.sequence_length, config.mixture
        )
        loader = Loader(pools, Split.of(config, world), config.seed)
        if world.main:
            files.write_json(folder.path / "rows.json", loader.describe())
        model = shard(_model(config, tokenizer), config.parallel, world)
        shared = partial(share, form=config.parallel.context_form, world=world)
        best = train(
            model,
            lambda step: [shared(batch) for batch in loader.step(step)],
            partial(lm, z_loss=config.z_loss),
            steps=_steps(config, loader),
            optim=config.optim,
            schedule=config.schedule,
            loop=config.loop,
            world=world,
            out=folder.path,
            heldout=[shared(batch) for batch in _heldout(config, tokenizer, world)],
            flops_per_token=count.flops_per_token(model.config, config.sequence_length),
            routers=Routers(model.config, world, config.router_z_loss, config.router_micro),
        )
        dtype = getattr(torch, config.save_dtype)
        publish(model, tokenizer, folder.path, world, dtype=dtype, chat=False, best=best)


def work(config: Config, shape: ModelConfig | None = None) -> Work | None:
    """What is to be trained, of another shape if one is given; None where none is known yet."""
    if shape is None and config.size is None and not (config.start and config.start.exists()):
        return None
    tokens, length = _planned_tokens(config), config.sequence_length
    return Work(shape or _shape(config), length, config.tokens_per_step, tokens)


def plan(config: Config) -> dict[str, str | int]:
    """What a run would take on this machine, as far as its inputs are there."""
    asked = work(config)
    if asked is None:
        return {}
    length, step = asked.sequence_length, asked.tokens_per_step
    return estimate.figures(asked.shape, asked.tokens, config, length=length, step=step)


def _planned_tokens(config: Config) -> int | None:
    """Tokens to train on; None where that hangs on shards that are not there yet."""
    if config.epochs is None:
        return config.tokens or (config.steps or 0) * config.tokens_per_step
    if not config.shards.exists():
        return None
    sources = [shards.Shards.open(config.shards / name) for name in shards.names(config.shards)]
    return math.ceil(config.epochs * sum(map(len, sources)))


def _steps(config: Config, loader: Loader) -> int:
    if config.epochs is not None:
        return loader.steps(config.epochs)
    return config.steps or math.ceil((config.tokens or 0) / config.tokens_per_step)


def _model(config: Config, tokenizer: Tokenizer) -> Transformer:
    """A fresh model for this tokenizer, or the one to go on from; fp32."""
    if config.start is None:
        model = Transformer(fitted(_shape(config), len(tokenizer)))
        model.init_weights(config.seed)
        return model
    model = weights.load(config.start, dtype=torch.float32)
    if model.config.vocab_size < len(tokenizer):
        raise UserError(
            f"start = {config.start}: its vocabulary has {model.config.vocab_size:,} rows, but the "
            f"tokenizer {config.tokenizer} has {len(tokenizer):,} tokens. Use the model's own."
        )
    model.config = _shape(config)
    return model


def _shape(config: Config) -> ModelConfig:
    """The configuration of the model to train: that of size or start, with the recipe's changes."""
    length = config.sequence_length
    if config.start is not None and config.start.exists():
        shape = weights.read_config(config.start)
        _expect(config, shape)
        length = max(length, shape.max_position_embeddings)
    else:  # fresh, or planned before there is anything to go on from
        shape = SIZES[config.size or ""]
    theta, balance, chunks = config.rope_theta, config.router_aux_loss_coef, config.dual_chunk
    dual = shape.dual_chunk_attention_config
    if chunks is not None:
        dual = DualChunk(chunks.chunk_size, chunks.local_size, chunks.chunk_size)
    return replace(
        shape,
        max_position_embeddings=length,
        rope_theta=shape.rope_theta if theta is None else theta,
        dual_chunk_attention_config=dual,
        router_aux_loss_coef=shape.router_aux_loss_coef if balance is None else balance,
    )


def _expect(config: Config, found: ModelConfig) -> None:
    """Stop where `start` is not of the size that the recipe names beside it."""
    if config.size is None:
        return
    wanted = SIZES[config.size]
    for name in SHAPE:
        if getattr(found, name) != getattr(wanted, name):
            raise UserError(
                f"start = {config.start}: its {name} is {getattr(found, name)}, but that of size = "
                f'"{config.size}" is {getattr(wanted, name)}. Give the model of that size, or '
                "leave size out."
            )


def _heldout(config: Config, tokenizer: Tokenizer, world: World) -> Sequence[Batch]:
    """This rank's share of the held-out rows; each rank tokenizes them for itself."""
    if config.heldout is None:
        return ()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = read.texts_of(read.find([config.heldout]))
        shards.write_index(folder, [shards.write_shard(folder, 0, texts, tokenizer)], tokenizer)
        source = shards.Shards.open(folder)
        pieces = cut(source.ends, config.sequence_length)
        pool = Pool("heldout", source, pieces, best_fit(pieces.length, config.sequence_length))
        return sample(pool, Split.of(config, world), config.heldout_tokens)
