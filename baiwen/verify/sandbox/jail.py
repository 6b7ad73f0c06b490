"""The jail as a command line: what stands before a program's own words at each level.

    A   bubblewrap, and a control group that bounds memory and processes of the whole run
    B   bubblewrap; the parent watches the memory of the whole run
    C   Landlock, seccomp and limits that `launch.py` puts around itself; one process, no scratch

All of it runs as a user without privileges, 65534 where we are root, and follows findings E:
namespaces for everything, a root of read-only folders and sized tmpfs, no capability, a filter of
system calls.
"""

import json
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from baiwen.errors import UserError
from baiwen.verify.sandbox import languages, seccomp
from baiwen.verify.sandbox.languages import Language
from baiwen.verify.sandbox.limits import MIB, Limits

Level = Literal["A", "B", "C"]
LEVELS: tuple[Level, ...] = ("A", "B", "C")
NOBODY = 65534
PATH = "/usr/local/bin:/usr/bin:/bin"
BOX = "/box"  # where the source lies
SHM = 16 * MIB  # of /dev/shm
LAUNCH = Path(__file__).with_name("launch.py").read_text(encoding="utf-8")
LINKED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # beside /usr, or links into it
LINKER = "/etc/ld.so.cache"  # where the dynamic linker finds libraries of /usr/local


def uid() -> int:
    """The user that a program runs as, outside of any namespace: never root."""
    return os.getuid() or NOBODY


@dataclass(frozen=True)
class Files:
    """Open descriptors that a jail is given; it hands none but the source on to the program."""

    source: int
    rules: int  # the seccomp filter
    told: int  # where bubblewrap tells the number of the namespace's first process


def words(level: Level, language: Language, files: Files, limits: Limits) -> list[str]:
    """The command that runs the program of `files` in a jail of that level.

    `UserError` where a part is missing.
    """
    interpreter = languages.interpreter(language, uid())
    if interpreter is None:
        tried = ", ".join(language.candidates)
        raise UserError(f"no {language.name} that user {uid()} may read and run; tried {tried}")
    around = _launched if level == "C" else _wrapped
    return [*_dropped(), *around(language, interpreter, files, limits)]


def filter_of(level: Level) -> bytes:
    """The seccomp filter of a level for this machine."""
    machine = platform.machine()
    if machine not in seccomp.ARCHITECTURES:
        raise UserError(f"no seccomp filter for {machine}; there are {[*seccomp.ARCHITECTURES]}")
    return seccomp.program(machine, alone=level == "C")


def _dropped() -> list[str]:
    """The words that give up root for good; none where we are not root."""
    if os.getuid() != 0:
        return []
    user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all"]
    return [_program("setpriv"), *user, "--bounding-set=-all", "--"]


def _wrapped(language: Language, interpreter: str, files: Files, limits: Limits) -> list[str]:
    """Levels A and B: bubblewrap around prlimit around the program."""
    file = f"{BOX}/{language.file}"
    return [
        _program("bwrap"),
        *("--unshare-user", "--unshare-all", "--disable-userns", "--die-with-parent"),
        *("--new-session", "--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "sandbox"),
        *_system(languages.home(interpreter)),
        *("--proc", "/proc", "--dev", "/dev", "--size", str(SHM), "--tmpfs", "/dev/shm"),
        *("--remount-ro", "/dev", "--size", str(limits.scratch), "--tmpfs", "/tmp"),
        *("--ro-bind-data", str(files.source), file, "--remount-ro", "/", "--chdir", "/tmp"),
        *(
            "--clearenv",
            *_environment(language),
            "--seccomp",
            str(files.rules),
            "--info-fd",
            str(files.told),
            "--",
        ),
        *(_program("prlimit"), *_prlimits(limits), *language.command(interpreter, file)),
    ]


def _system(home: Path) -> list[str]:
    """Read-only binds of /usr, of its companions, and of an interpreter that lives elsewhere."""
    found = ["--ro-bind", "/usr", "/usr", "--ro-bind-try", LINKER, LINKER]
    for folder in (Path("/", name) for name in LINKED):
        if folder.is_symlink():
            found += ["--symlink", os.readlink(folder), str(folder)]
        elif folder.is_dir():
            found += ["--ro-bind", str(folder), str(folder)]
    if not home.is_relative_to("/usr"):
        found += ["--ro-bind", str(home), str(home)]
    return found


def _environment(language: Language) -> list[str]:
    return [word for pair in environment(language).items() for word in ("--setenv", *pair)]


def environment(language: Language) -> dict[str, str]:
    """All that a program sees of an environment."""
    # One arena: else glibc reserves 64 MiB of the address space for each thread.
    return {"PATH": PATH, "HOME": "/tmp", "LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "1"} | dict(
        language.environment
    )


def _launched(language: Language, interpreter: str, files: Files, limits: Limits) -> list[str]:
    """Level C: a Python that jails itself with `launch.py` and becomes the program."""
    python = languages.interpreter(languages.PYTHON, uid())
    if python is None:
        raise UserError(f"level C needs a Python that user {uid()} may read and run")
    given = {
        "words": language.command(interpreter, f"/dev/fd/{files.source}"),
        "environment": environment(language),
        "keep": [files.source],
        "filter": files.rules,
        "readable": ["/usr", *(f"/{name}" for name in LINKED), LINKER, str(languages.home(python)),
                     str(languages.home(interpreter))],
        "limits": [[f"RLIMIT_{name}", *most] for name, most in _limits(limits).items()
                   if name != "NPROC"],
    }  # fmt: skip
    return [*languages.PYTHON.command(python, "-c"), LAUNCH, json.dumps(given)]


def _prlimits(limits: Limits) -> list[str]:
    return [f"--{name.lower()}={soft}:{hard}" for name, (soft, hard) in _limits(limits).items()]


def _limits(limits: Limits) -> dict[str, tuple[int, int]]:
    """The kernel's limits for one process, soft and hard. Set inside the user namespace, so that
    NPROC counts what runs in there and not what else the same user runs."""
    return {
        "CPU": (limits.cpu, limits.cpu + 1),  # SIGXCPU, a second later SIGKILL
        "AS": (limits.memory, limits.memory),
        "NPROC": (limits.processes, limits.processes),
        "FSIZE": (limits.scratch, limits.scratch),
        "NOFILE": (limits.files, limits.files),
        "CORE": (1, 1),  # 0 would still call a core_pattern that is a program (core(5))
    }


def _program(name: str) -> str:
    """The path of a program of the system, or a `UserError`."""
    packages = {"bwrap": "bubblewrap", "setpriv": "util-linux", "prlimit": "util-linux"}
    found = shutil.which(name, path=PATH)
    if found is None:
        raise UserError(
            f"no program {name}: install {packages[name]} (apt install {packages[name]})"
        )
    return found
