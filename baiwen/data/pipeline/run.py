"""The runner: a list of steps over the parts of documents on disk.

    count = read_all(folder, sources, work)
    for done in run_steps(steps, Run(folder, hidden={"near": ("tasks",)}), count, work): ...

Maps that follow each other are one pass: a worker reads a part once and takes it through all of
them. A global step runs here, over columns that it reads as it asks for them. Everything done lies
on the disk under a key of what it depends on, so that a killed run does again what was in flight,
and what another run found is taken over where nothing that it depends on has changed.
"""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from baiwen import files, log
from baiwen.data.pipeline import keys, sidecar
from baiwen.data.pipeline.engines import Work
from baiwen.data.pipeline.part import Part, finish
from baiwen.data.pipeline.quarantine import attempted
from baiwen.data.pipeline.sidecar import DOCUMENTS, PARTS, READ, Manifest
from baiwen.data.pipeline.step import Global, Map, Step
from baiwen.files import durable

STEPS = "steps.json"  # among the parts: the pipeline


@dataclass(frozen=True)
class Run:
    """What holds for all parts and steps of a run."""

    folder: Path
    reuse: tuple[Path, ...] = ()  # folders of runs whose findings are taken over where they fit
    hidden: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # sources, by blind step


@dataclass(frozen=True)
class Pass:
    """Maps that are taken through a part together."""

    run: Run
    before: tuple[str, ...]  # steps that are done
    maps: tuple[Map, ...]
    told: tuple[Any, ...]  # their functions, as keys tell them


@dataclass(frozen=True)
class Done:
    """What came of a part in a pass."""

    number: int
    seconds: Mapping[str, float]  # of CPU, by step that was not done before
    told: tuple[str, ...] = ()  # documents that a function raised on, with the error


def run_steps(steps: Sequence[Step], of: Run, count: int, work: Work) -> Iterator[Done]:
    """Take the parts 0 ... count - 1 through all steps; tell what was done, as it is done."""
    before: tuple[str, ...] = (READ,)
    for group in _passes(steps):
        if isinstance(group, Global):
            names = [group.name]
            done = meet(group, of, before, count)
        else:
            names = [step.name for step in group]
            told = tuple(keys.told((step.function, step.files)) for step in group)
            done = work(partial(through, of=Pass(of, before, group, told)), range(count))
        yield from log.track(done, ", ".join(names), total=count, unit="parts")
        before += tuple(names)


def _passes(steps: Sequence[Step]) -> Iterator[Global | tuple[Map, ...]]:
    """Maps that follow each other together, each global step alone."""
    maps: tuple[Map, ...] = ()
    for step in steps:
        if isinstance(step, Map):
            maps += (step,)
            continue
        if maps:
            yield maps
        maps = ()
        yield step
    if maps:
        yield maps


def through(number: int, of: Pass) -> Done:
    """Take a part through the Maps of a pass."""
    part = Part(of.run.folder, number, of.before)
    seconds, raised = {}, list[str]()
    for step, told in zip(of.maps, of.told, strict=True):
        hidden = of.run.hidden.get(step.name, ())
        key = keys.key(told, *_read(step, part), _blind(part, hidden))
        made = sidecar.earlier(of.run.folder, of.run.reuse, step.name, number, key)
        if made:
            part.skip(step.name, made)
            continue
        began = time.process_time()
        rows = part.seen(hidden)
        found, errors = attempted(step, part.table(step.reads, rows))
        finish(part, step.name, found, rows, key)
        seconds[step.name] = time.process_time() - began
        raised += errors
    return Done(number, seconds, tuple(raised))


def meet(step: Global, of: Run, before: Sequence[str], count: int) -> Iterator[Done]:
    """Let all documents meet in a step, and tell its parts as they are done."""
    meeting = Meeting(of.folder, tuple(before), count, of.hidden.get(step.name, ()))
    told = keys.key(keys.told(step.function), [*meeting.read(step)])
    own = [keys.key(told, number) for number in range(count)]
    made = (
        sidecar.earlier(of.folder, of.reuse, step.name, number, key)
        for number, key in enumerate(own)
    )
    if all(made):
        yield from (Done(number, {}) for number in range(count))
        return
    began = time.process_time()
    for number, found in zip(range(count), step.function(meeting), strict=True):
        part = meeting.part(number)
        finish(part, step.name, found, part.seen(meeting.hidden), own[number])
        ended = time.process_time()
        yield Done(number, {step.name: ended - began})
        began = ended


class Meeting:
    """All documents that are still there, as a global step sees them (`step.Parts`)."""

    def __init__(
        self, folder: Path, steps: Sequence[str], count: int, hidden: Sequence[str]
    ) -> None:
        self.folder, self.steps, self.count, self.hidden = folder, steps, count, hidden

    def __len__(self) -> int:
        return self.count

    def part(self, number: int) -> Part:
        """A part as the steps before left it."""
        return Part(self.folder, number, self.steps)

    def table(self, part: int, columns: Sequence[str]) -> pa.Table:
        """`id` and these columns of a part's documents that are still there, in their order."""
        found = self.part(part)
        return found.table(columns, found.seen(self.hidden))

    def rows(self, part: int, places: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """The same of those at `places` in that table, rising."""
        found = self.part(part)
        rows = np.zeros_like(found.alive)
        rows[np.flatnonzero(found.seen(self.hidden))[np.asarray(places, np.int64)]] = True
        return found.table(columns, rows)

    def read(self, step: Global) -> Iterator[list[Any]]:
        """What a step's findings depend on, part by part."""
        for number in range(self.count):
            part = self.part(number)
            yield [*_read(step, part), _blind(part, self.hidden)]


def sweep(folder: Path, steps: Sequence[Step], count: int) -> None:
    """Delete what an earlier run of another recipe left among the parts."""
    durable.sweep(folder / PARTS)  # what a worker that was killed has left
    names = {DOCUMENTS, READ, *(step.name for step in steps)}
    for place in sorted((folder / PARTS).iterdir()):
        if place.is_dir() and place.name not in names:
            shutil.rmtree(place)
            continue
        for path in sorted(place.glob("*")) if place.is_dir() else ():
            if int(path.stem) >= count:
                path.unlink()


def write_steps(folder: Path, steps: Sequence[Step], hidden: Mapping[str, Sequence[str]]) -> None:
    """Write down the pipeline: what each step is, and which sources it does not see."""
    told = [
        {
            "step": step.name,
            "kind": type(step).__name__.lower(),
            "function": keys.told(step.function),
            "reads": list(step.reads),
            "hidden": list(hidden.get(step.name, ())),
        }
        for step in steps
    ]
    files.write_json(folder / PARTS / STEPS, told)


def manifests(folder: Path, steps: Sequence[str], count: int) -> dict[str, list[Manifest]]:
    """The manifests of finished steps, by step."""
    found = {}
    for step in steps:
        parts = [sidecar.manifest(folder, step, number) for number in range(count)]
        found[step] = [one for one in parts if one]
        assert len(found[step]) == count, f"the step {step} is not done"
    return found


def _read(step: Step, part: Part) -> list[Any]:
    """The digests of what a step reads of a part, and of which rows are still there."""
    digests = {
        name: [part.manifests[origin].digest for origin in part.origins(name)]
        for name in ("id", *step.reads)
    }
    return [digests, part.manifests[part.steps[-1]].alive]


def _blind(part: Part, hidden: Sequence[str]) -> list[str]:
    return sorted(set(hidden) & set(part.manifests[DOCUMENTS].sources))
