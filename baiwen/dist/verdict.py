"""What is wrong with a job, from what its ranks tell of themselves: a function of their hearts.

    judge(members, {0: Heart(count=9, still=700.0), 1: Heart(count=8, still=700.0)}, timeout=600)

says of rank 1 that it stands still: rank 0 has begun a collective that it has not, and both have
been so for longer than `timeout` seconds. Ranks in step begin the same number of collectives, so
who has begun the fewest is the one the others wait for.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from baiwen.dist.meeting import Member, ranks

SILENT = 30.0  # seconds without a beat after which a machine counts as gone
HURRIED = 5.0  # the same once a connection to a peer has broken
BARRIER = "waiting at a barrier"  # where a rank waits for as long as it takes
SLOWER = "waiting for slower ranks"  # where it waits for those that make marks
AGAIN = "Started again, the run goes on from its last checkpoint (torchrun --max-restarts does so)."


@dataclass(frozen=True)
class Heart:
    """What is known of a rank."""

    step: int = 0
    what: str = "starting"  # since when it is so, `still` says
    count: int = 0  # collectives it has begun
    marks: int = 0  # of getting on, that it has made (`baiwen/progress.py`)
    still: float = 0.0  # seconds since one of these four changed
    silent: float = 0.0  # seconds since it was heard of
    lost: bool = False  # whether one of its connections broke

    @property
    def told(self) -> str:
        """Where it is, and for how long."""
        return f"at step {self.step:,}, {self.what}, for {self.still + self.silent:.0f} s"


@dataclass(frozen=True)
class Verdict:
    """Why the job ends."""

    text: str
    ranks: tuple[int, ...] = ()  # whose fault it is
    code: int = 1  # with which every process ends
    house: str = ""  # where the rank at fault says it itself
    silent: bool = False  # whether it cannot even end itself

    def words(self) -> str:
        """As the others read it."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, words: bytes) -> "Verdict":
        """What `words` gave."""
        found = json.loads(words)
        return cls(**{**found, "ranks": tuple(found["ranks"])})


def watched(members: Sequence[Member], mine: int) -> list[int]:
    """The ranks that one looks at: rank 0 at all; at those on its machine each other rank there.

    So does the first of each other machine. Beside these all ranks set one word and ask for one a
    second: of 512 ranks rank 0's store has some 1,100 messages a second, a twentieth of a core's
    work (measured: 10 us to set, 49 to ask, 107 for the words of 8, client and server).
    """
    home, house = members[0].house, members[mine].house
    first = next(member.rank for member in members if member.house == house)
    looks = house == home or mine == first
    others = (member for member in members if member.rank != mine)
    return [m.rank for m in others if mine == 0 or (looks and m.house == home)]


def judge(members: Sequence[Member], hearts: Mapping[int, Heart], timeout: float) -> Verdict | None:
    """What is wrong with the job, if something is."""
    patience = min(timeout, HURRIED if any(heart.lost for heart in hearts.values()) else SILENT)
    quiet = [rank for rank, heart in hearts.items() if heart.silent >= patience]
    # Of one that ended its neighbours would know: only where all are silent the machine is gone.
    heard = {members[rank].house for rank in hearts if rank not in quiet}
    gone = [rank for rank in quiet if members[rank].house not in heard]
    if gone:
        return _machine_gone(members, hearts, gone)
    stopped = [rank for rank, heart in hearts.items() if heart.silent >= timeout]
    behind = stopped or _behind(hearts, timeout)
    return _standing(members, hearts, behind, bool(stopped)) if behind else None


def _behind(hearts: Mapping[int, Heart], timeout: float) -> list[int]:
    """Ranks that have not come to where the others wait for them, `timeout` seconds long."""
    least = min(heart.count for heart in hearts.values())
    behind = {rank: heart for rank, heart in hearts.items() if heart.count == least}
    ahead = [heart for rank, heart in hearts.items() if rank not in behind]
    waiting = [heart.still >= timeout and heart.what != BARRIER for heart in ahead]
    late = all(heart.still + heart.silent >= timeout for heart in behind.values())
    return list(behind) if any(waiting) and late else []


def _machine_gone(
    members: Sequence[Member], hearts: Mapping[int, Heart], gone: Sequence[int]
) -> Verdict:
    hosts = ", ".join(sorted({members[rank].host for rank in gone}))
    silent = max(hearts[rank].silent for rank in gone)
    text = (
        f"{ranks(gone)} ({hosts}): no sign of life for {silent:.0f} s; last seen "
        f"{hearts[gone[0]].told}.\nThe machine is gone or cannot be reached. {AGAIN}"
    )
    return Verdict(text, tuple(gone))


def _standing(
    members: Sequence[Member], hearts: Mapping[int, Heart], late: Sequence[int], stopped: bool
) -> Verdict:
    does = "is stopped, or stuck in the kernel," if stopped else "stands still"
    named = "; ".join(f"{members[rank]} {does} {hearts[rank].told}" for rank in late[:8])
    more = f"; and {len(late) - 8} more" if len(late) > 8 else ""
    others = [heart.told for rank, heart in hearts.items() if rank not in late]
    where = f"The others wait {others[0]}.\n" if others else ""
    return Verdict(f"{named}{more}.\n{where}{AGAIN}", tuple(late), silent=stopped)
