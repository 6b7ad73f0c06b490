"""Online reinforcement learning: what does better than its group becomes likelier (report, 4.3).

    stage = "grpo"
    out = "runs/tiny/grpo"
    start = "runs/tiny/dpo"
    prompts = "runs/tiny/instruct/prompts.jsonl"
    prompts_per_step = 16        # report: 256, inferred
    steps = 100

Each step rolls out answers with the very weights that train, judges them, and updates once. Writes
an HF folder of a chat model with `metrics.jsonl`, `device.json`, `rollouts.jsonl` (every answer),
`alarms.json` and `order/` (how much the answers to each prompt differ).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator

from baiwen import files
from baiwen.config import Count, Input, Knobs
from baiwen.dist import World
from baiwen.engine import capacity, pretrained
from baiwen.engine.engine import Engine
from baiwen.engine.score import score
from baiwen.errors import UserError
from baiwen.model import count, weights
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.rl import planned, prompts, tools, vllm, workers
from baiwen.rl.episodes import Episodes
from baiwen.rl.order import Order
from baiwen.rl.prompts import Prompt
from baiwen.rl.record import Alarms
from baiwen.rl.rewards import Reward, Score
from baiwen.rl.rollout import Answer, Local, Sampler
from baiwen.rl.tools import Tools
from baiwen.rl.vllm import Vllm
from baiwen.rl.workers import Workers
from baiwen.tokenizer.answers import closed
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.train import estimate
from baiwen.train.loop import Loop, train
from baiwen.train.losses import Loss
from baiwen.train.optim import Optim
from baiwen.train.parallel import Parallel, session, shard
from baiwen.train.policy import ALGORITHMS, Clip, Name, policy
from baiwen.train.publish import publish
from baiwen.train.schedule import Schedule
from baiwen.train.work import Work, needed

Positive = Annotated[float, Field(gt=0)]


class Config(Knobs):
    """Which model to reward for what."""

    every_rank: ClassVar[bool] = True

    out: Path  # the run folder
    start: Input  # the model to teach: an HF folder of a chat model with its tokenizer
    reference: Input | None = None  # the model to stay near to; none: start
    prompts: Input  # JSONL: prompt, answer, verifier, kind, tools; report: the reward model's
    reward: Reward = Reward()
    steps: Count | None = None  # updates; none: by epochs
    epochs: Positive = 1.0  # times that the prompts are gone through, where steps is none
    prompts_per_step: Count = 256  # of an update, over all ranks; report: 2048 samples of 8
    samples_per_prompt: Annotated[int, Field(gt=1)] = 8  # answers of a group; report: 8
    steps_per_rollout: Count = 1  # updates on a rollout; report: 1, inferred; Qwen2.5-Math: 8
    zero_variance: Literal["drop", "keep"] = "drop"  # groups whose answers are worth the same
    refills: Annotated[int, Field(ge=0)] = 2  # times that further prompts fill their places
    max_tokens: Count = 2048  # of an answer; not reported
    temperature: Positive = 1.0  # of the answers; not reported
    tools: Tools = Tools()
    workers: Workers = Workers()
    vllm: Vllm | None = None  # a server that rolls out, in place of the engine and of workers
    order: Order = Order()
    algorithm: Name = "grpo"  # of the loss; report: grpo
    eps: Positive | None = None  # how far below 1 a ratio counts; none: the algorithm's own
    eps_high: Positive | None = None  # how far above 1; none: the same, or the algorithm's own
    beta: Annotated[float, Field(ge=0)] = 1e-3  # weight of the KL; report: 1e-3 for Qwen2.5-Math
    truncation: Positive = 2.0  # cap of the weights that correct for the sampler, off-policy
    # A mixture trains on the experts that its sampler chose; not reported (R3: 2510.11370).
    replay: bool = True
    mismatch: Positive = 0.1  # nats, trainer to sampler, beyond which a token is counted
    alarms: Alarms = Alarms()
    micro_tokens: Count = 32_768  # that one rank computes at once, in training
    sequences: Count = 256  # answers that one rank samples at once
    optim: Optim = Optim(lr=1e-6)  # report: unknown; Qwen2.5-Math: 1e-5 (7B), 5e-6 (72B)
    schedule: Schedule = Schedule(shape="constant")  # not reported
    loop: Loop = Loop()
    parallel: Parallel = Parallel()
    seed: int = 0  # of the answers and of the order among equals
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # of matmuls; the weights train in fp32
    threads: Count | None = None  # of the CPU; none: torch's choice
    save_dtype: Literal["bfloat16", "float32"] = "bfloat16"  # of the written weights

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.loop.keep_best:
            raise ValueError("loop.keep_best needs a held-out loss, which there is none of here")
        if self.parallel.compile:
            raise ValueError("parallel.compile: the engine runs the same blocks, uncompiled")
        if self.workers.staleness % self.steps_per_rollout:
            raise ValueError("workers.staleness must be a multiple of steps_per_rollout")
        if self.workers.count and self.vllm:
            raise ValueError("workers.count and vllm: either rolls out, not both")
        if self.workers.staleness and not (self.workers.count or self.vllm):
            raise ValueError("workers.staleness needs workers.count or vllm: this engine trains")
        if self.tools.python and self.tools.turns == 1:
            raise ValueError("tools.python needs tools.turns above 1: a turn more reads its output")
        return self

    @property
    def stale(self) -> bool:
        """Whether an update may be on answers of other weights than it changes."""
        return self.steps_per_rollout > 1 or self.workers.staleness > 0

    @property
    def clip(self) -> Clip:
        """The ratios that still count."""
        own = ALGORITHMS[self.algorithm].clip
        alike = self.eps if own.low == own.high else None  # dapo's higher clip stays its own
        return Clip(self.eps or own.low, self.eps_high or alike or own.high)


def check(config: Config, to_come: Sequence[Path]) -> None:
    """Stop where the prompts, if they are there, name what does not exist."""
    if config.prompts.exists() and not any(
        config.prompts.is_relative_to(folder) for folder in to_come
    ):
        prompts.rows(config.prompts, config.reward.verified)


def run(config: Config, folder: files.RunFolder) -> None:
    """Teach the model by its own answers and write it."""
    with (
        session(config, weights.read_config(config.start)) as world,
        ExitStack() as stack,
    ):
        tokenizer = Tokenizer.load(config.start)
        asked = _prompts(config, tokenizer)
        respond = tools.answering(config.tools, tokenizer) if config.tools.turns > 1 else None
        model = shard(_load(config.start), config.parallel, world)
        steps = _steps(config, len(asked))
        source = Episodes(
            config,
            asked,
            model,
            stack.enter_context(_sampler(config, model, tokenizer, asked, world)),
            _score(config, tokenizer, world),
            world=world,
            folder=folder.path,
            room=_room(config),
            reference=_reference(config, world),
            respond=respond,
            turns=config.tools.turns,
            decode=tokenizer.decode,
            staleness=config.workers.staleness,
            steps=steps,
        )
        stack.enter_context(closing(source.ahead))
        train(
            model,
            source.batches,
            _objective(config),
            steps=steps,
            optim=config.optim,
            schedule=config.schedule,
            loop=config.loop,
            world=world,
            out=folder.path,
            flops_per_token=count.flops_per_token(model.config, config.max_tokens),
            source=source,
        )
        source.close()
        dtype = getattr(torch, config.save_dtype)
        publish(model, tokenizer, folder.path, world, dtype=dtype, chat=True)


def work(config: Config, shape: ModelConfig | None = None) -> Work:
    """What is to be trained, of another shape if one is given; answers at their full length."""
    needed(start=config.start, prompts=config.prompts)
    lengths = [len(prompt.ids) for prompt in _prompts(config, Tokenizer.load(config.start))]
    own, steps = weights.read_config(config.start), _steps(config, len(lengths))
    return planned.work(config, shape or own, lengths, steps=steps, room=_room(config))


def plan(config: Config) -> dict[str, str | int]:
    """What a run would take on this machine at most."""
    asked, order = work(config), config.order
    told = estimate.figures(asked, config)
    told["tokens of an answer"] = f"{config.max_tokens:,}, the most there can be"
    if order.by_variance and not order.answers and asked.trees is not None:
        answers = asked.trees.total * (order.samples or config.samples_per_prompt)
        again = f" and every {order.refresh} steps" if order.refresh else ""
        told["answers for the order"] = (
            f"{answers:,}, before the first step{again}: not in FLOPs and time"
        )
    return told


def _steps(config: Config, asked: int) -> int:
    return config.steps or math.ceil(config.epochs * asked / config.prompts_per_step)


def _objective(config: Config) -> partial[Loss]:
    return partial(
        policy,
        algorithm=config.algorithm,
        clip=config.clip,
        beta=config.beta,
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        truncation=config.truncation if config.stale else None,
        bound=config.mismatch,
    )


def _room(config: Config) -> int:
    """The most tokens of a prompt and its answer: of the model, and of a micro-batch."""
    return min(capacity.longest(weights.read_config(config.start)), config.micro_tokens)


def _prompts(config: Config, tokenizer: Tokenizer) -> list[Prompt]:
    return prompts.read(
        config.prompts,
        tokenizer,
        _room(config) - config.max_tokens,
        config.reward.verified,
        config.tools.offered,
    )


def _load(folder: Path) -> Transformer:
    return weights.load(folder, dtype=torch.float32)


def _reference(config: Config, world: World) -> Transformer | None:
    """The model to stay near to, where that counts."""
    if not config.beta:
        return None
    folder = config.reference or config.start
    _refuse_other_tokenizer(folder, config.start, "reference")
    return shard(_load(folder).requires_grad_(False), Parallel(), world)


@contextmanager
def _sampler(
    config: Config, model: Transformer, tokenizer: Tokenizer, asked: Sequence[Prompt], world: World
) -> Iterator[Sampler]:
    """A server, or workers; or the engine on the model that trains, or on a copy if it is split.

    The cache is as large as the answers need, whatever memory there is: so a run that is resumed
    computes them in the same batches.
    """
    routes = config.replay and model.config.is_moe
    if config.vllm:
        if world.size > 1:
            raise UserError(f"vllm needs a single training process; there are {world.size}")
        if routes:
            raise UserError(
                "vllm does not tell here which experts it chose, and replay = true trains on "
                "those.\nSet replay = false, or roll out by the engine or by workers."
            )
        with vllm.served(config.vllm, config.start, tokenizer, world.dtype) as server:
            yield server
        return
    rollout = planned.rollout(config, [len(prompt.ids) for prompt in asked], _room(config))
    ranks = world.size
    if config.workers.count:
        ranks, rollout = 1, replace(rollout, prompts=config.workers.share, updates=1)
    tokens, sequences = rollout.tokens(ranks), rollout.at_once(ranks)
    if config.workers.count:
        dtype = str(world.dtype).removeprefix("torch.")
        spec = workers.Spec(model.config, tokenizer.vocabulary, tokens, sequences, dtype, routes)
        with workers.cluster(config.workers, spec) as cluster:
            yield cluster
        return
    if world.size > 1:
        model = _load(config.start).requires_grad_(False).to(world.device)
    engine = Engine(model, tokenizer, cache_tokens=tokens, sequences=sequences, routes=routes)
    yield Local(engine, world.autocast)


def _score(config: Config, tokenizer: Tokenizer, world: World) -> Score | None:
    """What the reward model, if there is one, says of answers."""
    if config.reward.model is None:
        return None
    _refuse_other_tokenizer(config.reward.model, config.start, "reward.model")
    model, _ = pretrained.load_reward(config.reward.model, world.device, world.dtype)

    def scores(pairs: Sequence[tuple[Prompt, Answer]]) -> list[float]:
        read = [closed(tokenizer, [*prompt.ids, *answer.ids]) for prompt, answer in pairs]
        return score(model, tokenizer, read).tolist()

    return scores


def _refuse_other_tokenizer(folder: Path, start: Path, key: str) -> None:
    """UserError where a folder's ids mean something else than those of the model that trains."""
    if Tokenizer.load(folder).fingerprint != Tokenizer.load(start).fingerprint:
        raise UserError(
            f"{key} = {folder} has another tokenizer than start = {start}: its ids mean other "
            "words.\nGive one that was made from the same model."
        )
