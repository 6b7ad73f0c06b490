"""A sweep: which learning rate and batch suit N parameters and D tokens, by many small runs.

    stage = "scaling"
    out = "runs/mine/scaling"
    shards = "runs/mine/shards"
    tokenizer = "runs/mine/tokenizer"
    heldout = "runs/mine/data/heldout.jsonl.zst"
    sizes = ["micro", "tiny"]                   # N of the cells
    tokens = [1_000_000, 3_000_000]             # D of the cells
    lr = { low = 1e-3, high = 1.6e-2 }          # each twice the one before
    tokens_per_step = { low = 256, high = 2048 }

Trains a fresh model for every point of the grid in every cell (N, D), by the loop of pre-training,
cheapest first, and writes

    runs.csv       a row a run, Step Law's columns and more (baiwen/scaling/table.py)
    laws.json      the laws fitted on them, which `lr = "law"` reads (baiwen/scaling/laws.py)
    proof.json     with [proof]: a larger run as the law wants it beside other settings
    runs/NAME.json the row of each run as soon as it is finished
    timing.jsonl   seconds of each run; no second sweep gives them again

A finished run is not done again, an interrupted one goes on in `state/`. One that diverges is a row
without a loss. Under `torchrun` every rank trains runs of its own.
"""

import math
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from baiwen import dist, files, log
from baiwen.config import Input, Knobs
from baiwen.data import heldout, mixture
from baiwen.data.executor import Pool
from baiwen.data.loader import Loader, Split
from baiwen.data.mixture import Mixture
from baiwen.mistakes import nearest
from baiwen.model.config import ModelConfig
from baiwen.model.sizes import SIZES
from baiwen.scaling import laws, proof, sweep, table
from baiwen.scaling.proof import Proof
from baiwen.scaling.sweep import Count, Experts, Ladder, Listed, Positive, Run, Spaced
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.train import estimate
from baiwen.train.loop import DivergedError, Loop
from baiwen.train.optim import Optim
from baiwen.train.parallel import Parallel
from baiwen.train.proxy import taught
from baiwen.train.schedule import Schedule

Result = dict[str, Any]  # of a run, as in its file
Task = tuple[Run, int]  # a run, and the step up to which it is wanted


class Config(Knobs):
    """Which cells, which grid, on what."""

    every_rank: ClassVar[bool] = True
    free: ClassVar[tuple[str, ...]] = ("workers",)  # knobs that change nothing of what is made

    out: Path  # the run folder
    shards: Input  # folder of a shards stage: one source a subfolder
    tokenizer: Input  # the one that the shards were written with
    heldout: Input  # documents whose loss is measured at the end of each run
    heldout_tokens: Count = 65_536  # of them that are measured
    sizes: tuple[str, ...] = ()  # by name: baiwen/model/sizes.py; report: dense 44M to 14B
    ladder: Ladder | None = None  # sizes by width and depth
    experts: tuple[Experts, ...] = ()  # each size also as these; report: 44M to 1B activated
    tokens: tuple[Count, ...] = ()  # D of the cells; report: 0.8B to 600B
    tokens_per_parameter: tuple[Positive, ...] = ()  # the same, for each active one
    # Peak learning rates; a list, or { low, high, factor }. Step Law: 2^-11 to 2^-5.5, 2^0.5 apart.
    lr: Listed = Spaced(low=1e-3, high=1.6e-2)
    # Tokens of a step, in the same forms. Step Law's small cells: 16 to 2,048 rows of 2,048.
    tokens_per_step: Listed = Spaced(low=2048, high=16_384)
    max_flops: Positive | None = None  # 6 N D of a run; cells above it are left out
    smooth: Annotated[float, Field(gt=0, lt=1)] = 0.05  # share of the tokens of the smoothed loss
    share: Positive = 0.0025  # a run is near its cell's best up to so far above its loss: Step Law
    draws: Count = 1000  # resampled fits: Step Law
    halving: Annotated[int, Field(gt=1)] | None = None  # keep 1 in so many at each rung; none: all
    rungs: Count = 2  # of halving: at 1 / halving^rungs of the tokens, ..., at 1 / halving
    proof: Proof | None = None  # what the law's choice is worth on a larger run
    workers: Count = 1  # processes, each with a run of its own
    mixture: Mixture = Mixture()
    sequence_length: Count = 256  # tokens of a row
    micro_tokens: Count = 8192  # that one rank computes at once, at most
    optim: Optim = Optim()  # its lr is the grid's
    schedule: Schedule = Schedule(final_lr=1e-5)  # Step Law: cosine to 1e-5, 2,000 steps of warm-up
    loop: Loop = Loop(eval_every=10**9)  # held-out loss at the end alone
    parallel: Parallel = Parallel()
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # of matmuls; the weights train in fp32
    threads: Count | None = None  # of each process on the CPU; none: torch's choice
    seed: int = 0  # of the weights and of the order of rows, the same for the whole grid

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name in self.sizes:
            if name not in SIZES:
                hint = nearest(name, list(SIZES))
                raise ValueError(f"sizes: {name!r} is none of {', '.join(SIZES)}.{hint}")
        if not self.sizes and self.ladder is None:
            raise ValueError("needs sizes, by name, or a [ladder] of widths and layers")
        if not self.tokens and not self.tokens_per_parameter:
            raise ValueError("needs tokens or tokens_per_parameter: how much each size is taught")
        runs = planned(self, SIZES["tiny"].vocab_size)
        if not runs:
            raise ValueError(f"max_flops = {self.max_flops}: every cell is above it")
        settings = self.proof.against.values() if self.proof else ()
        for batch in {run.batch for run in runs} | {one.tokens_per_step for one in settings}:
            _split(self, batch)
        if self.proof:
            known = _shapes(self, 1)
            if self.proof.size not in known:
                hint = nearest(self.proof.size, list(known))
                raise ValueError(f"proof.size is none of {', '.join(known)}.{hint}")
        return self


def run(config: Config, folder: files.RunFolder) -> None:
    """Train what is not finished, write the table, fit the laws and prove them."""
    with nullcontext() if _rank() == 0 else log.hushed():
        rows = _sweep(config, folder.path)
        if config.proof is not None:
            _prove(config, config.proof, rows, folder.path)


def _sweep(config: Config, out: Path) -> list[Result]:
    """The table of the grid, written with its laws."""
    rows = _swept(config, out, planned(config, len(Tokenizer.load(config.tokenizer))))
    if _rank() == 0:
        files.write(out / "runs.csv", table.text(rows))
        found = laws.fit(out / "runs.csv", config.share, config.draws)
        laws.write(out / "laws.json", found)
        for line in laws.told(found):
            log.say(line)
    return rows


def _prove(config: Config, wanted: Proof, rows: Sequence[Result], out: Path) -> None:
    """Train and compare the runs of the proof."""
    _await([out / "laws.json"])
    found = laws.read(out / "laws.json").hyper
    vocabulary = len(Tokenizer.load(config.tokenizer))
    target = _cell(config, vocabulary, wanted.size, wanted.tokens)
    runs = proof.rivals(target, found, wanted, config.micro_tokens)
    proven = _finished(config, out, [(one, one.steps) for one in runs])
    if _rank() == 0:
        files.write(out / "proof.csv", table.text(proven, ("setting", *table.COLUMNS)))
        files.write_json(out / "proof.json", proof.compared(rows, proven))


def planned(config: Config, vocabulary: int) -> list[Run]:
    """The runs of the grid, in their order."""
    shapes = _shapes(config, vocabulary)
    budgets = sweep.budgets(shapes, config.tokens, config.tokens_per_parameter)
    cells = [_cell(config, vocabulary, *cell) for cell in budgets]
    return sweep.planned(cells, config.lr, config.tokens_per_step, config.max_flops)


def plan(config: Config) -> dict[str, str | int]:
    """What all runs together would take on this machine."""
    there = config.tokenizer.exists()
    vocabulary = len(Tokenizer.load(config.tokenizer)) if there else SIZES["tiny"].vocab_size
    runs = planned(config, vocabulary)
    told: dict[str, str | int] = {"runs": len(runs)}
    for (size, tokens), (first, *others) in sweep.by_cell(runs).items():
        each = f"N {first.active:,}, {first.flops:.3g} FLOPs each"
        told[f"{size}, D {tokens:,}"] = f"{1 + len(others)} runs, {each}"
    if (wanted := config.proof) is not None:
        number = wanted.seeds * (1 + len(wanted.against))
        told["proof"] = f"{number} runs, D {wanted.tokens:,}"
        # At the batch of the largest run: the law's is not known.
        target = _cell(config, vocabulary, wanted.size, wanted.tokens)
        runs += number * [replace(target, batch=runs[-1].batch)]
    flops = sum(run.flops for run in runs)
    layers = sum(run.steps * run.shape.num_hidden_layers for run in runs)
    place = config.device, config.dtype, config.threads
    told["FLOPs"] = f"{flops:.3g}"
    told["time"] = estimate.together(flops, layers, *place, config.workers)
    return told


def _swept(config: Config, out: Path, runs: Sequence[Run]) -> list[Result]:
    """The results of the grid, in its order; with halving, most runs stop at a rung."""
    found: dict[str, Result] = {}
    going = list(runs)
    for rung in range(config.rungs if config.halving else 0):
        going = _halved(config, out, going, rung, found)
    whole = _finished(config, out, [(one, one.steps) for one in going])
    found |= {row["name"]: row for row in whole}
    return [found[one.name] for one in runs]


def _halved(
    config: Config, out: Path, runs: Sequence[Run], rung: int, found: dict[str, Result]
) -> list[Run]:
    """Those of `runs` that go on after a rung; all of their results so far go into `found`."""
    assert config.halving is not None
    steps = [sweep.rungs(one.steps, config.halving, config.rungs)[rung] for one in runs]
    rows = _finished(config, out, list(zip(runs, steps, strict=True)))
    found |= {row["name"]: row for row in rows}
    losses = {row["name"]: row["smooth loss"] for row in rows}
    going: set[str] = set()
    for own in sweep.by_cell(runs).values():
        going |= sweep.best({one.name: losses[one.name] for one in own}, config.halving)
    for one in runs:
        if one.name not in going and _rank() == 0:
            shutil.rmtree(out / "state" / one.name, ignore_errors=True)
    return [one for one in runs if one.name in going]


def _finished(config: Config, out: Path, tasks: Sequence[Task]) -> list[Result]:
    """The results of all tasks; what is not there yet is made, this rank's share of it here."""
    rank, ranks = _rank(), int(os.environ.get("WORLD_SIZE", "1"))
    mine = [task for task in tasks[rank::ranks] if not _path(out, task).is_file()]
    with Pool(config.workers) as pool:
        done = pool.map(partial(_train, config, out), mine)
        for _ in log.track(done, "runs", sum(map(_work, mine)), "GFLOP", counts=_work):
            pass
    paths = [_path(out, task) for task in tasks]
    _await(paths)
    return [files.read_json(path) for path in paths]


def _train(config: Config, out: Path, task: Task) -> Task:
    """Train a run up to a step and write what it has shown; the task again, once that is there."""
    run, until = task
    home, began, worked = out / "state" / run.name, time.monotonic(), time.process_time()
    place = config.device, config.dtype, run.seed, config.threads
    with log.hushed(), dist.session(*place, alone=True) as world, suppress(DivergedError):
        tokenizer = Tokenizer.load(config.tokenizer)
        length, split = config.sequence_length, _split(config, run.batch)
        pools = mixture.pools(config.shards, tokenizer.fingerprint, length, config.mixture)
        taught(
            run.shape,
            Loader(pools, split, run.seed).step,
            run,
            config,
            world,
            home,
            steps=run.steps,
            seed=run.seed,
            length=length,
            heldout=heldout.rows(config.heldout, tokenizer, split, config.heldout_tokens),
            until=until,
        )
    metrics = list(files.read_jsonl(home / "metrics.jsonl"))
    with files.Ledger(out / "timing.jsonl") as timing:
        spent = {"seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - worked}
        timing.add(_path(out, task).stem, {key: round(value, 3) for key, value in spent.items()})
    files.write_json(_path(out, task), table.row(run, metrics, config.smooth))
    if until == run.steps:
        shutil.rmtree(home)
    return task


def _shapes(config: Config, vocabulary: int) -> dict[str, ModelConfig]:
    return sweep.sizes(
        config.sizes, config.ladder, config.experts, config.sequence_length, vocabulary
    )


def _cell(config: Config, vocabulary: int, size: str, tokens: int) -> Run:
    """A run of a cell, before it has a setting."""
    shape, length = _shapes(config, vocabulary)[size], config.sequence_length
    return Run(size, shape, tokens, length, length, config.optim, config.schedule, config.seed)


def _split(config: Config, batch: int) -> Split:
    """The rows of a step of `batch` tokens; UserError where they do not divide."""
    return Split(config.sequence_length, batch, min(batch, config.micro_tokens))


def _path(out: Path, task: Task) -> Path:
    run, until = task
    return out / "runs" / f"{run.name}{'' if until == run.steps else f'-at-{until}'}.json"


def _work(task: Task) -> int:
    """GFLOP of a task, from its beginning."""
    run, until = task
    return math.ceil(run.flops / run.steps * until / 1e9)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _await(paths: Sequence[Path]) -> None:
    """Wait for what other ranks write; torchrun ends all if one of them dies."""
    while not all(path.is_file() for path in paths):
        time.sleep(0.2)
