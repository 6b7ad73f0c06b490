"""Many requests, answered side by side, given in their order, each kept as soon as it has come.

    with Ledger("state/said.jsonl") as cache, opened(endpoint) as ask:
        for answer in answers(ask, requests, cache, endpoint.concurrency, read=score):
            answer.value                     # what `score` made of the text; None: see answer.why

What the cache holds is not asked again, so a run that was killed goes on where it was. A reply that
`read` can make nothing of is shown to the model, which is asked once more. Requests go out far
enough ahead of the answers that a slow one does not hold up the others; an engine of our own finds
them waiting, and decodes them together.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from baiwen.endpoint.bill import Bill
from baiwen.endpoint.reply import Ask, Messages, Refused, Reply, Sampling, key
from baiwen.errors import UserError
from baiwen.files import Ledger

KEPT = ("text", "prompt_tokens", "completion_tokens", "cut")  # of a reply, in the cache
AHEAD = 4  # requests under way or waiting to be given, for each that is asked at a time
LONGEST = 2000  # characters of an unreadable reply that are shown to its writer
AGAIN = "I cannot read that. Answer again in the form that was asked for, with nothing around it."

UNREADABLE = "cannot be read"
REFUSED = "refused"
SPENT = "not asked: most_cost is reached"

T = TypeVar("T")


class Request(NamedTuple):
    """What is asked."""

    messages: Messages
    sampling: Sampling


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What came of a request."""

    value: T | None  # what `read` made of the last reply
    replies: tuple[Reply, ...]  # one for each time that it was asked; none where it was refused
    why: str = ""  # where there is no value: UNREADABLE, SPENT, or REFUSED and why

    @property
    def text(self) -> str:
        """The last reply's; empty where there is none."""
        return self.replies[-1].text if self.replies else ""

    @property
    def refused(self) -> bool:
        """Whether the model did not take the request."""
        return self.why.startswith(REFUSED)

    @property
    def unasked(self) -> bool:
        """Whether the request was not made, because the money was spent."""
        return self.why == SPENT


def again(messages: Messages, text: str) -> Messages:
    """The messages that ask once more after a reply that could not be read."""
    said = {"role": "assistant", "content": text[:LONGEST]}
    return [*messages, said, {"role": "user", "content": AGAIN}]


def answers(
    ask: Ask,
    requests: Iterable[tuple[Messages, Sampling]],
    cache: Ledger | None = None,
    concurrency: int = 8,
    read: Callable[[str], T | None] | None = None,
    attempts: int = 3,
    again: Callable[[Messages, str], Messages] = again,
    bill: Bill | None = None,
) -> Iterator[Answer[Any]]:
    """The answer to each request, in order; `requests` are read as they are needed.

    read: what a reply's text means, None where it cannot be read; without it, the text itself.
    again: the messages that ask once more, from the last ones and the text that was no answer.
    bill: gets every reply; once it is `spent`, the requests that follow are not asked, up to
    `AHEAD * concurrency` of them later (the same ones wherever the work was interrupted).
    UserError in the turn of a request that met one; replies under way are waited for and kept.
    """

    def answered(request: tuple[Messages, Sampling]) -> Answer[Any]:
        return _answered(ask, *request, cache, read, attempts, again)

    with ThreadPoolExecutor(concurrency, "ask") as pool:
        waiting: deque[Future[Answer[Any]]] = deque()
        try:
            for request in requests:
                waiting.append(_spent() if bill and bill.spent else pool.submit(answered, request))
                if len(waiting) == AHEAD * concurrency:
                    yield _given(waiting, bill)
            while waiting:
                yield _given(waiting, bill)
        except BaseException as error:
            if not isinstance(error, GeneratorExit):  # who has enough may ask for more
                ask.stop()
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def telling(cache: Ledger) -> Iterator[None]:
    """Say, where the work ends early, what is kept of it."""
    try:
        yield
    except UserError as error:
        kept = f"{len(cache.rows):,} replies are kept; run the recipe again to go on"
        raise UserError(f"{error}\n{kept}.") from error


def _given(waiting: deque[Future[Answer[Any]]], bill: Bill | None) -> Answer[Any]:
    """The answer that is next in order, on the bill."""
    answer = waiting.popleft().result()
    if bill:
        bill.add(answer.replies)
    return answer


def _spent() -> Future[Answer[Any]]:
    """What comes of a request that is not made."""
    found: Future[Answer[Any]] = Future()
    found.set_result(Answer(None, (), SPENT))
    return found


def _answered(
    ask: Ask,
    messages: Messages,
    sampling: Sampling,
    cache: Ledger | None,
    read: Callable[[str], T | None] | None,
    attempts: int,
    again: Callable[[Messages, str], Messages],
) -> Answer[Any]:
    replies: list[Reply] = []
    try:
        for _ in range(attempts):
            replies.append(_kept(ask, messages, sampling, cache))
            text = replies[-1].text
            value = text if read is None else read(text)
            if value is not None:
                return Answer(value, tuple(replies))
            messages = again(messages, text)
    except Refused as error:
        return Answer(None, tuple(replies), f"{REFUSED}: {error}")
    return Answer(None, tuple(replies), UNREADABLE)


def _kept(ask: Ask, messages: Messages, sampling: Sampling, cache: Ledger | None) -> Reply:
    """The reply, from the cache where it holds one: ours, or that of whoever shares it."""
    if cache is None:
        return ask(messages, sampling)
    name = key(ask.name, messages, sampling)
    if (row := cache.get(name)) is not None:
        return Reply(**row, cached=True)
    reply = ask(messages, sampling)
    return Reply(**cache.add(name, {field: getattr(reply, field) for field in KEPT}))
