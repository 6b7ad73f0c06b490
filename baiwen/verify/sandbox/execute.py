"""Run a program in a jail, within budgets, and say from outside what came of it.

    run("print(input())", b"7\\n")     -> Result(level="A", stdout=b"7\\n", exit=0, limit=None, ...)

Blocks the thread that calls, and only it: any number of threads may run programs at once; from
asyncio, call it with `asyncio.to_thread`. No signal handlers, no globals but the level that was
found, which is the best that a trial run showed to work.
"""

import fcntl
import functools
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import astuple

from baiwen.errors import UserError
from baiwen.verify.sandbox import jail, watch
from baiwen.verify.sandbox.attend import Attendance
from baiwen.verify.sandbox.cgroup import Cgroup
from baiwen.verify.sandbox.jail import LEVELS, Level
from baiwen.verify.sandbox.languages import LANGUAGES, Language
from baiwen.verify.sandbox.limits import Limits, Result

OUT_OF_CPU = 128 + signal.SIGXCPU  # the exit code of bubblewrap, and ours
PATIENCE = 2.0  # seconds for the kernel to end what is left of a namespace
CHILD = re.compile(rb'"child-pid": (\d+)\D')
TRIAL = {"python": "print(6 * 7)"}
SEALS = 0b1111  # F_SEAL_SEAL, SHRINK, GROW and WRITE (fcntl(2))
MEND = (
    "install bubblewrap (apt install bubblewrap); where AppArmor closes user namespaces to it, as "
    "on Ubuntu 24.04, or in a container, see docs/sandbox.md"
)


def run(
    source: str,
    stdin: bytes = b"",
    *,
    language: str = "python",
    limits: Limits | None = None,
    level: Level | None = None,
) -> Result:
    """Run `source` with `stdin` at `level`, or at the best level that works here.

    Returns whatever the program does. `UserError` where there is no such language, or no sandbox.
    """
    if language not in LANGUAGES:
        raise UserError(f"no language {language!r} in the sandbox; there are {[*LANGUAGES]}")
    row = LANGUAGES[language]
    if level is None:
        level = best(language)
    elif reason := unusable(level, language):
        raise UserError(f"the sandbox has no level {level} here: {reason}")
    return _run(level, row, source, stdin, limits or Limits())


@functools.cache
def best(language: str = "python") -> Level:
    """The best level at which a program runs here; `UserError` if there is none."""
    reasons = []
    for level in LEVELS:
        reason = unusable(level, language)
        if not reason:
            return level
        reasons.append(f"{level}: {reason}")
    told = "; ".join(reasons)
    raise UserError(f"no sandbox works here, so no program is run ({told}). To mend it: {MEND}")


@functools.cache
def unusable(level: Level, language: str = "python") -> str:
    """Why a level does not work here; empty where it does."""
    if sys.platform != "linux":
        return "it needs Linux"
    limits = Limits(cpu=10, wall=60.0)
    try:
        tried = _run(level, LANGUAGES[language], TRIAL[language], b"", limits)
    except (UserError, OSError) as error:
        return str(error)
    if tried.done and tried.stdout == b"42\n":
        return ""
    return tried.stderr.decode(errors="replace").strip() or f"a trial ended with {tried.exit}"


def _run(level: Level, language: Language, source: str, stdin: bytes, limits: Limits) -> Result:
    began = time.monotonic()
    with ExitStack() as stack:
        reading, told = stack.enter_context(_pipe())
        files = jail.Files(
            source=stack.enter_context(_sealed(source.encode("utf-8", "surrogatepass"))),
            rules=stack.enter_context(_sealed(jail.filter_of(level))),
            told=told,
        )
        words = jail.words(level, language, files, limits)
        group = stack.enter_context(Cgroup.make(limits) if level == "A" else nullcontext())
        if group is not None:
            words = [*group.entering(), *words]
        process = stack.enter_context(_started(words, files))

        def full() -> bool:
            return watch.held(process.pid) > limits.memory

        attendance = Attendance(process, stdin, limits, full if level == "B" else None)
        ended, stdout, stderr = attendance.until_the_end()
        code = process.wait()
        code = code if code >= 0 else 128 - code
        _await_namespace(reading)
        if ended is None and group is not None and code and group.killed_for_memory():
            ended = "memory"
        if ended is None and code == OUT_OF_CPU:
            ended = "cpu"
        return Result(level, stdout, stderr, code, ended, time.monotonic() - began)


def _await_namespace(reading: int) -> None:
    """Wait until the namespace that bubblewrap told of is gone, with all that ran in it.

    bubblewrap itself ends as soon as the program does, a moment before the rest of it.
    """
    with suppress(BlockingIOError, ProcessLookupError):
        told = CHILD.search(os.read(reading, 2**12))  # of JSON that may be cut where it was killed
        if told:
            first = os.pidfd_open(int(told[1]))
            gone = select.poll()
            gone.register(first, select.POLLIN)
            gone.poll(1000 * PATIENCE)
            os.close(first)


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """The ends of a pipe; reading never waits."""
    ends = os.pipe()
    try:
        os.set_blocking(ends[0], False)
        yield ends
    finally:
        for end in ends:
            os.close(end)


@contextmanager
def _sealed(content: bytes) -> Iterator[int]:
    """A descriptor of an unnamed file in memory that nobody can change any more."""
    file = os.memfd_create("baiwen", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(file, content)
        os.lseek(file, 0, os.SEEK_SET)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, SEALS)
        yield file
    finally:
        os.close(file)


@contextmanager
def _started(words: list[str], files: jail.Files) -> Iterator[subprocess.Popen[bytes]]:
    """The process, in a session of its own; ended and waited for at the latest on leaving."""
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        pass_fds=astuple(files),
        cwd="/",
        env={"PATH": jail.PATH},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
