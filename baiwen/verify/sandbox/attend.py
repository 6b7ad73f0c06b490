"""Feed a process, read it, and end it when a budget is spent.

    ended, stdout, stderr = Attendance(process, stdin, limits, full).until_the_end()

`full()` says whether the run holds too much memory, and is asked now and then; None: nobody asks.
Output over its budget ends the run; errors over theirs are read and dropped.
"""

import os
import selectors
import subprocess
import time
from collections.abc import Callable
from typing import IO

from baiwen.verify.sandbox.limits import Ended, Limits

CHUNK = 2**16
WATCH_EVERY = 0.02  # seconds between two looks at the memory of a run
ERRORS_KEPT = 2**14  # bytes of standard error


class Attendance:
    """One running process with its pipes. Leaves it ended, but not waited for."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        stdin: bytes,
        limits: Limits,
        full: Callable[[], bool] | None,
    ) -> None:
        assert process.stdin and process.stdout and process.stderr
        self.process, self.limits, self.full = process, limits, full
        self.stdin, self.rest = process.stdin, memoryview(stdin)
        self.stdout, self.stderr = process.stdout, process.stderr
        self.read = {self.stdout: bytearray(), self.stderr: bytearray()}

    def until_the_end(self) -> tuple[Ended | None, bytes, bytes]:
        """The budget that ended it, or None; what it wrote to standard output and error."""
        for pipe in (self.stdin, *self.read):
            os.set_blocking(pipe.fileno(), False)
        with selectors.DefaultSelector() as selector:
            alive = os.pidfd_open(self.process.pid)
            try:
                selector.register(alive, selectors.EVENT_READ)
                selector.register(self.stdin, selectors.EVENT_WRITE)
                for pipe in self.read:
                    selector.register(pipe, selectors.EVENT_READ, data=pipe)
                ended = self._loop(selector, alive)
            finally:
                os.close(alive)
        if ended is not None:
            self.process.kill()
        return ended, bytes(self.read[self.stdout]), bytes(self.read[self.stderr])

    def _loop(self, selector: selectors.BaseSelector, alive: int) -> Ended | None:
        until = time.monotonic() + self.limits.wall
        look = time.monotonic() if self.full else until
        running = True
        while running:
            events = selector.select(max(0.0, min(look, until) - time.monotonic()))
            now = time.monotonic()
            if now >= until:
                return "wall"
            if self.full and now >= look:
                if self.full():
                    return "memory"
                look = time.monotonic() + WATCH_EVERY
            for key, _ in events:
                if key.fileobj is self.stdin:
                    self._feed(selector)
                elif key.fileobj == alive:
                    running = False
                elif not self._take(selector, key.data):
                    return "output"
        return self._drain(selector)

    def _drain(self, selector: selectors.BaseSelector) -> Ended | None:
        """Read what still lies in the pipes."""
        for pipe in self.read:
            while pipe in selector.get_map() and self._take(selector, pipe, last=True):
                pass
        return "output" if len(self.read[self.stdout]) > self.limits.output else None

    def _feed(self, selector: selectors.BaseSelector) -> None:
        try:
            self.rest = self.rest[os.write(self.stdin.fileno(), self.rest[:CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.rest = memoryview(b"")
        if not self.rest:
            selector.unregister(self.stdin)
            self.stdin.close()

    def _take(self, selector: selectors.BaseSelector, pipe: IO[bytes], last: bool = False) -> bool:
        """Read once; False where output is over its budget, or where nothing is left at `last`."""
        try:
            data = os.read(pipe.fileno(), CHUNK)
        except BlockingIOError:
            return not last
        kept = self.read[pipe]
        if not data:
            selector.unregister(pipe)
        if pipe is self.stderr:
            kept += data[: max(0, ERRORS_KEPT - len(kept))]
            return True
        kept += data
        return len(kept) <= self.limits.output
