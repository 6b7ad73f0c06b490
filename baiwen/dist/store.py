"""The store of a job: where it is, and how a rank gets to it.

    found = connected(patience=600.0)      # by RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT
    found.store.set("word", "here")

torchrun keeps the store itself; with another launcher rank 0 does. A rank that cannot reach it says
within seconds where it looks, and looks on: the others may be a queue behind it.
"""

import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed import DistNetworkError, Store, TCPStore

from baiwen import last_words, log
from baiwen.errors import UserError

FIRST, AGAIN = 5.0, 60.0  # seconds after which it is said what is waited for, and said again
PROBE, PAUSE = 5.0, 0.5  # seconds of one try to connect, at most, and between two
VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Connected:
    """A rank at the store."""

    store: Store
    rank: int
    size: int
    place: str  # of the store, as host:port


class Patience:
    """A deadline, and a line now and then of what is waited for."""

    def __init__(self, seconds: float) -> None:
        now = time.monotonic()
        self.seconds, self._deadline, self._due = seconds, now + seconds, now + FIRST

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self._deadline - time.monotonic())

    @property
    def due(self) -> bool:
        """Whether it is time to say what is waited for."""
        return time.monotonic() >= self._due

    def tell(self, what: str, key: str = "") -> None:
        """Say it; of the ranks of a machine that have this key, one does."""
        self._due = time.monotonic() + AGAIN
        if not key or last_words.first_to_say(f"{key}, {self.left / AGAIN:.0f}"):
            log.say(f"{what}; waiting for another {self.left:.0f} s")


def connected(patience: float) -> Connected:
    """The store of the job; UserError where nobody answers, or a variable says nothing."""
    given = {name: os.environ.get(name, "") for name in VARIABLES}
    for name, value in given.items():
        if not value or (name != "MASTER_ADDR" and not value.isdecimal()):
            raise UserError(
                f"the environment variable {name} is {value!r}, and should be "
                f"{'an address' if name == 'MASTER_ADDR' else 'a number'}.\n"
                "torchrun sets it; other launchers must: docs/cluster.md."
            )
    host, (rank, size, port) = (
        given["MASTER_ADDR"],
        (int(given[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")),
    )
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    if serves:
        host = "localhost"  # whatever the others call it
    else:
        _reach(host, port, rank, patience)
    try:
        store = TCPStore(
            host,
            port,
            is_master=serves,
            timeout=timedelta(seconds=patience),
            wait_for_workers=False,
            multi_tenant=serves,
        )
    except DistNetworkError as error:
        raise UserError(
            f"rank {rank} cannot {'open' if serves else 'use'} the job's store at {host}:{port} "
            f"(MASTER_PORT): {str(error).splitlines()[0]}\nIs it the port of something else?"
        ) from error
    return Connected(store, rank, size, f"{given['MASTER_ADDR']}:{port}")


def _reach(host: str, port: int, rank: int, patience: float) -> None:
    """Wait until somebody listens there."""
    me, place = f"rank {rank} ({socket.gethostname()})", f"{host}:{port} (MASTER_ADDR:MASTER_PORT)"
    waiting = Patience(patience)
    while why := _unreachable(host, port):
        if not waiting.left:
            raise UserError(
                f"{me} found nobody at {place} within {patience:.0f} s: {why}.\n"
                "Rank 0, or its torchrun, listens there. Look whether it runs and what it has "
                "printed, whether both variables are the same on all machines and name the "
                f"machine of rank 0, and whether a firewall is between: nc -vz {host} {port}"
            )
        if waiting.due:
            waiting.tell(f"{me} finds nobody at {place}: {why}", key=place)
        time.sleep(min(PAUSE, waiting.left))


def _unreachable(host: str, port: int) -> str:
    """Why no connection comes about; nothing where one does."""
    try:
        with socket.create_connection((host, port), PROBE) as probe, suppress(OSError):
            probe.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        return error.strerror or str(error)
    return ""
