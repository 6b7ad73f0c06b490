"""Taking turns: sides are measured A B A B ..., so whatever else the machine does hits them alike.

Functions of one process:

    alternate({"ours": ours, "plain": plain}, rounds=5)["ours"]        # five `Spent`

Whole programs, each in a process of its own with a peak of memory of its own. A side is a module
that does one piece of work whenever it is told:

    turn = Turn()                                # in the side: stdin and stdout are the line
    while True:
        turn.wait()                              # tells of the last turn, waits for the next
        turn.figures = {"tokens": work()}

    with Side("benchmarks.sides.baiwen_step", settings) as ours, Side(...) as peer:
        take_turns({"ours": ours, "peer": peer}, steps=9, seconds=120)["ours"][0]["cpu"]

A turn lasts from the word to go until the side asks for the next one, so loading counts too. This
file needs the standard library alone: a peer may run in another environment.
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypeVar

ROOT = Path(__file__).resolve().parents[1]
WARM = 2  # first turns of a process that do not count
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}  # threads sleep while they wait: CPU seconds count work
QUIET = {  # of every side: nothing calls home, and its line is its own
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRL_DISABLE_USAGE_STATS": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CONFIGURE_LOGGING": "0",
}

Figures = dict[str, Any]  # of one turn: cpu and wall in seconds, memory in bytes, the side's own
Name = TypeVar("Name")


class Spent(NamedTuple):
    """Seconds of a piece of work: computed by all threads of the process, and on the wall."""

    cpu: float
    wall: float


def alternate(sides: Mapping[Name, Callable[[], object]], rounds: int) -> dict[Name, list[Spent]]:
    """What each side spent in every round; all take turns within a round."""
    spent: dict[Name, list[Spent]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            spent[name].append(Spent(time.process_time() - cpu, time.perf_counter() - wall))
    return spent


def take_turns(
    sides: Mapping[str, "Side"], steps: int, seconds: float, warm: int = WARM
) -> dict[str, list[Figures]]:
    """The figures of `steps` turns of each side after its first ones; fewer once time is over."""
    began = time.monotonic()
    rows: dict[str, list[Figures]] = {name: [] for name in sides}
    for step in range(1, warm + steps + 1):
        for name, side in sides.items():
            rows[name].append(side.step())
        if step > warm and time.monotonic() - began > seconds:
            break
    return {name: found[warm:] for name, found in rows.items()}


def ratio(ours: list[Figures], theirs: list[Figures], work: str, clock: str) -> float:
    """How many times the `work` per `clock` of `theirs` ours is: the median over the rounds."""
    pairs = zip(ours, theirs, strict=True)
    return median((a[work] / a[clock]) / (b[work] / b[clock]) for a, b in pairs)


class Side:
    """A side in a process of its own."""

    def __init__(self, module: str, settings: Figures, python: str = sys.executable) -> None:
        self.module, self.errors = module, tempfile.TemporaryFile()  # noqa: SIM115 - see __exit__
        waiting = {} if settings.get("spin") else PASSIVE
        self.process = subprocess.Popen(
            [python, "-m", module, json.dumps(settings)],
            cwd=ROOT,
            env={**os.environ, **QUIET, **waiting, "OMP_NUM_THREADS": str(settings["threads"])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def __enter__(self) -> "Side":
        self._read()  # it says that it is ready
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()  # hangs up, which ends it
        self.errors.close()

    def step(self) -> Figures:
        """Let it do one turn."""
        assert self.process.stdin
        print(file=self.process.stdin, flush=True)
        return self._read()

    def _read(self) -> Figures:
        assert self.process.stdout
        if line := self.process.stdout.readline():
            return dict(json.loads(line))
        code = self.process.wait()
        self.errors.seek(0)
        told = self.errors.read().decode(errors="replace")
        raise SystemExit(f"{self.module} ended with code {code}:\n{told[-3000:]}")


class Turn:
    """The end of the line that a side holds."""

    def __init__(self) -> None:
        self.line = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what libraries print goes where errors go
        self.figures: Figures = {}
        self.began: Spent | None = None

    def wait(self) -> None:
        """Tell what the turn that ends here took, and wait for the next; hanging up ends it all."""
        if self.began:
            spent = {
                "cpu": time.process_time() - self.began.cpu,
                "wall": time.perf_counter() - self.began.wall,
                "memory": peak_memory(),
            }
            print(json.dumps(self.figures | spent), file=self.line)
        else:
            print("{}", file=self.line)
        if not sys.stdin.readline():
            raise SystemExit
        self.began = Spent(time.process_time(), time.perf_counter())


def settled_memory() -> int:
    """Bytes of memory that this process holds; on Linux its peak begins anew here."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def peak_memory() -> int:
    """Most bytes of memory that this process has held.

    Linux keeps `ru_maxrss` across exec, so a child begins with its parent's; VmHWM begins anew.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
