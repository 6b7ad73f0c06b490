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
    parity.json    of each mixture of experts among the sizes the dense model that it equals
    proof.json     with [proof]: a larger run as the law wants it beside other settings
    runs/NAME.json the row of each run as soon as it is finished
    timing.jsonl   seconds of each run; no second sweep gives them again

A finished run is not done again, an interrupted one goes on in `state/`. One that diverges is a row
without a loss. Runs are trained by processes of this machine or by workers that Ray places
(`scaling/runs.py`); under `torchrun` every rank trains runs of its own.
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from baiwen import files, log
from baiwen.config import Count
from baiwen.dist.crew import Placed
from baiwen.errors import UserError
from baiwen.mistakes import nearest
from baiwen.model.config import ModelConfig
from baiwen.model.sizes import SIZES
from baiwen.scaling import grid, hyper, laws, moe, proof, sweep, table
from baiwen.scaling.proof import Proof
from baiwen.scaling.runs import Row, Setup, Task, finished, rank, wait_for
from baiwen.scaling.sweep import Experts, Ladder, Listed, Positive, Run, Spaced
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.train import estimate
from baiwen.train.optim import Optim
from baiwen.train.schedule import Schedule


class Config(Setup):
    """Which cells, which grid, on what."""

    every_rank: ClassVar[bool] = True
    # Knobs that change nothing of what is made.
    free: ClassVar[tuple[str, ...]] = (
        "workers",
        *(f"workers.{name}" for name in Placed.model_fields),
    )

    out: Path  # the run folder
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
    share: Positive = 0.0025  # a run is near its cell's best up to so far above its loss: Step Law
    draws: Count = 1000  # resampled fits: Step Law
    halving: Annotated[int, Field(gt=1)] | None = None  # keep 1 in so many at each rung; none: all
    rungs: Count = 2  # of halving: at 1 / halving^rungs of the tokens, ..., at 1 / halving
    proof: Proof | None = None  # what the law's choice is worth on a larger run
    # Processes of this machine, each with a run of its own; or a table: workers placed by Ray.
    workers: Count | Placed = 1
    optim: Optim = Optim()  # its lr is the grid's
    schedule: Schedule = Schedule(final_lr=1e-5)  # Step Law: cosine to 1e-5, 2,000 steps of warm-up
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
        sizes = np.array([(one.active, one.tokens, one.parameters / one.active) for one in runs])
        hyper.design(dict(zip(hyper.VARIABLES, sizes.T, strict=True)), "the cells of this sweep")
        settings = self.proof.against.values() if self.proof else ()
        for batch in {run.batch for run in runs} | {one.tokens_per_step for one in settings}:
            self.split(batch)
        if self.proof:
            known = _shapes(self, 1)
            if self.proof.size not in known:
                hint = nearest(self.proof.size, list(known))
                raise ValueError(f"proof.size is none of {', '.join(known)}.{hint}")
        return self


def run(config: Config, folder: files.RunFolder) -> None:
    """Train what is not finished, write the table, fit the laws and prove them."""
    if isinstance(config.workers, Placed) and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("workers: Ray places them or torchrun starts the ranks; choose one of both")
    with nullcontext() if rank() == 0 else log.hushed():
        rows = _sweep(config, folder.path)
        if config.proof is not None:
            _prove(config, config.proof, rows, folder.path)


def _sweep(config: Config, out: Path) -> list[Row]:
    """The table of the grid, written with its laws."""
    rows = _swept(config, out, planned(config, len(Tokenizer.load(config.tokenizer))))
    if rank() == 0:
        files.write(out / "runs.csv", table.text(rows))
        found = laws.fit(out / "runs.csv", config.share, config.draws)
        laws.write(out / "laws.json", found)
        if found.moe is not None:
            files.write_json(out / "parity.json", moe.parities(found.moe, rows))
        for line in (*laws.told(found), *grid.doubts(grid.read(out / "runs.csv"))):
            log.say(line)
    return rows


def _prove(config: Config, wanted: Proof, rows: Sequence[Row], out: Path) -> None:
    """Train and compare the runs of the proof."""
    wait_for([out / "laws.json"])
    found = laws.read(out / "laws.json").hyper
    vocabulary = len(Tokenizer.load(config.tokenizer))
    target = _cell(config, vocabulary, wanted.size, wanted.tokens)
    runs = proof.rivals(target, found, wanted, config.micro_tokens)
    proven = finished(config, [Task(one, one.steps) for one in runs], out, config.workers)
    if rank() == 0:
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
    workers, placed = config.workers, isinstance(config.workers, Placed)
    many = workers.count if isinstance(workers, Placed) else workers
    told["time"] = estimate.together(flops, layers, *place, many, elsewhere=placed)
    return told


def _swept(config: Config, out: Path, runs: Sequence[Run]) -> list[Row]:
    """The results of the grid, in its order; with halving, most runs stop at a rung."""
    found: dict[str, Row] = {}
    going = list(runs)
    for rung in range(config.rungs if config.halving else 0):
        going = _halved(config, out, going, rung, found)
    whole = finished(config, [Task(one, one.steps) for one in going], out, config.workers)
    found |= {row["name"]: row for row in whole}
    return [found[one.name] for one in runs]


def _halved(
    config: Config, out: Path, runs: Sequence[Run], rung: int, found: dict[str, Row]
) -> list[Run]:
    """Those of `runs` that go on after a rung; all of their results so far go into `found`."""
    assert config.halving is not None
    steps = [sweep.rungs(one.steps, config.halving, config.rungs)[rung] for one in runs]
    rows = finished(config, list(map(Task, runs, steps)), out, config.workers)
    found |= {row["name"]: row for row in rows}
    losses = {row["name"]: row["smooth loss"] for row in rows}
    going: set[str] = set()
    for own in sweep.by_cell(runs).values():
        going |= sweep.best({one.name: losses[one.name] for one in own}, config.halving)
    for one in runs:
        if one.name not in going and rank() == 0:
            shutil.rmtree(out / "state" / one.name, ignore_errors=True)
    return [one for one in runs if one.name in going]


def _shapes(config: Config, vocabulary: int) -> dict[str, ModelConfig]:
    return sweep.sizes(
        config.sizes, config.ladder, config.experts, config.sequence_length, vocabulary
    )


def _cell(config: Config, vocabulary: int, size: str, tokens: int) -> Run:
    """A run of a cell, before it has a setting."""
    shape, length = _shapes(config, vocabulary)[size], config.sequence_length
    return Run(size, shape, tokens, length, length, config.optim, config.schedule, config.seed)
