"""Decoding on a GPU by CUDA graphs: a step is recorded once a shape, and repeated by one launch.

    graphs = Graphs(models, caches, ropes, sequences=64, context=32_768)
    shape = graphs.shape(lengths)                    # None: this step goes the other way
    hidden = graphs.run(0, graphs.told(shape, rows))

A step of decoding is hundreds of small kernels, which a GPU finishes sooner than a host can launch
them. Shapes are powers of two: rows up to the samples that run at once, blocks up to the context.
A step is filled up to the next shape, unless what fills it costs more than launches do. Prompts and
guesses are computed as without graphs, and so is all once a recording fails.

Graphs share one pool of memory, as they never run at the same time; what one gives is copied before
another can run. They read weights where these lie, so weights may change in place. Without a GPU
the same steps run unrecorded.

n rows, M blocks of each, C hidden size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from baiwen.engine import capacity
from baiwen.engine.routes import Routes
from baiwen.log import say, track
from baiwen.model import fixed
from baiwen.model.fixed import Row
from baiwen.model.paged import PagedCache, Step, bytes_per_token
from baiwen.model.rope import Rope
from baiwen.model.transformer import Transformer

LEAST = 512  # tokens of a row of the smallest shape
# Bytes of keys and values that may be read for nothing: on GPUs of 2 to 5 TB/s a millisecond or
# two, less than the launches of a step take.
FILLED = 2**31

Shape = tuple[int, int]  # (n, M)
Run = Callable[[], Tensor]


@dataclass(frozen=True)
class Recorded:
    """A step: what it reads, and how it is repeated."""

    told: Tensor  # int32 [n, HEAD + M], on the device
    run: Run  # gives hidden states [n, C], until something of the same pool runs


class Graphs:
    """The steps of a model, and of its draft if there is one, recorded so far."""

    def __init__(
        self,
        models: Sequence[Transformer],
        caches: Sequence[PagedCache],
        ropes: Sequence[Sequence[Rope]],
        sequences: int,
        context: int,
        routes: Routes | None = None,
    ) -> None:
        """`ropes` are those that each model's requests may have; the caches' last block is free."""
        self.models, self.caches, self.routes = models, caches, routes
        self.ropes = ropes
        self._size = caches[0].block_size
        self._sequences, self._blocks = sequences, -(-context // self._size)
        bytes_of = (bytes_per_token(cache.config, cache.slabs.dtype) for cache in caches)
        self._spare = FILLED // sum(bytes_of)  # tokens
        self._steps: dict[tuple[int, Shape, torch.dtype | None], Recorded] = {}
        self._weights: list[int] = []  # where those lie that the steps read
        self._failed = False
        cuda = self.device.type == "cuda"
        self.record: Callable[[Run], Run] = _Recorder(self.device) if cuda else lambda run: run

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return self.caches[0].slabs.device

    @property
    def recorded(self) -> int:
        """How many there are that may be repeated."""
        return 0 if self._failed else len(self._steps)

    def shape(self, lengths: Sequence[int]) -> Shape | None:
        """The one for sequences of so many tokens, this step's included; None if none pays."""
        if self._failed:
            return None
        blocks = -(-max(lengths) // self._size)
        shape = _next(len(lengths), 1, self._sequences), _next(blocks, self._least, self._blocks)
        filled = shape[0] * shape[1] * self._size - sum(lengths)
        return shape if filled <= self._spare else None

    def shapes(self) -> list[Shape]:
        """All that `shape` may give, largest first: smaller ones find room in the pool.

        Of sequences that share blocks it may give larger ones, recorded when they come.
        """
        most = self._spare + self._scratch * self._size
        every = [
            (rows, blocks)
            for rows in _ladder(1, self._sequences)
            for blocks in _ladder(self._least, self._blocks)
            if rows * blocks * self._size <= most
        ]
        return sorted(every, key=lambda shape: shape[0] * shape[1], reverse=True)

    def capture(self) -> str:
        """Record every shape, so that no request waits for it; told in a line."""
        torch.cuda.empty_cache()
        before = capacity.free(self.device)
        for shape in track(self.shapes(), "record", unit="shapes"):
            for model in range(len(self.models)):
                self.step(model, shape)
        if self._failed:
            return "decodes without CUDA graphs"
        taken = max(before - capacity.free(self.device), 0) / capacity.GIB
        return f"decodes by {self.recorded} CUDA graphs, which take {taken:.1f} GiB"

    def told(self, shape: Shape, rows: Sequence[Row] = ()) -> np.ndarray:
        """The rows for `run`, int32 [n, HEAD + M]."""
        return fixed.told(shape, self._scratch, self._size, rows)

    def run(self, model: int, told: np.ndarray) -> Tensor:
        """The hidden states [n, C] of a step of a model, those that fill the shape among them."""
        step = self.step(model, (len(told), told.shape[1] - fixed.HEAD))
        step.told.copy_(torch.from_numpy(told), non_blocking=True)
        return step.run().clone()

    def step(self, model: int, shape: Shape) -> Recorded:
        """The step of a shape, recorded where it is not yet: autocast is part of it."""
        kind = self.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        key = model, shape, dtype
        if key not in self._steps:
            self._weights = self._weights or self._places()
            told = torch.from_numpy(self.told(shape)).to(self.device)
            run = partial(self._compute, model, told, dtype)
            self._steps[key] = Recorded(told, self._tried(run))
        return self._steps[key]

    def renew(self) -> None:
        """The weights may have changed: forget what reads them where they are no longer."""
        if self._steps and self._weights != self._places():
            self._steps.clear()
            self._weights = []

    @property
    def _least(self) -> int:
        """Blocks of a row of the smallest shape."""
        return min(LEAST // self._size, self._blocks)

    @property
    def _scratch(self) -> int:
        """The block that is no sequence's."""
        return self.caches[0].slabs.shape[2] - 1

    def _places(self) -> list[int]:
        return [weight.data_ptr() for model in self.models for weight in model.parameters()]

    def _tried(self, run: Run) -> Run:
        """A recording of `run`, or, where that fails, `run` itself and no shape from then on."""
        if self._failed:
            return run
        try:
            return self.record(run)
        except RuntimeError as error:  # no memory, or an operation that makes the host wait
            self._failed = True
            self._steps.clear()
            cause = error.__context__ or error  # the end of a recording that failed fails as well
            say(f"a step of decoding cannot be recorded; going on without CUDA graphs: {cause}")
            return run

    def _compute(self, number: int, told: Tensor, dtype: torch.dtype | None) -> Tensor:
        """What is recorded."""
        model, cache, kind = self.models[number], self.caches[number], self.device.type
        layout = fixed.layout(told, self._size, self.ropes[number])
        # Casts of weights are part of the recording, and follow what changes: none is kept.
        with torch.autocast(kind, dtype, dtype is not None, cache_enabled=False):
            out = model(fixed.tokens(told), cache=Step(cache, layout))
        if self.routes is not None and number == 0 and out.routing is not None:
            self.routes.store(layout.slots, out.routing)
        return out.hidden[0]


class _Recorder:
    """Records on a stream of its own, into one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        self._pool, self._stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(device)

    def __call__(self, run: Run) -> Run:
        """`run`, which has run once, as a graph: its result lies where it lay before."""
        current, graph = torch.cuda.current_stream(self._stream.device), torch.cuda.CUDAGraph()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            run()  # what libraries do at their first call cannot be recorded
        current.wait_stream(self._stream)
        # Other threads may go on using the GPU: thread_local. A recording that fails leaves its own
        # stream the current one, which the outer context mends.
        with (
            torch.cuda.stream(current),
            torch.cuda.graph(graph, self._pool, self._stream, "thread_local"),
        ):
            out = run()

        def repeat() -> Tensor:
            graph.replay()
            return out

        return repeat


def _next(needed: int, least: int, most: int) -> int:
    """The step of a ladder that is enough: `least` times a power of two, or `most`."""
    return next(step for step in _ladder(least, most) if step >= needed)


def _ladder(least: int, most: int) -> list[int]:
    """least, 2 least, 4 least, ..., most."""
    steps = [least]
    while steps[-1] < most:
        steps.append(min(2 * steps[-1], most))
    return steps
