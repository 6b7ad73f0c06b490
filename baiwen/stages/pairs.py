"""Pairs: a model answers prompts several times; a right answer beside a wrong one is a pair.

    stage = "pairs"
    out = "runs/tiny/pairs"
    start = "runs/tiny/sft"
    prompts = "runs/tiny/instruct/prompts.jsonl"

The report's offline data (section 4.2): the SFT model resamples new queries, programs judge, people
may review. Writes, in its folder,

    answers.jsonl    {"prompt", "answer", "verifier", "kind", "answers": [...], "variance"}
    pairs.jsonl      {"prompt", "chosen", "rejected", "tools"?, "kind", "source"}
    review.jsonl     {"verdict": null, "id", ...}: pairs for people to look at
    pairs.json       what became of the prompts and answers, and how lengths differ
    device.json      where it ran, and tokens a second

A run that was killed goes on with the prompts that it has not saved answers of. To pair the same
answers by another rule, or after a review, make a run with `answers` in the place of `start`.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, tee
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator

from baiwen import dist, files, log, progress
from baiwen.config import Count, Input, Knobs, Share
from baiwen.dist import World
from baiwen.engine import pretrained
from baiwen.engine.engine import Engine
from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError
from baiwen.model.packed import Weights
from baiwen.rl import pairs, prompts, resample, review
from baiwen.rl.pairs import Answer, Pair, Rule
from baiwen.rl.prompts import Prompt
from baiwen.rl.tally import Tally


class Config(Knobs):
    """Whose answers to what, and which of them are pairs."""

    every_rank: ClassVar[bool] = True

    out: Path  # the run folder
    start: Input | None = None  # the model that answers, an HF folder; report: the SFT model
    prompts: Input | None = None  # what it answers: prompts.jsonl of `instruct`; report: new ones
    answers: Input | None = None  # instead of both: answers.jsonl of an earlier run
    samples_per_prompt: Annotated[int, Field(ge=2)] = 8  # not reported for DPO; GRPO: 8
    temperature: Annotated[float, Field(gt=0)] = 1.0  # not reported
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0  # not reported
    max_tokens: Count = 2048  # of an answer; not reported
    pairs_per_prompt: Count = 2  # at most; not reported; report: 150,000 pairs in all
    length_gap: Share = 0.5  # of a pair's answers at most, as a share of the longer; not reported
    truncated: bool = False  # may a wrong answer that was cut be rejected? its end is then learned
    review: Input | None = None  # review.jsonl with verdicts filled in; report: people and programs
    unreviewed: Literal["keep", "drop"] = "keep"  # what becomes of a pair without a verdict
    review_share: Share = 1.0  # of the pairs that are written for review
    save_every: Count = 128  # prompts that are answered together and saved; a kill loses no more
    sequences: Count = 128  # answers that are sampled at once
    packed: Weights | None = None  # weights for sampling on a CPU: fp32, bf16, int8, int4
    workers: Count = 1  # threads that judge answers; more pay where programs are run
    seed: int = 0  # of the sampling
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # of weights and matmuls
    threads: Count | None = None  # of the CPU; none: torch's choice

    @model_validator(mode="after")
    def _whole(self) -> Self:
        given = [self.start is not None, self.prompts is not None, self.answers is not None]
        if given not in ([True, True, False], [False, False, True]):
            raise ValueError("needs either start and prompts, or answers")
        if self.unreviewed == "drop" and self.review is None:
            raise ValueError('unreviewed = "drop" needs review, or no pair is left')
        return self


def run(config: Config, folder: files.RunFolder) -> None:
    """Sample, judge, pair, and write it all."""
    verdicts = review.read(config.review) if config.review else {}
    answers = config.answers or folder.path / "answers.jsonl"
    with dist.session(config.device, config.dtype, config.seed, config.threads) as world:
        parts = _sample(config, folder.path, world) if config.answers is None else []
        dist.barrier(world)  # until every rank has saved its parts
        if world.main:
            if parts:
                _join(parts, answers)
            _pair(config, answers, verdicts, folder.path)


def check(config: Config, to_come: Sequence[Path]) -> None:
    """Stop where the prompts, or the verdicts of a review, say what there is not."""
    later = any(config.prompts.is_relative_to(out) for out in to_come) if config.prompts else True
    if config.prompts and config.prompts.exists() and not later:
        prompts.rows(config.prompts)
    if config.review and config.review.exists():
        review.read(config.review)


def plan(config: Config) -> dict[str, str | int]:
    """How much is sampled; nothing before the prompts are there."""
    if config.prompts is None or not config.prompts.exists():
        return {}
    asked = len(prompts.rows(config.prompts))
    answers = asked * config.samples_per_prompt
    return {
        "prompts": asked,
        "answers": answers,
        "tokens sampled": f"at most {answers * config.max_tokens:,}",
        "pairs": f"at most {asked * config.pairs_per_prompt:,}",
    }


def _sample(config: Config, out: Path, world: World) -> list[Path]:
    """Answer this rank's share of the prompts; the files of all ranks, a part of them each."""
    assert config.start and config.prompts  # checked with the recipe
    model, tokenizer = pretrained.load(config.start, world.device, world.dtype, config.packed)
    engine = Engine(model, tokenizer, sequences=config.sequences)
    asked = prompts.read(config.prompts, tokenizer, engine.context - config.max_tokens)
    distinct = _distinct(asked)
    if len(distinct) < len(asked) and world.main:
        log.say(f"{config.prompts}: {len(asked) - len(distinct):,} prompts are there twice")
    parts = _parts(distinct, config.save_every, out / "state")
    own = dict(list(parts.items())[world.rank :: world.size])
    left = {path: part for path, part in own.items() if not path.is_file()}
    work, began = _answered(config, engine, left), time.monotonic()
    if world.main:
        work = log.track(work, "answers", sum(map(len, left.values())), "prompts")
    for _ in work:
        pass
    dist.catch_up(world)
    _note(out, engine.stats()["generated_tokens"], time.monotonic() - began, world)
    return list(parts)


def _distinct(asked: Sequence[Prompt]) -> list[Prompt]:
    """The prompts without those that were there before."""
    once: dict[tuple[int, ...], Prompt] = {}
    for prompt in asked:
        once.setdefault(tuple(prompt.ids), prompt)
    return list(once.values())


def _parts(asked: Sequence[Prompt], size: int, folder: Path) -> dict[Path, Sequence[Prompt]]:
    """Which prompts are answered together, by the file that will hold their answers."""
    starts = range(0, len(asked), size)
    return {
        folder / f"answers-{number:05d}.jsonl": asked[start : start + size]
        for number, start in enumerate(starts)
    }


def _answered(
    config: Config, engine: Engine, parts: Mapping[Path, Sequence[Prompt]]
) -> Iterator[Prompt]:
    """Each prompt as it is answered; a part is written when its last one is judged."""
    assert config.start
    sampling = Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        max_tokens=config.max_tokens,
        n=config.samples_per_prompt,
        seed=config.seed,
    )
    with ThreadPoolExecutor(config.workers) as judges:
        for path, part in parts.items():
            found: dict[int, list[Future[Answer]]] = {}
            for prompt, answers in resample.resampled(engine, part, sampling, judges):
                found[prompt.number] = answers
                yield prompt
            with files.jsonl_writer(path) as write:
                for prompt in part:
                    judged = [one.result() for one in progress.marked(found[prompt.number])]
                    write(resample.row(prompt, judged, config.start.name))


def _note(out: Path, tokens: float, seconds: float, world: World) -> None:
    """Say where and how fast this session has sampled, all ranks together."""
    whole = dist.sum_over(world, torch.tensor(float(tokens), device=world.device)).item()
    rate = {"tokens": int(whole), "tokens_per_second": round(whole / seconds, 1)}
    path = out / "device.json"
    if world.main and (whole or not path.is_file()):  # an earlier session may have sampled all
        place = {"device": str(world.device), "dtype": str(world.dtype).removeprefix("torch.")}
        files.write_json(path, {**place, "ranks": world.size, **rate})
        log.say(f"{rate['tokens']:,} tokens sampled, {rate['tokens_per_second']:,} a second")


def _join(parts: Iterable[Path], path: Path) -> None:
    with files.jsonl_writer(path) as write:
        for row in chain.from_iterable(map(files.read_jsonl, parts)):
            write(row)


def _pair(config: Config, answers: Path, verdicts: Mapping[str, str], out: Path) -> None:
    """Write the pairs, those to review, and what became of the rest."""
    rule = Rule(config.pairs_per_prompt, config.length_gap, config.truncated)
    rows, again = tee(resample.read(answers))
    choices = pairs.choose((answers for _, answers in again), rule)
    tally = Tally()
    with (
        files.jsonl_writer(out / "pairs.jsonl") as write,
        files.jsonl_writer(out / "review.jsonl") as ask,
    ):
        for (row, found), choice in zip(rows, choices, strict=True):
            tally.prompt(row["kind"], found, choice)
            for pair in choice.pairs:
                made = _row(row, pair)
                name = review.name(made)
                if tally.repeats(name):
                    continue
                if review.drawn(made, config.review_share):
                    ask({**review.row(made, row["answer"]), "verdict": verdicts.get(name)})
                kept = review.reviewed(made, verdicts.get(name), config.unreviewed)
                tally.pair(row["kind"], pair, verdicts.get(name), kept is not None)
                if kept:
                    write(kept)
    files.write_json(out / "pairs.json", tally.told(verdicts))
    log.say(tally.line())
    if not tally.pairs:
        raise UserError(
            f"{answers} gives no pair: see {out / 'pairs.json'}. Sample more answers a prompt, at "
            "a higher temperature, or loosen the rule (length_gap, truncated, unreviewed)."
        )


def _row(row: Mapping[str, Any], pair: Pair) -> dict[str, Any]:
    """A line of `pairs.jsonl`, as it is before a review."""
    return {
        "prompt": row["prompt"],
        "chosen": [pairs.message(pair.chosen.text)],
        "rejected": [pairs.message(pair.rejected.text)],
        **({"tools": row["tools"]} if "tools" in row else {}),
        "kind": row["kind"],
        "source": row["source"],
    }
