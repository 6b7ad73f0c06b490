"""Engines: where the parts are worked on. One contract, `Work`: a function over tasks, in order.

    work = opened("local", workers=4)
    for made in work(partial(read, folder=folder), pieces): ...

`local` is a pool of processes of this machine. `daft` and `ray` are Daft's native runner and its
runner on Ray: each task is a row of a data frame, and a function that writes a part and returns its
manifest is mapped over the rows. What Daft would do with data itself is left alone: its writers
double the rows of a job that runs twice, and on the native runner nothing can be resumed.

A function that is run again finds its part done, so it matters to no engine how often it is.
"""

import importlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

from baiwen.data.executor import cores, ordered
from baiwen.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

Engine = Literal["local", "daft", "ray"]
WAVE = 16  # tasks a worker in one data frame: more than one, and few enough to hold in memory


class Work(Protocol):
    """An engine: `function(task)` for every task, in order."""

    def __call__(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Both picklable; an exception of a task is raised here."""


def opened(engine: Engine, workers: int) -> Work:
    """An engine of so many processes; 0: one a core."""
    if engine == "local":
        return partial(ordered, workers=workers)
    return partial(_frames, engine=engine, workers=workers or cores())


def _frames(
    function: Callable[[T], R], tasks: Iterable[T], engine: Engine, workers: int
) -> Iterator[R]:
    daft = _daft(engine)
    tasks = iter(tasks)
    while wave := list(itertools.islice(tasks, WAVE * workers)):
        yield from _mapped(daft, function, wave, workers)


def _mapped(daft: Any, function: Callable[[T], R], tasks: list[T], workers: int) -> Iterator[R]:  # noqa: ANN401 - a module
    """Answers to tasks as a data frame that has a row each."""
    python = daft.DataType.python()
    worker = daft.udf(return_dtype=python, batch_size=1, concurrency=workers, use_process=True)(
        _Worker
    ).with_init_args(function)
    frame = daft.from_pydict({"task": daft.Series.from_pylist(tasks, dtype=python)})
    answers = frame.select(worker(frame["task"]).alias("answer"))
    for row in answers.iter_rows():
        if isinstance(row["answer"], Exception):
            raise row["answer"]
        yield row["answer"]


class _Worker:
    """What Daft keeps in each of its processes."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, tasks: Any) -> list[Any]:  # noqa: ANN401 - a daft.Series
        answers: list[Any] = []
        for task in tasks.to_pylist():
            try:
                answers.append(self.function(task))
            except UserError as error:
                answers.append(error)  # as it is: Daft would wrap it
        return answers


def _daft(engine: Engine) -> Any:  # noqa: ANN401 - a module
    """Daft with the runner that was asked for, and without its telemetry or Ray's."""
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        daft = importlib.import_module("daft")
        importlib.import_module("ray" if engine == "ray" else "daft")
    except ImportError as error:
        raise UserError(
            f'engine = "{engine}" needs {error.name}: pip install "baiwen[daft]", or say "local"'
        ) from error
    (daft.set_runner_ray if engine == "ray" else daft.set_runner_native)()
    return daft
