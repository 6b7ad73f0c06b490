"""The second opinion: Math-Verify in a process of its own, at most so many seconds an answer.

    worker.ask("\\int_0^1 x dx", "\\frac12", seconds=0.9)     -> Verdict.right

Started when first asked, and that start is not on the answer's account, nor is the wait for other
threads. Safe from threads (one question at a time) and after a fork (a child starts its own). It
ends with this process: its standard input closes, and a busy one has its alarm.
"""

import contextlib
import importlib.util
import json
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

from baiwen.verify.verdict import Verdict

_PROGRAM = Path(__file__).with_name("judge.py")
_START = 120.0  # seconds for loading the library on a busy machine
_MARGIN = 0.1  # seconds between the worker's alarm and our own end of patience
_LONGEST = 2000  # characters of a text: a question always fits the pipe


class Worker:
    """The process, if there is one, and whether a child of it waits for a question."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.unread = b""
        self.idle = False
        self.asked = 0

    def ask(self, answer: str, truth: str, seconds: float) -> Verdict:
        """The library's verdict; `undecided` where it has none, or is not installed."""
        if not available() or max(len(answer), len(truth)) > _LONGEST:
            return Verdict.undecided
        with self.lock:
            if not self._ready():
                return Verdict.error
            return self._verdict(answer, truth, seconds)

    def forget(self) -> None:
        """After a fork, in the child: the process belongs to the parent."""
        for pipe in (self.process.stdin, self.process.stdout) if self.process else ():
            if pipe:
                pipe.close()
        self.lock = threading.Lock()  # a thread of the parent may have held the old one
        self.process, self.unread, self.idle = None, b"", False

    def stop(self) -> None:
        """Ends the process; the next question starts another."""
        if self.process:
            self.process.kill()
            self.process.communicate()
        self.process, self.unread, self.idle = None, b"", False

    def _ready(self) -> bool:
        """Is there a child that waits? Starts the process, or waits for its next child."""
        deadline = time.monotonic() + _START
        for _ in range(2):  # a process that died in the meantime is started once again
            if self.process is None:
                self.process = _started()
            while not self.idle:
                line = self._line(deadline)
                if line is None:
                    break
                self.idle = line == "ready" or line.startswith(f"{self.asked} ")
            if self.idle and self.process.poll() is None:
                return True
            self.stop()
        return False

    def _verdict(self, answer: str, truth: str, seconds: float) -> Verdict:
        deadline = time.monotonic() + seconds
        self.asked += 1
        self.idle = False
        question = {"id": self.asked, "answer": answer, "truth": truth}
        question["seconds"] = max(seconds - _MARGIN, 0.01)
        self._write(json.dumps(question).encode() + b"\n")
        while (line := self._line(deadline)) is not None:
            self.idle = True
            if line == "ready":  # the child that had the question is gone: a new one reports
                return Verdict.timeout
            number, _, verdict = line.partition(" ")
            if number == str(self.asked):
                return Verdict(verdict)
        return Verdict.timeout

    def _write(self, line: bytes) -> None:
        assert self.process and self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # its death shows when we read
            self.process.stdin.write(line)

    def _line(self, deadline: float) -> str | None:
        """The next line of the process; None when time is up or the process is gone."""
        assert self.process and self.process.stdout
        pipe = self.process.stdout.fileno()
        poll = select.poll()  # `select.select` takes no descriptor above 1023
        poll.register(pipe, select.POLLIN)
        while b"\n" not in self.unread:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(1000 * left):
                return None
            if not (read := os.read(pipe, 4096)):
                return None
            self.unread += read
        line, _, self.unread = self.unread.partition(b"\n")
        return line.decode()


def available() -> bool:
    """Is Math-Verify installed?"""
    return importlib.util.find_spec("math_verify") is not None


def _started() -> subprocess.Popen[bytes]:
    # -P: the folder of the program is no place to import from. A session of its own keeps Ctrl-C
    # away; the end of its input is what ends it.
    return subprocess.Popen(
        [sys.executable, "-P", str(_PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,  # nothing is left in a buffer that a fork would copy
        start_new_session=True,
    )


_WORKER = Worker()
ask = _WORKER.ask
os.register_at_fork(after_in_child=_WORKER.forget)
