"""The runs of a sweep: each trained where there is room, its row written as soon as it is known.

    tasks = [Task(run, run.steps) for run in runs]
    rows = finished(setup, tasks, out, workers=2)                   # processes of this machine
    rows = finished(setup, tasks, out, Placed(count=8, gpus=1))     # of any, by Ray

A run is a function of its task alone, and whoever trains it hands its row back: this process writes
`runs/NAME.json`. So a sweep is the same bytes by one process, by many and by Ray's, which may be on
machines that do not see the run folder. Where it is seen, a run that was interrupted goes on from
its checkpoint in `state/NAME`; elsewhere it begins again. A worker that dies is started again and
its run with it, once; then the run is named.
"""

import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from baiwen import config, dist, files, log
from baiwen.config import Input, Knobs
from baiwen.data import heldout, mixture
from baiwen.data.executor import Pool
from baiwen.data.loader import Loader, Split
from baiwen.data.mixture import Mixture
from baiwen.dist import Layout, crew
from baiwen.dist.crew import Call, Crew, Placed
from baiwen.scaling import table
from baiwen.scaling.sweep import Count, Run
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.train.loop import DivergedError, Loop
from baiwen.train.parallel import Parallel
from baiwen.train.proxy import taught

Row = dict[str, Any]  # of a run, as in its file


class Setup(Knobs):
    """What all runs of a sweep have alike: data and machine."""

    shards: Input  # folder of a shards stage: one source a subfolder
    tokenizer: Input  # the one that the shards were written with
    heldout: Input  # documents whose loss is measured at the end of each run
    heldout_tokens: Count = 65_536  # of them that are measured
    mixture: Mixture = Mixture()
    sequence_length: Count = 256  # tokens of a row
    micro_tokens: Count = 8192  # that one rank computes at once, at most
    smooth: Annotated[float, Field(gt=0, lt=1)] = 0.05  # share of the tokens of the smoothed loss
    loop: Loop = Loop(eval_every=10**9)  # held-out loss at the end alone
    parallel: Parallel = Parallel()
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # of matmuls; the weights train in fp32
    threads: Count | None = None  # of each process on the CPU; none: torch's choice

    @model_validator(mode="after")
    def _plain(self) -> Self:
        if self.loop.keep_best:
            raise ValueError("loop.keep_best: of a run of a sweep no model is kept")
        if self.parallel.layout != Layout():
            raise ValueError(
                "parallel: one process trains each run of a sweep: replicate, tensor and expert "
                "must be 1"
            )
        return self

    def split(self, batch: int) -> Split:
        """The rows of a step of `batch` tokens; ValueError where they do not divide."""
        return Split(self.sequence_length, batch, min(batch, self.micro_tokens))

    @property
    def measured(self) -> Split:
        """The held-out rows, as many at once as may be: the same for every batch."""
        at_once = self.micro_tokens // self.sequence_length * self.sequence_length
        return Split(self.sequence_length, at_once, at_once)


@dataclass(frozen=True)
class Task:
    """A run, and the step up to which it is wanted."""

    run: Run
    until: int

    def __str__(self) -> str:
        """Part of a file's name."""
        cut = "" if self.until == self.run.steps else f"-at-{self.until}"
        return f"{self.run.name}{cut}"

    @property
    def work(self) -> int:
        """GFLOP, from the beginning."""
        return math.ceil(self.run.flops / self.run.steps * self.until / 1e9)


@dataclass(frozen=True)
class Trained:
    """What came of a task."""

    task: Task
    row: Row
    seconds: float  # on the wall
    cpu_seconds: float


def finished(setup: Setup, tasks: Sequence[Task], out: Path, workers: int | Placed) -> list[Row]:
    """The rows of all tasks; those that are not in `out` yet are made, this rank's share here."""
    mine = tasks[rank() :: int(os.environ.get("WORLD_SIZE", "1"))]
    mine = [task for task in mine if not _path(out, task).is_file()]
    total = sum(task.work for task in mine)
    made = _trained(setup, mine, out, workers)
    for one in log.track(made, "runs", total, "GFLOP", counts=lambda one: one.task.work):
        _keep(out, one)
    paths = [_path(out, task) for task in tasks]
    wait_for(paths)
    return [files.read_json(path) for path in paths]


def train(setup: Setup, home: Path, task: Task) -> Trained:
    """Train a run up to a step, from the last checkpoint in `home`, and tell what it has shown."""
    run, began, worked = task.run, time.monotonic(), time.process_time()
    place = setup.device, setup.dtype, run.seed, setup.threads
    with log.hushed(), dist.session(*place, alone=True) as world, suppress(DivergedError):
        tokenizer, length = Tokenizer.load(setup.tokenizer), setup.sequence_length
        pools = mixture.pools(setup.shards, tokenizer.fingerprint, length, setup.mixture)
        taught(
            run.shape,
            Loader(pools, setup.split(run.batch), run.seed).step,
            run,
            setup,
            world,
            home,
            steps=run.steps,
            seed=run.seed,
            length=length,
            heldout=heldout.rows(setup.heldout, tokenizer, setup.measured, setup.heldout_tokens),
            until=task.until,
        )
    row = table.row(run, list(files.read_jsonl(home / "metrics.jsonl")), setup.smooth)
    return Trained(task, row, time.monotonic() - began, time.process_time() - worked)


class Trainer:
    """A worker that Ray has placed, maybe on a machine that does not see the run folder."""

    def __init__(self, setup: Setup, out: Path, record: str) -> None:
        """record: the run.json of the folder `out`, by which it is known."""
        self._setup, self._out, self._record = setup, out, record

    def train(self, task: Task) -> Trained:
        """In the run folder, where it goes on from a checkpoint, or out of sight."""
        known = self._out / "run.json"
        if known.is_file() and files.read_text(known) == self._record:
            return train(self._setup, _home(self._out, task), task)
        with TemporaryDirectory() as scratch:
            return train(self._setup, Path(scratch), task)


def rank() -> int:
    """This process's among those of torchrun."""
    return int(os.environ.get("RANK", "0"))


def wait_for(paths: Sequence[Path]) -> None:
    """Wait for what other ranks write; torchrun ends all if one of them dies."""
    while not all(path.is_file() for path in paths):
        time.sleep(0.2)


def _trained(
    setup: Setup, tasks: Sequence[Task], out: Path, workers: int | Placed
) -> Iterator[Trained]:
    """What came of each task: in their order, or by Ray's workers as they come."""
    if isinstance(workers, Placed):
        yield from _placed(setup, tasks, out, workers) if tasks else ()
    else:
        with Pool(workers) as pool:
            yield from pool.map(partial(_in_folder, setup, out), tasks)


def _placed(setup: Setup, tasks: Sequence[Task], out: Path, workers: Placed) -> Iterator[Trained]:
    """By workers of Ray's, which are told all paths from the root: they stand elsewhere."""
    told: dict[str, Any] = {key: path.absolute() for key, path in config.inputs(setup)}
    told |= {"threads": setup.threads or workers.threads}
    told |= {"device": "cpu"} if setup.device == "auto" and not workers.gpus else {}
    with crew.joined(workers):
        given = setup.model_copy(update=told), out.absolute(), files.read_text(out / "run.json")
        trainers = Crew(workers, Trainer, *given)
        for _, trained in trainers.ask([Call(str(task), "train", (task,)) for task in tasks]):
            yield trained
        trainers.close()


def _in_folder(setup: Setup, out: Path, task: Task) -> Trained:
    return train(setup, _home(out, task), task)


def _keep(out: Path, trained: Trained) -> None:
    """Write the row of a task; of a run that is whole nothing else stays."""
    task = trained.task
    with files.Ledger(out / "timing.jsonl") as timing:
        spent = {"seconds": trained.seconds, "cpu_seconds": trained.cpu_seconds}
        timing.add(str(task), {key: round(value, 3) for key, value in spent.items()})
    files.write_json(_path(out, task), trained.row)
    if task.until == task.run.steps:
        shutil.rmtree(_home(out, task), ignore_errors=True)


def _home(out: Path, task: Task) -> Path:
    return out / "state" / task.run.name


def _path(out: Path, task: Task) -> Path:
    return out / "runs" / f"{task}.json"
