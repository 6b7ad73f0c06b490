"""Many requests, answered side by side, given in their order, each kept as soon as it has come.

    with Ledger("state/said.jsonl") as cache, opened(endpoint) as ask:
        for answer in answers(ask, requests, cache, endpoint.concurrency, read=score):
            answer.value                     # what `score` made of the text; None: see answer.why

What the cache holds is not asked again, so a run that was killed goes on where it was. A reply that
`read` can make nothing of is shown to the model, which is asked once more.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from baiwen.endpoint.reply import Ask, Messages, Refused, Reply, Sampling, key
from baiwen.files import Ledger

AHEAD = 4  # requests under way or waiting to be given, for each that is asked at a time
LONGEST = 2000  # characters of an unreadable reply that are shown to its writer
AGAIN = "I cannot read that. Answer again in the form that was asked for, with nothing around it."

UNREADABLE = "cannot be read"

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
    why: str | None = None  # where there is no value: "unreadable", or "refuses: ..."

    @property
    def text(self) -> str:
        """The last reply's; empty where there is none."""
        return self.replies[-1].text if self.replies else ""

    @property
    def refused(self) -> bool:
        """Whether the model did not take the request."""
        return bool(self.why) and self.why != UNREADABLE


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
) -> Iterator[Answer[Any]]:
    """The answer to each request, in order; `requests` are read as they are needed.

    read: what a reply's text means, None where it cannot be read; without it, the text itself.
    again: the messages that ask once more, from the last ones and the text that was no answer.
    UserError as soon as one request meets one; replies under way are waited for and kept.
    """

    def answered(request: tuple[Messages, Sampling]) -> Answer[Any]:
        messages, sampling = request
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
            return Answer(None, tuple(replies), f"refuses: {error}")
        return Answer(None, tuple(replies), UNREADABLE)

    with ThreadPoolExecutor(concurrency, "ask") as pool:
        waiting: deque[Future[Answer[Any]]] = deque()
        try:
            for request in requests:
                waiting.append(pool.submit(answered, request))
                if len(waiting) == AHEAD * concurrency:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            ask.stop()
            pool.shutdown(cancel_futures=True)
            raise


def _kept(ask: Ask, messages: Messages, sampling: Sampling, cache: Ledger | None) -> Reply:
    """The reply, from the cache as far as it has been asked."""
    if cache is None:
        return ask(messages, sampling)
    name = key(ask.name, messages, sampling)
    if name in cache.rows:
        return Reply(**cache.rows[name], cached=True)
    reply = ask(messages, sampling)
    kept = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
    cache.add(name, {"text": reply.text, **kept})
    return reply
