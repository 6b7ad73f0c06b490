"""What a program may use. Every budget is enforced by the kernel or by the parent, never inside.

Limits()                        # what a short program needs
Limits(cpu=1, wall=3.0)
"""

from dataclasses import asdict, dataclass
from typing import Literal

from baiwen.errors import UserError

MIB = 2**20

Ended = Literal["cpu", "wall", "memory", "output"]


@dataclass(frozen=True)
class Limits:
    """Budgets of one run; sizes in bytes, times in seconds."""

    cpu: int = 5  # CPU seconds of each process: what a verdict on a busy machine should hang on
    wall: float = 30.0  # of the whole run: ends what sleeps, and bounds cpu x processes
    memory: int = 512 * MIB  # address space of a process, and memory of all together
    processes: int = 32  # processes and threads at once (level C: one process)
    scratch: int = 32 * MIB  # the only place to write, and the largest file (level C: none)
    output: int = 4 * MIB  # of standard output, and as much again of standard error
    files: int = 128  # open at once

    def __post_init__(self) -> None:
        """`UserError` for a budget that is no positive number."""
        for name, budget in asdict(self).items():
            whole = isinstance(budget, int) and not isinstance(budget, bool)
            if not (whole or (name == "wall" and isinstance(budget, float))) or not budget > 0:
                kind = "number" if name == "wall" else "whole number"
                raise UserError(f"the sandbox's limit {name} is {budget!r}, not a positive {kind}")


@dataclass(frozen=True)
class Result:
    """What came of a run. Nothing in it was decided inside the sandbox."""

    level: str  # A, B or C
    stdout: bytes
    stderr: bytes
    exit: int  # as a shell tells it: 128 + n where signal n ended the program
    limit: Ended | None  # the budget that ended it
    seconds: float  # wall time of the run, start of the jail included

    @property
    def done(self) -> bool:
        """Whether the program ended by itself, without an error."""
        return self.limit is None and self.exit == 0
