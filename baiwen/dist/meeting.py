"""Where the ranks of a job meet: who is here, on which machine, and who has not come.

    meeting = meet()
    meeting.members[3]         # Member(rank=3, host="node-1", pid=4242, house="...")
    str(meeting.members[3])    # "rank 3 (node-1, pid 4242)"
    meeting.store              # words between the ranks

torchrun's store outlives its workers: those that it starts again find the words of the dead in it.
So every process comes under a name of its own, and rank 0 reads out the list of names until each
rank has found itself on it; only then do they share a store, whose words begin with that list's.
"""

import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from uuid import uuid4

from torch.distributed import PrefixStore, Store

from baiwen.dist.store import Patience, connected
from baiwen.errors import UserError

PATIENCE = 600.0  # seconds that those who are here wait for the others
MISTAKE = "mistake"  # the word in which a user's mistake outlives those who found it
PAUSE = 0.05  # seconds between two looks; of many ranks more, so that together they look as often
LOOKS = 500  # a second, of all ranks together


@dataclass(frozen=True)
class Member:
    """One process of the job."""

    rank: int
    host: str
    pid: int
    house: str  # the same for those that see each other's processes: one kernel, one container
    name: str  # of this process alone

    def __str__(self) -> str:
        return f"rank {self.rank} ({self.host}, pid {self.pid})"


@dataclass(frozen=True)
class Meeting:
    """The processes of a job that have found each other."""

    rank: int
    members: tuple[Member, ...]  # in the order of their ranks
    store: Store
    lasting: Store  # the same, and what those who come after a restart read
    place: str  # where it is, as host:port


@cache
def meet() -> Meeting:
    """Meet the other ranks, once a process: what they share outlives a session.

    UserError where the store of the job cannot be reached, or where ranks do not come.
    """
    found = connected(PATIENCE)
    store, rank = found.store, found.rank
    mine = Member(rank, socket.gethostname(), os.getpid(), _house(), uuid4().hex)
    turn, members = gathered(store, mine, found.size, PATIENCE)
    if store.check([MISTAKE]):
        told = store.get(MISTAKE).decode()
        raise UserError(f"{told}\n(torchrun started the job again, but no restart mends this.)")
    return Meeting(rank, tuple(members), PrefixStore(turn, store), store, found.place)


def gathered(store: Store, mine: Member, size: int, patience: float) -> tuple[str, list[Member]]:
    """A name for this meeting and all its members, alike on every rank."""
    store.set(f"member {mine.rank}", json.dumps(asdict(mine)))
    waiting = Patience(patience)
    seen, members = "", list[Member]()
    while True:
        if mine.rank == 0:
            _read_out(store, size)
        turn = _turn(store)
        if turn != seen:
            seen, members = turn, _listed(store, turn)
            if mine in members:  # rank 0 is told so
                store.set(_nod(turn, mine.name), "")
        if mine in members and store.check([f"{turn} is complete"]):
            return turn, members
        if not waiting.left:
            absent, here = _presence(store, size)
            raise UserError(
                f"{ranks(absent)} of {size} did not come within {patience:.0f} s. Here: {here}.\n"
                "Look at what the missing ones, or the torchrun of their machine, have printed."
            )
        if mine.rank == 0 and waiting.due:
            waiting.tell(f"{ranks(_presence(store, size)[0])} of {size} not here yet")
        time.sleep(max(PAUSE, size / LOOKS))


def _read_out(store: Store, size: int) -> None:
    """As rank 0: the list of all that are here, under a new name whenever it has changed."""
    keys = [f"member {rank}" for rank in range(size)]
    if not store.check(keys):
        return
    members = [Member(**json.loads(text)) for text in store.multi_get(keys)]
    turn = _turn(store)
    if members != _listed(store, turn):
        turn = uuid4().hex
        store.set(_list(turn), json.dumps([asdict(member) for member in members]))
        store.set("turn", turn)
    if store.check([_nod(turn, member.name) for member in members]):
        store.set(f"{turn} is complete", "")


def _turn(store: Store) -> str:
    """The name of the list that counts; none before the first."""
    return store.get("turn").decode() if store.check(["turn"]) else ""


def _listed(store: Store, turn: str) -> list[Member]:
    return [Member(**found) for found in json.loads(store.get(_list(turn)))] if turn else []


def _list(turn: str) -> str:
    return f"members of {turn}"


def _nod(turn: str, name: str) -> str:
    return f"{name} is on {turn}"


def _presence(store: Store, size: int) -> tuple[list[int], str]:
    """Who is not here, and who is; of an earlier start's words nothing counts that has no nod."""
    turn = _turn(store)
    listed = _listed(store, turn)
    here = [member for member in listed if store.check([_nod(turn, member.name)])]
    if not listed:
        keys = {rank: f"member {rank}" for rank in range(size)}
        there = [key for key in keys.values() if store.check([key])]
        here = [Member(**json.loads(store.get(key))) for key in there]
    absent = sorted(set(range(size)) - {member.rank for member in here})
    return absent, f"{', '.join(map(str, here[:16]))}{', ...' if len(here) > 16 else ''}"


def ranks(numbers: Sequence[int]) -> str:
    """[3] -> "rank 3"; [1, 2, 3, 5] -> "ranks 1-3, 5"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    told = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return f"rank{'s' if len(numbers) > 1 else ''} {told}"


def _house() -> str:
    """The kernel and its table of processes, where there is such a thing (Linux)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return uuid4().hex
