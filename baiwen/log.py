"""Log: what a person sees while a stage works, and the numbers that stay.

    say("9 documents dropped")
    for document in track(documents, "filter", unit="documents"):
        ...
    with StepLog(folder, total=1000, start=200, trackers=("tensorboard",)) as log:
        log.step(201, {"loss": 3.21, "lr": 3e-4, "grad_norm": 0.8, "tokens_per_second": 12_300.0})

On a terminal there is one live line, elsewhere a plain line a step (every ten seconds for `track`):

    train 201/1,000 20.1 %  loss 3.2100  lr 3.00e-04  grad 0.80  12.3k tokens/s  ETA 0:03:12

`metrics.jsonl` gets every step; its JSON has null where a number is not finite.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from baiwen import progress
from baiwen import trackers as trackers_of

T = TypeVar("T")

METRICS = "metrics.jsonl"
PATIENCE = 2.0  # seconds of work before `track` shows its live line
PLAIN_EVERY = 10.0  # seconds between the plain lines of `track`
LIVE_EVERY = 0.1  # seconds between two drawings of a live line
MEMORY = 60.0  # seconds after which a measured rate weighs 1/e
SHOWN: dict[str, Callable[[float], str]] = {
    "loss": lambda value: f"loss {value:.4f}",
    "lr": lambda value: f"lr {value:.2e}",
    "grad_norm": lambda value: f"grad {value:.2f}",
    "tokens_per_second": lambda value: f"{_short(value)} tokens/s",
    "mfu": lambda value: f"MFU {100 * value:.1f} %",
    "memory": lambda value: f"{value / 2**30:.2f} GiB",
}

_CONSOLE = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print one line to stderr, above the live line where there is one."""
    _CONSOLE.print(text)


@contextmanager
def hushed() -> Iterator[None]:
    """Show nothing meanwhile: of the many small runs that one line tells of together."""
    before, _CONSOLE.quiet = _CONSOLE.quiet, True
    try:
        yield
    finally:
        _CONSOLE.quiet = before


def track(
    items: Iterable[T],
    label: str,
    total: int | None = None,
    unit: str = "it",
    counts: Callable[[T], int] = lambda _: 1,
) -> Iterator[T]:
    """Yield the items and tell count, rate and ETA, once the work takes more than a moment.

    `total` is needed only where `len(items)` is not known and an ETA is wanted. `counts` says for
    how much of it an item counts, where they are not alike.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    pace, done = _Pace(), 0
    with _Line(total, PATIENCE, PLAIN_EVERY) as line:
        for item in items:
            yield item
            progress.mark()
            done += counts(item)
            if line.due():
                line.show(done, _counted(label, done, total, unit, pace))
        if line.shown:
            line.show(done, _counted(label, done, total, unit, pace))


class StepLog:
    """The log of an optimizer's steps: a line for the eye, `metrics.jsonl`, and named trackers.

    A context manager. Resuming at `start` cuts the rows of later steps off `metrics.jsonl`, so no
    step is there twice. Where `main` is False (another rank) nothing is shown or written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        total: int,
        start: int = 0,
        label: str = "train",
        trackers: Sequence[str] = (),
        main: bool = True,
    ) -> None:
        self.folder, self.total, self.start, self.label = folder, total, start, label
        self.trackers, self.main = trackers, main
        self._open = ExitStack()
        self._records: list[trackers_of.Record] = []

    def __enter__(self) -> "StepLog":
        if self.main:
            with self._open:  # closes what is open already if a tracker fails
                path = self.folder / METRICS
                cut(path, self.start)
                self._file = self._open.enter_context(path.open("a", encoding="utf-8"))
                for name in self.trackers:
                    tracker = trackers_of.tracker(name, self.folder, self.start)
                    self._records.append(self._open.enter_context(tracker))
                self._line = self._open.enter_context(_Line(self.total, 0.0, 0.0))
                self._open = self._open.pop_all()
            self._pace = _Pace(self.start)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log one step; shown are loss, lr, grad_norm, tokens_per_second, mfu, memory (bytes)."""
        progress.mark()
        if not self.main:
            return
        row = {name: _finite(value) for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, **row}) + "\n")
        self._file.flush()
        for record in self._records:
            record(step, row)
        self._pace.reach(step)
        if self._line.due() or step == self.total:
            told = [form(float(metrics[name])) for name, form in SHOWN.items() if name in metrics]
            head = f"{self.label} {_share(step, self.total)}"
            self._line.show(step, "  ".join([head, *told, *self._pace.eta(self.total)]))


class _Pace:
    """A rate as a moving average over time: work and seconds, both forgotten alike."""

    def __init__(self, done: int = 0) -> None:
        self._done, self._at = done, time.monotonic()
        self._work = self._seconds = 0.0

    def reach(self, done: int) -> None:
        now = time.monotonic()
        keep = math.exp((self._at - now) / MEMORY)
        self._work = self._work * keep + done - self._done
        self._seconds = self._seconds * keep + now - self._at
        self._done, self._at = done, now

    @property
    def rate(self) -> float:
        return self._work / self._seconds if self._seconds else 0.0

    def eta(self, total: int | None) -> list[str]:
        if total is None or not self.rate:
            return []
        return [f"ETA {timedelta(seconds=round(max(total - self._done, 0) / self.rate))}"]


class _Line:
    """One line of progress: redrawn in place on a terminal, printed anew elsewhere."""

    def __init__(self, total: int | None, patience: float, plain_every: float) -> None:
        live = _CONSOLE.is_terminal and _CONSOLE.is_interactive
        self._total, self._every = total, LIVE_EVERY if live else plain_every
        self._due = time.monotonic() + (patience if live else plain_every)
        # Drawn by `show` alone: no thread that takes a core from the work.
        self._bar = _bar() if live else None
        self.shown = False

    def __enter__(self) -> "_Line":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar and self.shown:
            self._bar.stop()  # gives the terminal its cursor back

    def due(self) -> bool:
        return time.monotonic() >= self._due

    def show(self, done: int, text: str) -> None:
        if self._bar is None:
            say(text)
        else:
            if not self.shown:
                self.shown = True  # first, for a Ctrl-C in `start` must find its way to `stop`
                self._bar.add_task("", total=self._total, line="")
                self._bar.start()
            self._bar.update(self._bar.task_ids[0], completed=done, line=text, refresh=True)
        self.shown, self._due = True, time.monotonic() + self._every


def _bar() -> Progress:
    text = TextColumn(
        "{task.fields[line]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")
    )
    return Progress(BarColumn(bar_width=20), text, console=_CONSOLE, auto_refresh=False)


def _counted(label: str, done: int, total: int | None, unit: str, pace: _Pace) -> str:
    pace.reach(done)
    head = f"{label} {_share(done, total)} {unit}"
    return "  ".join([head, f"{_short(pace.rate)} {unit}/s", *pace.eta(total)])


def _share(done: int, total: int | None) -> str:
    return (
        f"{done:,}/{total:,} {100 * done / max(total, 1):.1f} %"
        if total is not None
        else f"{done:,}"
    )


def _short(value: float) -> str:
    """Write a number in three or four figures: 7.25, 310.0, 12.3k, 4.1M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}{letter}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _finite(value: float) -> float | None:
    """Return a plain number, or None where JSON has no word for it."""
    number = value if isinstance(value, int) else float(value)
    return number if math.isfinite(number) else None


def cut(path: Path, start: int) -> None:
    """Durably cut a JSONL file where a row is of a `step` after `start`, or torn by a kill."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        kept = 0
        for line in file:
            if not _belongs(line, start):
                break
            kept += len(line)
        file.truncate(kept)
        os.fsync(file.fileno())


def _belongs(line: bytes, start: int) -> bool:
    try:
        return line.endswith(b"\n") and json.loads(line)["step"] <= start
    except (ValueError, TypeError, KeyError):
        return False
