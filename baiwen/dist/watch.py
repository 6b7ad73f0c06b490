"""The watch over a job: which rank died or stands still, and the end of the others.

    watch = Watch(meeting, store, timeout=600)
    watch.start()
    watch.at("reading rows", step=120)     # what this process does from here on; costs nothing
    progress.mark()                        # it gets on with that
    watch.rest()                           # at a clean end

A collective waits for a peer that is gone, and the error that ends it names the one that waited.
Here every rank's heart, a thread, beats in the store of the job once a second: step, what it does,
how many collectives it has begun, how many marks of getting on the main thread has made. And it
looks at the others:

| seen | how | within |
| --- | --- | --- |
| a process ended without a word (kill -9) | its neighbours hold its pidfd | at once |
| a machine is gone | no heart on it beats | 30 s; 5 s once a connection broke |
| a rank stands still | no mark; others have begun collectives that it has not | `timeout` |
| a process is stopped, or no thread of it runs | its heart does not beat | `timeout` |
| rank 0's machine, which has the store, is gone | the store does not answer | 30 s |

The first to see it puts a verdict into the store, and every rank ends by it, a main thread that
sits in a collective or not. Seconds are those that this process has lived through: a laptop that
slept, a job that was suspended, finds nobody late. At `dist.barrier` nobody is late either.
"""

import faulthandler
import json
import os
import re
import select
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any, NoReturn

from torch.distributed import DistError, Store
from torch.distributed import distributed_c10d as c10d

from baiwen import last_words, progress
from baiwen.dist.meeting import MISTAKE, Meeting, Member
from baiwen.dist.verdict import AGAIN, HURRIED, SILENT, Heart, Verdict, judge, watched
from baiwen.errors import PassingError, UserError

BEAT = 1.0  # seconds between two beats of a heart
TERMINATED = 128 + signal.SIGTERM  # the exit code of a process that SIGTERM stopped
WRITER, FINISH = "checkpoint", 5.0  # a thread that may end its work first; seconds for threads
LATER = 3.0  # seconds after which others judge who stands still, if rank 0 has not
STACK = 12  # innermost calls shown of a rank that stands still


class Watch:
    """This rank's heart, and its eyes on the others."""

    def __init__(self, meeting: Meeting, store: Store, timeout: float) -> None:
        # Rank 0 sees all, and has the first word; the others, who see some, speak if it does not.
        self.meeting, self.timeout = meeting, timeout + LATER * (meeting.rank > 0)
        self.members, self.me = meeting.members, meeting.members[meeting.rank]
        connected: Any = store  # torch's stubs leave `clone` out
        self._store = connected.clone()  # the main thread's connection is taken while that waits
        self._at, self._lost, self._leaving = (0, "starting"), False, False
        self._barriers = 0  # that this rank has come to
        self._heart, self._beats = Heart(), 0
        self._watched = watched(self.members, meeting.rank)
        self._hearts: dict[int, Heart] = {}  # of these ranks, and
        self._heard: dict[int, int] = {}  # the beat it heard last
        self._over = threading.Event()
        self._neighbours: dict[int, Member] = {}  # by pidfd
        self._dead: list[Member] = []  # before this watch began
        self._wake, self._waking = os.pipe()
        self._threads = [
            threading.Thread(target=self._live, name="heart", daemon=True),
            threading.Thread(target=self._guard, name="guard", daemon=True),
        ]

    def start(self) -> None:
        """Begin to beat and to look."""
        faulthandler.enable(file=2)  # a crash in native code says where
        for member in self.members:
            if member.house == self.me.house and member != self.me:
                try:
                    self._neighbours[os.pidfd_open(member.pid)] = member
                except ProcessLookupError:
                    self._dead.append(member)
                except (OSError, AttributeError):  # a system without pidfds: silence tells
                    pass
        for thread in self._threads:
            thread.start()

    @property
    def doing(self) -> str:
        """What this process does, in the words of `at`."""
        return self._at[1]

    def at(self, what: str, step: int | None = None) -> None:
        """Note what this process does from here on, at which step."""
        self._at = (self._at[0] if step is None else step, what)

    def arrive(self, what: str) -> None:
        """Note that this process waits at a barrier, which counts as a collective does."""
        self.at(what)
        self._barriers += 1

    def rest(self) -> bool:
        """End the watch; whether its threads have ended in time."""
        self._over.set()
        os.write(self._waking, b"x")
        for thread in self._threads:
            thread.join(FINISH)
        if any(thread.is_alive() for thread in self._threads):
            return False
        for file in (self._wake, self._waking, *self._neighbours):
            os.close(file)
        return True

    def leave(self, error: BaseException) -> None:
        """Tell the others why this rank ends; where it is for another's fault, end with them."""
        if _of_peers(error):
            self._lost = True
            self._over.wait(SILENT + HURRIED)  # the verdict ends this process, too
        self._leaving = True
        if not isinstance(error, Exception):
            self._over.wait(BEAT / 2)  # torchrun's signal comes a moment after a neighbour's death
        step, what = self._at
        text = f"{self.me} ended at step {step:,}, {what}: {_told(error)}"
        if self.rest():
            with suppress(DistError):  # nobody is left to be told
                self._post(Verdict(text, (self.me.rank,), _code(error), self.me.house))
                if isinstance(error, UserError) and not isinstance(error, PassingError):
                    self.meeting.lasting.set(MISTAKE, str(error))

    def _live(self) -> None:
        """The heart: beat, look, sleep until the next beat or a neighbour's end."""
        before = time.monotonic()
        while not self._over.is_set():
            now = time.monotonic()
            lived, before = min(now - before, 2 * BEAT), now
            try:
                if self._dead:
                    self._end(self._post(self._died(self._dead[0])))
                self._beat(lived)
                self._look(lived)
                self._sleep()
            except DistError:
                if not self._over.is_set():
                    self._end(self._no_store())

    def _guard(self) -> None:
        """Whether the heart beats: a store whose machine is gone keeps it waiting forever."""
        beats, still = 0, 0.0
        while not self._over.wait(BEAT):
            still = still + BEAT if beats == self._beats else 0.0
            beats = self._beats
            if still >= SILENT:
                self._end(self._no_store())

    def _beat(self, lived: float) -> None:
        step, what = self._at
        count = max(_collectives() + self._barriers, self._heart.count)
        found = Heart(step, what, count, progress.marks(), lost=self._lost)
        if replace(self._heart, still=0.0) == found:
            found = replace(found, still=self._heart.still + lived)
        self._heart, self._beats = found, self._beats + 1
        words = json.dumps({"beats": self._beats, **asdict(found)})
        self._store.set(f"heart {self.me.rank}", words)

    def _look(self, lived: float) -> None:
        """Listen to the hearts that this rank looks at; end where there is a verdict."""
        if self._store.check(["verdict"]):
            verdict = Verdict.read(self._store.get("verdict"))
            if not (self._leaving and verdict.house):  # this rank has words of its own, too
                self._end(verdict)
        if len(self._hearts) < len(self._watched):  # some have not begun to beat
            begun = [rank for rank in self._watched if self._store.check([f"heart {rank}"])]
            self._hearts |= {rank: Heart() for rank in begun if rank not in self._hearts}
        if not self._hearts:
            return
        words = self._store.multi_get([f"heart {rank}" for rank in self._hearts])
        for rank, word in zip(self._hearts, words, strict=True):
            self._hear(rank, json.loads(word), lived)
        found = judge(self.members, {**self._hearts, self.me.rank: self._heart}, self.timeout)
        if found:
            verdict = self._post(found)
            if self.me.rank not in verdict.ranks:
                time.sleep(2 * BEAT)  # until those it names have shown where they stand
            self._end(verdict)

    def _hear(self, rank: int, word: dict[str, Any], lived: float) -> None:
        beats = word.pop("beats")
        silent = 0.0 if beats != self._heard.get(rank) else self._hearts[rank].silent + lived
        self._heard[rank] = beats
        self._hearts[rank] = replace(Heart(**word), silent=silent)

    def _sleep(self) -> None:
        """Until the next beat, the end of the watch, or that of a neighbour."""
        poll = select.poll()
        for file in (self._wake, *self._neighbours):
            poll.register(file, select.POLLIN)
        ended = [self._neighbours[file] for file, _ in poll.poll(1000 * BEAT) if file != self._wake]
        if ended and not self._over.is_set():
            self._end(self._post(self._died(ended[0])))

    def _died(self, member: Member) -> Verdict:
        key = f"heart {member.rank}"
        last = json.loads(self._store.get(key)) if self._store.check([key]) else None
        heard = f", last heard of at step {last['step']:,}, {last['what']}" if last else ""
        text = (
            f"{member} died{heard}: killed from outside (kill -9, or by the kernel for want of "
            f"memory: see dmesg), or crashed with what it printed.\n{AGAIN}"
        )
        return Verdict(text, (member.rank,))

    def _no_store(self) -> Verdict:
        text = (
            f"the job's store at {self.meeting.place} does not answer: the machine of "
            f"{self.members[0]}, or its torchrun, is gone or cannot be reached.\n{AGAIN}"
        )
        return Verdict(text)

    def _post(self, verdict: Verdict) -> Verdict:
        """Put it into the store; the one that was there first holds."""
        return Verdict.read(self._store.compare_set("verdict", "", verdict.words()))

    def _end(self, verdict: Verdict) -> NoReturn:
        """End this process by a verdict, wherever its main thread is."""
        text = verdict.text
        if verdict.house != self.me.house and last_words.first_to_say(text):
            _print(f"baiwen: {text}")
        if self.me.rank in verdict.ranks:
            stack = f"{self.me} stands here:\n{_stack()}"
            _print(stack)
            text = f"{text}\n{stack}"
        last_words.leave(text)
        if verdict.silent:  # torchrun's SIGTERM would wait half a minute for its answer
            for pidfd, member in self._neighbours.items():
                if member.rank in verdict.ranks:
                    with suppress(ProcessLookupError):
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        for thread in threading.enumerate():
            if thread.name == WRITER:
                thread.join(FINISH)
        os._exit(verdict.code)


def _print(text: str) -> None:
    os.write(2, f"{text}\n".encode())  # sys.stderr may be locked by a thread that stands still


def _stack() -> str:
    """Where the main thread is, the innermost calls last."""
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    return "".join(traceback.format_stack(frame)[-STACK:])


def _collectives() -> int:
    """How many collectives this process has begun, of all groups: alike on ranks in step."""
    with suppress(AttributeError, RuntimeError):  # private names, asked gently
        groups: list[Any] = list(c10d._world.pg_map)
        return sum(group._get_sequence_number_for_group() for group in groups)
    return 0


def _of_peers(error: BaseException) -> bool:
    """Whether an error says no more than that a peer is not there."""
    broken = isinstance(error, RuntimeError) and re.search("gloo|NCCL|nccl", str(error))
    return isinstance(error, DistError) or bool(broken)


def _told(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "stopped by Ctrl-C"
    if isinstance(error, SystemExit):
        return (
            "stopped by SIGTERM" if _code(error) == 128 + signal.SIGTERM else f"exit {error.code}"
        )
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return f"{kind}{error}"


def _code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    return 2 if isinstance(error, UserError) else 1
