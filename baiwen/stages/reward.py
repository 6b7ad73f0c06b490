"""Reward: a model learns which of a prompt's answers is the better one (report, section 4.3).

    stage = "reward"
    out = "runs/tiny/reward"
    start = "runs/tiny/sft"
    data = ["runs/tiny/pairs/answers.jsonl", "runs/people/pairs.jsonl"]

The SFT model with a scalar head (spec 9.2) learns from pairs, or from several right and wrong
answers to a prompt: one loss for both (`train/ranking.py`). A share of the prompts, chosen by their
own words, is held out. Writes an HF folder of a reward model with `metrics.jsonl`, `device.json`,

    answers.json   {"learned", "heldout": {"prompts", "rows", "answers"}, "dropped": {reason: n}}
    scores.json    {"start", "parameters", "prompts", "pairs", "by_kind", "by_source",
                    "accuracy": {"value", "n", "standard_error", "low", "high"},
                    "longer": the same of preferring the longer answer,
                    "margin": {"mean", "deviation", "p5" ... "p95"}, "score": {"better", "worse"},
                    "calibration": {"error", "bins": [{"from", "to", "predicted", "observed",
                    "n"}]}, "best": {"chosen", "drawn"}}    of what was held out
                    (`eval/preferences.py` says what each is)
    rewards.jsonl  {"rewards", "ranks", "lengths", "kind", "source"} of every held-out row
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from statistics import fmean
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator

from baiwen import dist, files, log
from baiwen.config import Count, Input, Knobs
from baiwen.data import pairs, ranked, trees
from baiwen.data.pairs import Limits
from baiwen.data.ranked import Ranked, RankedTrees
from baiwen.data.trees import TreeBatch
from baiwen.dist import World
from baiwen.engine import pretrained
from baiwen.errors import UserError
from baiwen.eval import preferences
from baiwen.eval.preferences import Judged
from baiwen.model import count, weights
from baiwen.model.config import ModelConfig
from baiwen.model.reward import RewardModel
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.train import estimate
from baiwen.train.loop import Loop, to_device, train
from baiwen.train.optim import Optim
from baiwen.train.parallel import Parallel, release, session, shard
from baiwen.train.publish import publish
from baiwen.train.ranking import answer_rewards, ranking
from baiwen.train.schedule import Schedule
from baiwen.train.work import Work, needed, on_trees


class Config(Knobs):
    """Which model learns from whose preferences."""

    every_rank: ClassVar[bool] = True

    out: Path  # the run folder
    start: Input  # the model that gets a head; report: the SFT model, for mathematics
    # pairs.jsonl or answers.jsonl of `pairs` and `judge`, or of people; report: all of these
    data: Annotated[tuple[Input, ...], Field(min_length=1)]
    heldout: Input | None = None  # the same to measure on; none: a share of the prompts in data
    heldout_share: Annotated[float, Field(gt=0, lt=1)] = 0.1  # of the prompts, without heldout
    epochs: Annotated[float, Field(gt=0)] = 1  # not reported
    prompts_per_step: Count = 64  # with all their answers, over all ranks; not reported
    sequence_length: Count | None = None  # tokens of a prompt with an answer; none: the context
    micro_tokens: Count = 32_768  # that one rank computes at once, a prompt and its answers whole
    too_long: pairs.TooLong = "error"  # what becomes of longer ones: error, drop
    center: Annotated[float, Field(ge=0)] = 0.0  # weight of (r_better + r_worse)^2; not reported
    optim: Optim = Optim(lr=1e-5)  # not reported
    schedule: Schedule = Schedule()
    loop: Loop = Loop()
    parallel: Parallel = Parallel()
    seed: int = 0  # of the head and the order of prompts
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # of matmuls; the weights train in fp32
    threads: Count | None = None  # of the CPU; none: torch's choice
    workers: Count = 1  # processes that render answers
    save_dtype: Literal["bfloat16", "float32"] = "bfloat16"  # of the written weights

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.optim.merging.method != "none":
            raise ValueError("optim.merging merges with a base model, which has no reward head")
        return self


def run(config: Config, folder: files.RunFolder) -> None:
    """Teach the reward model, write it, and measure it."""
    with session(config, weights.read_config(config.start)) as world:
        model, tokenizer = _model(config)
        limits = _limits(config, model.config)
        learned, held = _data(config, limits, folder.path, world)
        loader = trees.Loader(
            RankedTrees(learned),
            config.prompts_per_step,
            config.micro_tokens,
            seed=config.seed,
            rank=world.share,
            ranks=world.shares,
        )
        model = shard(model, config.parallel, world)
        best = train(
            model,
            loader.step,
            partial(ranking, center=config.center),
            steps=loader.steps(config.epochs),
            optim=config.optim,
            schedule=config.schedule,
            loop=config.loop,
            world=world,
            out=folder.path,
            heldout=_batches(held, config.micro_tokens, world),
            flops_per_token=count.flops_per_token(model.config, _length(learned)),
        )
        dtype = getattr(torch, config.save_dtype)
        publish(model, tokenizer, folder.path, world, dtype=dtype, chat=True, best=best)
        judged = _judged(model, held, config.micro_tokens, world)
        if world.main:
            _write(config, judged, model, folder.path)


def work(config: Config, shape: ModelConfig | None = None) -> Work:
    """What is to be trained, of another shape if one is given."""
    needed(start=config.start, **{f"data[{n}]": path for n, path in enumerate(config.data)})
    own = weights.read_config(config.start)
    found, _ = ranked.read(config.data, config.start, _limits(config, own), config.workers)
    learned, _ = _split(config, found) if config.heldout is None else (found, ())
    every, per_step = [one.tree().tokens for one in learned], config.prompts_per_step
    headed = replace(shape or own, reward=True)
    return replace(
        on_trees(headed, _length(learned), every, per_step, config.epochs),
        alone=config.optim.alone,
    )


def plan(config: Config) -> dict[str, str | int]:
    """What a run would take on this machine."""
    return estimate.figures(work(config), config)


def _model(config: Config) -> tuple[RewardModel, Tokenizer]:
    """The model to teach, in fp32: a language model with a fresh head, or a reward model on."""
    tokenizer, shape = Tokenizer.load(config.start), weights.read_config(config.start)
    pretrained.check(shape, tokenizer, f"start = {config.start}")
    if shape.reward:
        model = weights.load_reward(config.start, dtype=torch.float32)
    else:
        model = RewardModel.on(weights.load(config.start, dtype=torch.float32), config.seed)
    length = max(config.sequence_length or 0, shape.max_position_embeddings)
    model.config = replace(model.config, max_position_embeddings=length)
    return model, tokenizer


def _data(
    config: Config, limits: Limits, out: Path, world: World
) -> tuple[list[Ranked], list[Ranked]]:
    """What is learned and what is held out; says so in `answers.json`."""
    found, reasons = ranked.read(config.data, config.start, limits, config.workers)
    dropped = {str(reason): number for reason, number in reasons.items()}
    if config.heldout is None:
        learned, held = _split(config, found)
    else:
        held, _ = ranked.read([config.heldout], config.start, limits, config.workers)
        asked = {one.prompt.tobytes() for one in held}
        learned = [one for one in found if one.prompt.tobytes() not in asked]
        dropped["held out"] = len(found) - len(learned)
    for part, what in ((learned, "learn from"), (held, "hold out")):
        if not part:
            raise UserError(
                f"of {len(found):,} prompts none is left to {what}; change heldout_share = "
                f"{config.heldout_share}, or give more data"
            )
    if world.main:
        told = {"learned": _counted(learned), "heldout": _counted(held), "dropped": dropped}
        files.write_json(out / "answers.json", told)
        log.say(
            f"{len(learned):,} prompts to learn from, {len(held):,} held out, "
            f"{sum(dropped.values()):,} left out"
        )
    return learned, held


def _length(part: Sequence[Ranked]) -> int:
    """Tokens of a prompt with an answer, the mean: what attention costs hangs on it."""
    return round(fmean(len(one.prompt) + len(ids) for one in part for ids in one.answers))


def _limits(config: Config, shape: ModelConfig) -> Limits:
    context = config.sequence_length or shape.max_position_embeddings
    return Limits(context, config.micro_tokens, config.too_long)


def _split(config: Config, found: Sequence[Ranked]) -> tuple[list[Ranked], list[Ranked]]:
    """By the prompts' own words: all answers to one, from whatever file, are on one side."""
    held = [one for one in found if one.share() < config.heldout_share]
    return [one for one in found if one.share() >= config.heldout_share], held


def _counted(part: Sequence[Ranked]) -> dict[str, int]:
    return {
        "prompts": len({one.prompt.tobytes() for one in part}),
        "rows": len(part),
        "answers": sum(len(one.answers) for one in part),
    }


def _batches(held: Sequence[Ranked], micro_tokens: int, world: World) -> list[TreeBatch]:
    """This rank's share of the held-out rows; `number` counts their answers, `row` by `row`."""
    numbers = iter(range(sum(len(one.answers) for one in held)))
    made = [one.tree(number=[next(numbers) for _ in one.answers]) for one in held]
    return trees.batches(made, micro_tokens, count="trees", rank=world.share, ranks=world.shares)


@torch.no_grad()
def _judged(
    model: RewardModel, held: Sequence[Ranked], micro_tokens: int, world: World
) -> list[Judged]:
    """The rewards of all held-out answers, on every rank."""
    found: list[tuple[int, float]] = []
    for batch in _batches(held, micro_tokens, world):
        placed = to_device(batch, world.device)
        with world.autocast():
            outputs = model(placed.tokens, positions=placed.positions, documents=placed.documents)
        rewards = answer_rewards(outputs, placed).tolist()
        found += zip(batch.values["number"].int().tolist(), rewards, strict=True)
    release(model)
    # Ranks that share matrices have measured the same answers.
    known = dict(chain(*dist.gather(world, found)))
    every = iter([known[number] for number in sorted(known)])
    return [
        Judged(
            rewards=tuple(islice(every, len(one.answers))),
            ranks=one.ranks,
            lengths=tuple(map(len, one.answers)),
            kind=one.kind,
            source=one.source,
        )
        for one in held
    ]


def _write(config: Config, judged: Sequence[Judged], model: RewardModel, out: Path) -> None:
    with files.jsonl_writer(out / "rewards.jsonl") as write:
        for one in judged:
            write(asdict(one))
    scores = preferences.measure(judged)
    about = {"start": str(config.start), "parameters": count.parameters(model.config).total}
    files.write_json(out / "scores.json", about | scores)
    found = scores["accuracy"]
    log.say(
        f"held out: {found['value']:.1%} of pairs in order ({found['low']:.1%} to "
        f"{found['high']:.1%}, {scores['prompts']:,} prompts), calibration error "
        f"{scores['calibration']['error']:.3f}"
    )
