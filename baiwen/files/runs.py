"""Run folders: a folder belongs to the recipe that fills it (design, section 3).

    with run_folder(Path("runs/tiny/sft"), recipe) as folder:
        if not folder.done:
            ...                          # write into folder.path; state/ holds what a resume needs

Running again resumes or is done; another recipe is refused with the difference. In the folder lie,
beside the stage's own files:

    recipe.json      the resolved recipe
    run.json         versions, command, seed, host, when it started and finished, seconds of work
    manifest.json    written last: the run is complete (state/ and logs/ are not listed)
"""

import fcntl
import json
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from baiwen.errors import UserError
from baiwen.files.durable import explained, is_partial, make_folder, sweep, sync_folder
from baiwen.files.formats import read_json, write_json
from baiwen.files.manifest import LOCK, MANIFEST, check, complete, seal

RECIPE, RUN = "recipe.json", "run.json"
CHANGING = ("state", "logs")  # subfolders that the manifest leaves out
LIBRARIES = ("baiwen", "torch", "numpy", "safetensors", "tokenizers", "tiktoken", "pyarrow")
RANK_TIMEOUT = 600.0  # seconds that the other ranks wait for rank 0 to open the folder


@dataclass(frozen=True)
class RunFolder:
    """An open run folder; every rank sees the same."""

    path: Path
    done: bool  # an earlier run finished; there is nothing to do
    resumable: bool  # not done, and an earlier run left a state/ to go on from


@contextmanager
def run_folder(out: Path, recipe: dict[str, Any]) -> Iterator[RunFolder]:
    """Open `out` for the run of `recipe`, alone; seal it on a clean exit, else leave it resumable.

    `recipe` is the resolved one, JSON-able. UserError where `out` belongs to another recipe, holds
    files that no run wrote, was damaged after its end, or is in use by another process. Under
    torchrun only rank 0 writes; the others wait until it has opened the folder.
    """
    recipe = json.loads(json.dumps(recipe, default=str))
    if int(os.environ.get("RANK", "0")) > 0:
        _await_rank_0(out, recipe)
        yield _look(out)
        return
    _refuse_other(out, recipe)
    if (folder := _look(out)).done:
        yield folder
        return
    with _locked(out):
        _refuse_other(out, recipe)  # again: another process may have been here first
        folder = _look(out)
        if folder.done:
            yield folder
            return
        sweep(out)
        with _recorded(out, recipe):
            yield folder
        seal(out, exclude=CHANGING)
        _remove(out / "state")  # a sealed run has nothing to go on from


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
        sync_folder(folder.parent)


def _look(out: Path) -> RunFolder:
    if (out / MANIFEST).is_file():
        if not complete(out):
            check(out)  # raises, naming the damaged file
        return RunFolder(out, done=True, resumable=False)
    return RunFolder(out, done=False, resumable=(out / "state").is_dir())


def _refuse_other(out: Path, recipe: dict[str, Any]) -> None:
    """UserError unless `out` is absent, empty, or of this very recipe."""
    if out.exists() and not out.is_dir():
        raise UserError(f"out = {out} is a file; choose another `out`")
    made = sorted(path.name for path in out.glob("*") if not _ours(path.name))
    if (out / RECIPE).is_file():
        if made:  # else that run stopped before it made anything: another recipe may have the place
            _refuse_changes(out, read_json(out / RECIPE), recipe)
    elif made:
        raise UserError(
            f"out = {out} holds files that no run wrote ({', '.join(made[:3])}"
            f"{', ...' if len(made) > 3 else ''}); choose another `out`, or empty the folder"
        )


def _refuse_changes(out: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    before, after = _flat(old), _flat(new)
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    if keys:
        lines = [
            f"  {key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}" for key in keys
        ]
        more = [f"  ... and {len(lines) - 8} more"] if len(lines) > 8 else []
        raise UserError(
            "\n".join([f"{out} belongs to another recipe:", *lines[:8], *more])
            + "\nchoose another `out`, or delete the folder to start over"
        )


def _flat(value: Any, key: str = "") -> dict[str, str]:  # noqa: ANN401
    """Return the leaves of nested tables as dotted key -> JSON text."""
    if isinstance(value, dict) and value:
        leaves: dict[str, str] = {}
        for name, inner in value.items():
            leaves |= _flat(inner, f"{key}.{name}" if key else name)
        return leaves
    return {key: json.dumps(value, ensure_ascii=False)}


def _ours(name: str) -> bool:
    """Say whether a run that made nothing can have left this."""
    return name in (LOCK, RECIPE, RUN) or is_partial(name)


def _await_rank_0(out: Path, recipe: dict[str, Any]) -> None:
    deadline = time.monotonic() + RANK_TIMEOUT
    while not ((out / RECIPE).is_file() and read_json(out / RECIPE) == recipe):
        if time.monotonic() > deadline:
            raise UserError(
                f"rank {os.environ['RANK']} waited {RANK_TIMEOUT:.0f} s for rank 0 to open {out}; "
                "is it on a file system that all machines share?"
            )
        time.sleep(0.05)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel drops it when the process ends, however it ends."""
    with explained(out):
        make_folder(out)
        file = open(out / LOCK, "a+")  # noqa: SIM115 - closed below, which drops the lock
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read() or "unknown"
            raise UserError(f"{out}: another process is writing here (pid {holder})") from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def _recorded(out: Path, recipe: dict[str, Any]) -> Iterator[None]:
    """Keep recipe.json and run.json; the seconds of every session that could say so add up."""
    again = (out / RECIPE).is_file() and read_json(out / RECIPE) == recipe
    if not again:
        write_json(out / RECIPE, recipe)
    earlier = read_json(out / RUN) if again and (out / RUN).is_file() else {}
    now, begin = _now(), time.monotonic()
    record = {
        "command": shlex.join(sys.orig_argv),
        "seed": recipe.get("seed"),
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in LIBRARIES},
        "host": {"cpu": _cpu(), "cores": os.cpu_count(), "system": platform.platform()},
        "started": earlier.get("started", now),
        "resumed": [*earlier.get("resumed", []), now] if earlier else [],
        "finished": None,
        "seconds": earlier.get("seconds", 0.0),
    }
    write_json(out / RUN, record)
    finished = None
    try:
        yield
        finished = _now()
    finally:
        record["seconds"] += round(time.monotonic() - begin, 3)
        write_json(out / RUN, record | {"finished": finished})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    """Return the processor's name: of /proc/cpuinfo on Linux, else what Python knows."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
