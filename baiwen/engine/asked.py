"""An engine that is asked as an endpoint is: `endpoint.Ask` without a server.

    [local]
    model = "runs/tiny/sft"

    with opened(local) as ask:
        reply = ask([{"role": "user", "content": "Hi"}], {"temperature": 0, "max_tokens": 64})

Any number of threads ask; one thread owns the engine, takes in what has come between two steps, and
so decodes all of it together. `endpoint.answers` with as many threads as the engine runs sequences
keeps it full.
"""

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self

from baiwen import dist, endpoint, files
from baiwen.config import Count, Input, Knobs
from baiwen.endpoint import Endpoint, Messages, Refused, Reply, Stopped
from baiwen.engine import pretrained
from baiwen.engine.engine import Engine
from baiwen.engine.request import Delta, Request, completions
from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError
from baiwen.model.packed import Weights

# What of OpenAI's sampling an engine knows.
TAKEN = {"temperature", "top_p", "top_k", "min_p", "max_tokens", "stop", "seed"}
TAKEN |= {"repetition_penalty", "presence_penalty", "frequency_penalty"}


class Local(Knobs):
    """A model of our own, asked in this process."""

    model: Input  # its HF folder
    concurrency: Count = 64  # requests that are decoded together
    packed: Weights | None = None  # weights for a CPU: fp32, bf16, int8, int4
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # of weights and matmuls
    threads: Count | None = None  # of the CPU; none: torch's choice


class Asked:
    """An engine, asked from any thread; nobody else may use it meanwhile."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.name, self._engine = name, engine
        self._inbox: queue.SimpleQueue[tuple[list[int], Sampling, Future[Reply]] | None]
        self._inbox = queue.SimpleQueue()
        self._asked: dict[Request, tuple[Future[Reply], list[Delta]]] = {}  # the thread's own
        self._lock = threading.Lock()  # of the end: nothing goes into the inbox after it
        self._ended: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._thread.join()

    def __call__(self, messages: Messages, sampling: endpoint.Sampling) -> Reply:
        """The reply. Refused where the prompt is too long, say; UserError for an odd sampling."""
        chosen = _sampling(sampling)
        try:
            ids = self._engine.ids(messages)
            self._engine.check(ids, chosen)
        except UserError as error:
            raise Refused(str(error)) from error
        future: Future[Reply] = Future()
        with self._lock:
            if self._ended is not None:
                raise self._ended
            self._inbox.put((ids, chosen, future))
        return future.result()

    def stop(self) -> None:
        """Cancel what is under way: who waits, and who asks later, raises `Stopped`."""
        self._inbox.put(None)

    # On the engine's thread.

    def _work(self) -> None:
        ended: BaseException = Stopped()
        try:
            while self._listen():
                for request, deltas in self._engine.step():
                    self._take(request, deltas)
        except BaseException as error:  # whatever it is, those who wait must hear of it
            ended = error
        with self._lock:
            self._ended = ended
            while not self._inbox.empty():
                if (item := self._inbox.get()) is not None:
                    item[2].set_exception(ended)
        for request, (future, _) in self._asked.items():
            self._engine.cancel(request)
            future.set_exception(ended)

    def _listen(self) -> bool:
        """Take in what was asked; without work, wait for some. False when it is time to go."""
        while True:
            try:
                item = self._inbox.get(block=not self._asked)
            except queue.Empty:
                return True
            if item is None:
                return False
            ids, sampling, future = item
            try:
                self._asked[self._engine.add(ids, sampling)] = future, []
            except BaseException as error:
                future.set_exception(error)
                raise

    def _take(self, request: Request, deltas: list[Delta]) -> None:
        future, found = self._asked[request]
        found += deltas
        if request.finished:
            del self._asked[request]
            [done] = completions(request, found)
            cut = done.finish_reason == "length"
            future.set_result(Reply(done.text, len(request.prompt), len(done.tokens), cut))


@contextmanager
def opened(source: Endpoint | Local) -> Iterator[endpoint.Ask]:
    """The model behind an endpoint, or one of our own, ready to be asked."""
    if isinstance(source, Endpoint):
        with endpoint.opened(source) as ask:
            yield ask
        return
    with dist.session(source.device, source.dtype, threads=source.threads) as world:
        model, tokenizer = pretrained.load(source.model, world.device, world.dtype, source.packed)
        engine = Engine(model, tokenizer, sequences=source.concurrency)
        content = str(files.fingerprint([source.model])).split()[-1][:12]
        kept = source.packed or str(world.dtype).removeprefix("torch.")
        with Asked(engine, f"{source.model.name} {content} {kept}") as asked:
            yield asked


def _sampling(given: endpoint.Sampling) -> Sampling:
    """OpenAI's words as the engine's."""
    if odd := sorted(given.keys() - TAKEN):
        raise UserError(f"sampling: the engine knows no {', '.join(odd)}; it knows {sorted(TAKEN)}")
    stop: Any = given.get("stop") or ()
    return Sampling(**{**given, "stop": (stop,) if isinstance(stop, str) else tuple(stop)})
