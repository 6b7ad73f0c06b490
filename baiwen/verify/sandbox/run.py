"""Run a program in a jail, within budgets, and say from outside what came of it.

    run("print(input())", b"7\\n")     -> Result(level="A", stdout=b"7\\n", exit=0, limit=None, ...)

Blocks the thread that calls, and only it: any number of threads may run programs at once; from
asyncio, call it with `asyncio.to_thread`. No signal handlers, no globals but the level that was
found, which is the best that a trial run showed to work.
"""

import fcntl
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext

from baiwen.errors import UserError
from baiwen.verify.sandbox import jail, watch
from baiwen.verify.sandbox.attend import Attendance
from baiwen.verify.sandbox.cgroup import Cgroup
from baiwen.verify.sandbox.jail import LEVELS, Level
from baiwen.verify.sandbox.languages import LANGUAGES, Language
from baiwen.verify.sandbox.limits import Limits, Result

OUT_OF_CPU = 128 + signal.SIGXCPU  # the exit code of bubblewrap, and ours
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
    reasons = {level: unusable(level, language) for level in LEVELS}
    for level, reason in reasons.items():
        if not reason:
            return level
    told = "; ".join(f"{level}: {reason}" for level, reason in reasons.items())
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
    with ExitStack() as stack:
        text = source.encode("utf-8", "surrogatepass")
        program = stack.enter_context(_sealed(text))
        rules = stack.enter_context(_sealed(jail.filter_of(level)))
        words = jail.words(level, language, program, rules, limits)
        group = stack.enter_context(Cgroup.make(limits) if level == "A" else nullcontext())
        if group is not None:
            words = [*group.entering(), *words]
        began = time.monotonic()
        process = stack.enter_context(_started(words, (program, rules)))

        def full() -> bool:
            return watch.held(process.pid) > limits.memory

        attendance = Attendance(process, stdin, limits, full if level == "B" else None)
        ended, stdout, stderr = attendance.until_the_end()
        code = process.wait()
        code = code if code >= 0 else 128 - code
        if ended is None and group is not None and code and group.killed_for_memory():
            ended = "memory"
        if ended is None and code == OUT_OF_CPU:
            ended = "cpu"
        return Result(level, stdout, stderr, code, ended, time.monotonic() - began)


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
def _started(words: list[str], keep: tuple[int, ...]) -> Iterator[subprocess.Popen[bytes]]:
    """The process, in a session of its own; ended and waited for at the latest on leaving."""
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        pass_fds=keep,
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
