"""Run folders: a folder belongs to the recipe that fills it (design, section 3).

    with run_folder(Path("runs/tiny/sft"), recipe, {"data": fingerprint([path])}) as folder:
        if not folder.done:
            ...                          # write into folder.path; state/ holds what a resume needs

Running again resumes or is done. Another recipe, or other content of the inputs, is refused with
the difference once there is something to lose: the run is done, or has a `state/`. In the folder
lie, beside the stage's own files:

    recipe.json      the resolved recipe
    run.json         versions, command, seed, host, inputs, when it started and finished, seconds
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
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from baiwen.errors import UserError
from baiwen.files.durable import explained, is_partial, make_folder, sweep, sync_folder
from baiwen.files.formats import read_json, write_json
from baiwen.files.inputs import COMPARED
from baiwen.files.manifest import LOCK, MANIFEST, check, complete, seal

RECIPE, RUN = "recipe.json", "run.json"
CHANGING = ("state", "logs")  # subfolders that the manifest leaves out
NAMES = (RECIPE, RUN, MANIFEST, LOCK, *CHANGING)  # that no stage may give its own files
LIBRARIES = ("baiwen", "torch", "numpy", "safetensors", "tokenizers", "tiktoken", "pyarrow")
RANK_TIMEOUT = 600.0  # seconds that the other ranks wait for rank 0 to open the folder


@dataclass(frozen=True)
class RunFolder:
    """An open run folder; every rank sees the same."""

    path: Path
    done: bool  # an earlier run finished; there is nothing to do
    resumable: bool  # not done, and an earlier run left a state/ to go on from
    replaces: bool = False  # an earlier run of another recipe, which left nothing to go on from


class OtherRunError(UserError):
    """The folder holds a run of another recipe, or of inputs with another content."""


@contextmanager
def run_folder(
    out: Path,
    recipe: dict[str, Any],
    inputs: Mapping[str, str] = MappingProxyType({}),
    free: Collection[str] = (),
) -> Iterator[RunFolder]:
    """Open `out` for the run of `recipe`, alone; seal it on a clean exit, else leave it resumable.

    `recipe` is the resolved one, JSON-able; `inputs` the fingerprints of what it reads; `free` its
    dotted keys that change nothing of what is made, so that another value is no other recipe.
    UserError as of `look`, and where another process is at work in `out`. Under torchrun only rank
    0 writes; the others wait until it has opened the folder.
    """
    recipe = _plain(recipe)
    if int(os.environ.get("RANK", "0")) > 0:
        _await_rank_0(out, recipe, free)
        yield look(out, recipe, free=free)
        return
    if (folder := look(out, recipe, inputs, free)).done:
        yield folder
        return
    with _locked(out):
        folder = look(out, recipe, inputs, free)  # again: another process may have been here first
        if folder.done:
            yield folder
            return
        sweep(out)
        with _recorded(out, recipe, inputs, folder):
            yield folder
        seal(out, exclude=CHANGING)
        _remove(out / "state")  # a sealed run has nothing to go on from


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
        sync_folder(folder.parent)


def look(
    out: Path,
    recipe: dict[str, Any],
    inputs: Mapping[str, str] = MappingProxyType({}),
    free: Collection[str] = (),
) -> RunFolder:
    """What a run of `recipe` finds in `out`, with nothing written.

    UserError where it holds files that no run wrote or was damaged after its end. OtherRunError
    where something would be lost: a run of another recipe, or of inputs with another content, that
    is done or can be resumed.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"out = {out} is a file; choose another `out`")
    if not (out / RECIPE).is_file():
        _refuse_foreign(out)
        return RunFolder(out, done=False, resumable=False)
    done = (out / MANIFEST).is_file()
    resumable = not all(is_partial(path.name) for path in (out / "state").glob("*"))
    old, new = read_json(out / RECIPE), _plain(recipe)
    differences = _differences(old, new, free)
    # Another stage's files would not be written over.
    foreign = bool(_made(out)) and old.get("stage") != new.get("stage")
    if differences and (done or resumable or foreign):
        more = [f"  ... and {len(differences) - 8} more"] if len(differences) > 8 else []
        lines = [f"{out} belongs to another recipe:", *differences[:8], *more]
        raise OtherRunError(
            "\n".join([*lines, "choose another `out`, or delete the folder to start over"])
        )
    if done and not complete(out):
        check(out)  # raises, naming the damaged file
    if done or resumable:
        _refuse_inputs(out, inputs, done)
    return RunFolder(out, done, resumable and not done, replaces=bool(differences))


def changed(out: Path, inputs: Mapping[str, str]) -> dict[str, bool]:
    """The inputs that are not what the run in `out` has read, and whether that is sure.

    Sure are contents that were compared; a file too large to be read may only have been touched.
    """
    read = read_json(out / RUN).get("inputs", {}) if (out / RUN).is_file() else {}
    return {
        key: all(content.startswith(COMPARED) for content in (found, read.get(key, found)))
        for key, found in inputs.items()
        if read and read.get(key) != found
    }


def _refuse_foreign(out: Path) -> None:
    """UserError where files lie in `out` that no run wrote."""
    made = _made(out)
    if made:
        raise UserError(
            f"out = {out} holds files that no run wrote ({', '.join(made[:3])}"
            f"{', ...' if len(made) > 3 else ''}); choose another `out`, or empty the folder"
        )


def _refuse_inputs(out: Path, inputs: Mapping[str, str], done: bool) -> None:
    keys = ", ".join(key for key, sure in changed(out, inputs).items() if sure)
    if keys:
        told = "was made from" if done else "was begun with"
        raise OtherRunError(
            f"{out} {told} another content of {keys}\n"
            "put that back, choose another `out`, or delete the folder to start over"
        )


def _differences(old: dict[str, Any], new: dict[str, Any], free: Collection[str]) -> list[str]:
    before, after = _flat(old), _flat(new)
    return [
        f"  {key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in {**before, **after}
        if before.get(key) != after.get(key) and key not in free
    ]


def _plain(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe as it reads when it comes back from a file."""
    return json.loads(json.dumps(recipe, default=str))


def _flat(value: Any, key: str = "") -> dict[str, str]:  # noqa: ANN401
    """Return the leaves of nested tables as dotted key -> JSON text."""
    if isinstance(value, dict) and value:
        leaves: dict[str, str] = {}
        for name, inner in value.items():
            leaves |= _flat(inner, f"{key}.{name}" if key else name)
        return leaves
    return {key: json.dumps(value, ensure_ascii=False)}


def _made(out: Path) -> list[str]:
    """What lies in the folder beside the records that every run begins with."""
    names = sorted(path.name for path in out.glob("*"))
    return [name for name in names if name not in (LOCK, RECIPE, RUN) and not is_partial(name)]


def _await_rank_0(out: Path, recipe: dict[str, Any], free: Collection[str]) -> None:
    """Wait for a record of this recipe; that of a finished run keeps its own free knobs."""
    deadline = time.monotonic() + RANK_TIMEOUT
    while not (out / RECIPE).is_file() or _differences(read_json(out / RECIPE), recipe, free):
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
def _recorded(
    out: Path, recipe: dict[str, Any], inputs: Mapping[str, str], folder: RunFolder
) -> Iterator[None]:
    """Keep recipe.json and run.json; the seconds of every session that could say so add up."""
    known = read_json(out / RECIPE) if (out / RECIPE).is_file() else None
    again = known is not None and not folder.replaces
    if known != recipe:
        write_json(out / RECIPE, recipe)
    earlier = read_json(out / RUN) if again and (out / RUN).is_file() else {}
    now, begin = _now(), time.monotonic()
    record = {
        "command": shlex.join(sys.orig_argv),
        "seed": recipe.get("seed"),
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in LIBRARIES},
        "inputs": earlier.get("inputs", {}) if folder.resumable else dict(inputs),
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
