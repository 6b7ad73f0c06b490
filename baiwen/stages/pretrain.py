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

With `optim.lr = "law"` or `tokens_per_step = "law"` the number is what `law` says of N (without
embeddings, of a mixture of experts the active ones) and D of the recipe, tokens_per_step to the
nearest multiple of micro_tokens on all ranks. `law.json` in the folder records both, and holds for
a resume; the recipe stays as typed.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator

from baiwen import files
from baiwen.config import Count, Input, Knobs
from baiwen.data import heldout, mixture, shards
from baiwen.data.loader import Batch, Loader, Split
from baiwen.data.mixture import Mixture
from baiwen.dist import World
from baiwen.errors import UserError
from baiwen.mistakes import nearest
from baiwen.model import count, weights
from baiwen.model.config import ModelConfig
from baiwen.model.positions import DualChunk
from baiwen.model.sizes import SIZES, fitted
from baiwen.model.transformer import Transformer
from baiwen.scaling.presets import Target
from baiwen.scaling.settings import Law, Numbers, Setting, begin, misasked, numbers, setting
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.train import estimate
from baiwen.train.balance import Routers
from baiwen.train.context import share
from baiwen.train.loop import Loop, train
from baiwen.train.losses import lm
from baiwen.train.optim import AskedOptim, Optim
from baiwen.train.parallel import ContextParallel, session, shard
from baiwen.train.publish import publish
from baiwen.train.schedule import Schedule
from baiwen.train.work import UnplannedError, Work, needed

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
    # Over all ranks; "law": what `law` says. Not reported.
    tokens_per_step: Count | Literal["law"] = 2**20
    law: Law | None = None  # laws.json of a scaling stage; or a published one: steplaw, deepseek
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
    optim: AskedOptim = AskedOptim()
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
        step = self.tokens_per_step if isinstance(self.tokens_per_step, int) else self.micro_tokens
        Split(self.sequence_length, step, self.micro_tokens)  # on any ranks
        self.parallel.check(self.sequence_length)
        if told := misasked(self):
            raise ValueError(told)
        return self


class Settled(Config):
    """A configuration with numbers where a law was asked."""

    tokens_per_step: Count = 2**20
    optim: Optim = Optim()


def run(config: Config, folder: files.RunFolder) -> None:
    """Train and write the model."""
    shape = _shape(config)
    with session(config, shape) as world:
        own = _settled(config, begin(config, _asked(config, shape), folder, world))
        tokenizer = Tokenizer.load(own.tokenizer)
        pools = mixture.pools(own.shards, tokenizer.fingerprint, own.sequence_length, own.mixture)
        loader = Loader(pools, Split.of(own, world), own.seed)
        if world.main:
            files.write_json(folder.path / "rows.json", loader.describe())
        model = shard(_model(own, tokenizer), own.parallel, world)
        shared = partial(share, form=own.parallel.context_form, world=world)
        best = train(
            model,
            lambda step: [shared(batch) for batch in loader.step(step)],
            partial(lm, z_loss=own.z_loss),
            steps=_steps(own, loader),
            optim=own.optim,
            schedule=own.schedule,
            loop=own.loop,
            world=world,
            out=folder.path,
            heldout=[shared(batch) for batch in _heldout(own, tokenizer, world)],
            flops_per_token=count.flops_per_token(model.config, own.sequence_length),
            routers=Routers(model.config, world, own.router_z_loss, own.router_micro),
        )
        dtype = getattr(torch, own.save_dtype)
        publish(model, tokenizer, folder.path, world, dtype=dtype, chat=False, best=best)


def work(config: Config, shape: ModelConfig | None = None) -> Work:
    """What is to be trained, of another shape if one is given."""
    return _planned(config, shape)[0]


def plan(config: Config) -> dict[str, str | int]:
    """What a run would take on this machine."""
    asked, found = _planned(config)
    return found.told | estimate.figures(asked.on(1), _settled(config, found))


def _planned(config: Config, shape: ModelConfig | None = None) -> tuple[Work, Numbers]:
    """What is to be trained, and in which numbers by one process."""
    if shape is None:
        if config.size is None and config.start is not None:
            needed(start=config.start)
        shape = _shape(config)
    found = numbers(config, _asked(config, shape))
    if found is None:
        raise UnplannedError("the law tells no number before its inputs are there")
    step, unit = found.tokens_per_step, None
    if config.tokens_per_step == "law" and found.setting is not None:
        step, unit = round(found.setting.batch.value), config.micro_tokens
    asked = Work(
        shape,
        config.sequence_length,
        step,
        _planned_tokens(config),
        unit,
        merging=config.optim.merging.itemsize,
        alone=config.optim.alone,
    )
    return asked, found


def _asked(config: Config, shape: ModelConfig) -> Setting | None:
    """What the recipe's law says; None where none is asked, or an input is not there yet."""
    law = config.law
    if law is None or (isinstance(law, Path) and not law.exists()):
        return None
    tokens = _planned_tokens(config)
    if tokens is None:
        return None
    return setting(law, Target.of(shape, tokens, config.sequence_length))


def _settled(config: Config, found: Numbers) -> Settled:
    """The configuration in numbers; the law has said what it was asked."""
    own = {"tokens_per_step": found.tokens_per_step, "law": None}
    return Settled(**dict(config) | own | {"optim": Optim(**dict(config.optim) | {"lr": found.lr})})


def _planned_tokens(config: Config) -> int | None:
    """Tokens to train on; None where that hangs on shards that are not there yet."""
    if isinstance(config.tokens_per_step, int) and config.steps is not None:
        return config.steps * config.tokens_per_step
    if config.epochs is None:
        return config.tokens
    if not config.shards.exists():
        return None
    sources = [shards.Shards.open(config.shards / name) for name in shards.names(config.shards)]
    return math.ceil(config.epochs * sum(map(len, sources)))


def _steps(config: Settled, loader: Loader) -> int:
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


def _heldout(config: Settled, tokenizer: Tokenizer, world: World) -> Sequence[Batch]:
    """This rank's share of the held-out rows."""
    if config.heldout is None:
        return ()
    split = Split.of(config, world)
    return heldout.rows(config.heldout, tokenizer, split, config.heldout_tokens)
