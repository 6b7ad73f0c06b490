"""Engines: where the parts are worked on. One contract, `Work`: a function over tasks, in order.

    with opened("local", workers=4) as work:
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
from contextlib import contextmanager
from functools import partial
from multiprocessing.reduction import ForkingPickler
from typing import Any, Literal, Protocol, TypeVar

from baiwen.data.executor import Pool, cores
from baiwen.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

Engine = Literal["local", "daft", "ray"]
WAVE = 16  # tasks a worker in one data frame: more than one, and few enough to hold in memory


class Work(Protocol):
    """An engine: `function(task)` for every task, in order."""

    def __call__(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Both picklable; an exception of a task is raised here."""


@contextmanager
def opened(engine: Engine, workers: int = 0) -> Iterator[Work]:
    """An engine of so many processes; 0: one a core."""
    if engine == "local":
        with Pool(workers) as pool:
            yield pool.map
    else:
        yield partial(_framed, _daft(engine), workers or cores())


def _framed(
    daft: Any,  # noqa: ANN401 - a module
    workers: int,
    function: Callable[[T], R],
    tasks: Iterable[T],
) -> Iterator[R]:
    """Answers to tasks as data frames that have a row for each."""
    numbered, work = enumerate(tasks), _worker(daft, workers)
    while wave := list(itertools.islice(numbered, WAVE * workers)):
        rows = {"task": [bytes(ForkingPickler.dumps((function, task))) for _, task in wave]}
        frame = daft.from_pydict({"place": [place for place, _ in wave], **rows})
        if daft.get_or_infer_runner_type() == "ray":
            frame = frame.into_partitions(len(wave))
        found = frame.select(frame["place"], work(frame["task"])).to_pydict()
        for _, answer in sorted(zip(found["place"], found["task"], strict=True)):  # Ray: any order
            yield _opened(answer)


def _worker(daft: Any, workers: int) -> Any:  # noqa: ANN401 - a module, a method
    """A function of a column, in processes of Daft's."""

    class Worker:
        # Binary columns, for Daft takes those of Python's objects through threads of this process.
        @daft.method.batch(return_dtype=daft.DataType.binary(), batch_size=1)
        def answer(self, rows: Any) -> list[bytes]:  # noqa: ANN401 - a daft.Series
            return _answered(rows.to_pylist())

    return daft.cls(Worker, use_process=True, max_concurrency=workers)().answer


def _answered(rows: list[bytes]) -> list[bytes]:
    """What comes of tasks: answers, or the mistakes of a user."""
    answers = []
    for row in rows:
        function, task = ForkingPickler.loads(row)
        try:
            answers.append(function(task))
        except UserError as error:  # as it is: Daft would wrap it
            answers.append(error)
    return [bytes(ForkingPickler.dumps(answer)) for answer in answers]


def _opened(answer: bytes) -> Any:  # noqa: ANN401 - whatever the function gives
    found = ForkingPickler.loads(answer)
    if isinstance(found, UserError):
        raise found
    return found


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
