"""The languages of the sandbox: a row each.

    PYTHON.command("/usr/bin/python3", "/box/program.py")    -> ["/usr/bin/python3", "-S", ...]

A row says what a source file is called, how it runs, and where its interpreter may be. An
interpreter has to be readable by the unprivileged user of the sandbox, so one in root's home is
none; the first that is wins.
"""

import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Language:
    """A language whose programs the sandbox can run."""

    name: str
    file: str  # the name of a program's source
    command: Callable[[str, str], list[str]]  # interpreter, source -> words
    candidates: tuple[str, ...]  # interpreters, the best first
    environment: tuple[tuple[str, str], ...] = ()


def _python(interpreter: str, source: str) -> list[str]:
    """No site packages (-S), none of a user (-s), no bytecode written (-B)."""
    return [interpreter, "-S", "-s", "-B", source]


PYTHON = Language(
    name="python",
    file="program.py",
    command=_python,
    candidates=(
        str(Path(getattr(sys, "_base_executable", sys.executable)).resolve()),
        "/usr/bin/python3",
        "/usr/local/bin/python3",
    ),
    # Strings hash alike in every run, so that a program that prints a set is judged alike.
    environment=(("PYTHONHASHSEED", "0"), ("PYTHONIOENCODING", "utf-8"), ("PYTHONUTF8", "1")),
)
LANGUAGES = {language.name: language for language in (PYTHON,)}


def interpreter(language: Language, uid: int) -> str | None:
    """The first candidate that the user `uid` can read and run, its links resolved; or None."""
    for candidate in language.candidates:
        path = Path(os.path.realpath(candidate))
        if path.is_file() and reachable(path, uid):
            return str(path)
    return None


def reachable(path: Path, uid: int) -> bool:
    """Whether `uid`, in no group of note, may read `path` and pass every folder above it."""
    return _may(path, uid, 0o5) and all(_may(folder, uid, 0o1) for folder in path.parents)


def _may(path: Path, uid: int, wanted: int) -> bool:
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    if uid == os.getuid():
        return os.access(path, os.R_OK * bool(wanted & 4) | os.X_OK)
    return mode & wanted == wanted or (found.st_uid == uid and (mode >> 6) & wanted == wanted)


def home(interpreter: str) -> Path:
    """The folder an interpreter lives on: `/usr` of `/usr/bin/python3`."""
    return Path(interpreter).parents[1]
