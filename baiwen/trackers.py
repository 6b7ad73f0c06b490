"""Trackers: TensorBoard, Weights & Biases and Trackio, each imported only when a recipe names it.

    with tracker("tensorboard", folder, start=0) as record:
        record(1, {"loss": 3.21})

TensorBoard and wandb write into the run folder's `logs/`, Trackio where it keeps its projects.
wandb and trackio take their settings (account, server, offline) from their environment variables.
"""

import importlib
import json
import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from baiwen.errors import UserError

Row = Mapping[str, float | None]  # None where a number is not finite
Record = Callable[[int, Row], None]
PROJECT = "baiwen"


def tracker(name: str, folder: Path, start: int) -> AbstractContextManager[Record]:
    """Open the tracker of that name for a run that goes on after step `start`.

    UserError where the name is unknown or its library is not installed.
    """
    if name not in TRACKERS:
        raise UserError(f"trackers: {name!r} is unknown; it is one of {', '.join(TRACKERS)}")
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    return TRACKERS[name](logs, start)


@contextmanager
def tensorboard(logs: Path, start: int) -> Iterator[Record]:
    """Write event files for `tensorboard --logdir runs`, without torch or TensorFlow."""
    events = _library("tensorboard.compat.proto.event_pb2")
    summaries = _library("tensorboard.compat.proto.summary_pb2")
    files = _library("tensorboard.summary.writer.event_file_writer")

    def record(step: int, row: Row) -> None:
        values = [
            summaries.Summary.Value(tag=name, simple_value=math.nan if value is None else value)
            for name, value in row.items()
        ]
        add(step=step, summary=summaries.Summary(value=values))

    def add(**event: Any) -> None:  # noqa: ANN401 - the fields of a protobuf message
        writer.add_event(events.Event(wall_time=time.time(), **event))

    writer = files.EventFileWriter(str(logs))
    try:
        # A start makes TensorBoard drop what an earlier session wrote from this step on.
        add(step=start + 1, session_log=events.SessionLog(status=events.SessionLog.START))
        yield record
    finally:
        writer.close()


@contextmanager
def wandb(logs: Path, start: int) -> Iterator[Record]:
    """Log to Weights & Biases; a resumed run goes on under its own id.

    wandb drops the rows of steps that it has seen, as those that were done again after a kill.
    """
    run = _library("wandb").init(
        project=PROJECT,
        name=str(logs.parent),
        id=_identity(logs / "wandb-id", start),
        resume="allow",
        dir=str(logs),
        config=_recipe(logs),
    )
    with run:
        yield lambda step, row: run.log(_known(row), step=step)


@contextmanager
def trackio(logs: Path, start: int) -> Iterator[Record]:
    """Log to Trackio; a resumed run goes on under its own name, which an older one may not have.

    Trackio drops no row: steps that were done again after a kill stand there twice, alike.
    """
    library = _library("trackio")
    run = library.init(
        project=PROJECT,
        name=f"{logs.parent} {_identity(logs / 'trackio-id', start)}",
        resume="allow",
        config=_recipe(logs),
        embed=False,
    )
    try:
        yield lambda step, row: run.log(_known(row), step=step)
    finally:
        library.finish()


TRACKERS = {"tensorboard": tensorboard, "wandb": wandb, "trackio": trackio}


def _library(module: str) -> ModuleType:
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"trackers: {package!r} is not installed; `pip install {package}`, or leave it out"
        ) from error


def _identity(path: Path, start: int) -> str:
    """The name of this run among all others; that of the session before, where it goes on."""
    if start == 0 or not path.exists():
        path.write_text(secrets.token_hex(8))
    return path.read_text()


def _known(row: Row) -> dict[str, float]:
    return {name: value for name, value in row.items() if value is not None}


def _recipe(logs: Path) -> dict[str, Any]:
    path = logs.parent / "recipe.json"
    return json.loads(path.read_bytes()) if path.is_file() else {}
