"""A chat model behind OpenAI's protocol.

    [endpoint]
    url = "http://127.0.0.1:8000/v1"
    key_env = "OPENAI_API_KEY"          # the name of the variable, never the key itself

    with opened(endpoint) as ask:
        reply = ask([{"role": "user", "content": "Hi"}], {"temperature": 0})

How it is asked until it answers, `connection.py` says; how fast, `pace.py`.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import httpx
from pydantic import Field

from baiwen.endpoint.connection import Connection, Server, Url, connected
from baiwen.endpoint.pace import Pace
from baiwen.endpoint.reply import Messages, Reply, Sampling

BYTES = 4  # of a request for a token, until the server has counted
MOST = 2**63  # tokens that anybody can have counted
CUT_OFF = "length"  # the finish of a reply that was ended by `max_tokens`

# What of an endpoint changes no reply: a run goes on by another way to the same model.
FREE = (
    "endpoint.url",
    "endpoint.also",
    "endpoint.key_env",
    "endpoint.timeout",
    "endpoint.retries",
    "endpoint.pause",
    "endpoint.patience",
    "endpoint.requests_per_minute",
    "endpoint.tokens_per_minute",
)

Number = Annotated[float, Field(gt=0)]
Cost = Annotated[float, Field(ge=0)]


class Endpoint(Server):
    """Where the model is, how fast it may be asked, and what it costs."""

    also: tuple[Url, ...] = ()  # further servers of the same model, asked in turn
    concurrency: Annotated[int, Field(gt=0)] = 8  # requests at a time
    requests_per_minute: Number | None = None  # at most; none: as fast as they come
    tokens_per_minute: Number | None = None  # of prompts and replies, at most
    price_in: Cost = 0.0  # of a million tokens of prompts, in any currency
    price_out: Cost = 0.0  # of a million tokens of replies
    most_cost: Cost | None = None  # when all replies have cost this, nothing more is asked

    @property
    def urls(self) -> tuple[str, ...]:
        """All servers of the same model."""
        return (self.url, *self.also)


class Chat(Connection):
    """The model, open to be asked."""

    def __init__(self, endpoint: Endpoint, clients: Sequence[httpx.Client]) -> None:
        pace = Pace(endpoint.requests_per_minute, endpoint.tokens_per_minute)
        super().__init__(endpoint, clients, pace)

    def __call__(self, messages: Messages, sampling: Sampling) -> Reply:
        """The model's reply. Refused; UserError where none comes in all the tries."""
        body = {"model": self.name, "messages": messages, **sampling}
        booked = len(json.dumps(messages).encode()) // BYTES + int(sampling.get("max_tokens") or 0)
        reply = self.tried("POST", "/chat/completions", body, read, booked)
        self._pace.correct(reply.prompt_tokens + reply.completion_tokens - booked)
        return reply


@contextmanager
def opened(endpoint: Endpoint) -> Iterator[Chat]:
    """The model, connected; UserError where there is no key, or nobody answers."""
    with connected(endpoint, endpoint.concurrency) as clients:
        chat = Chat(endpoint, clients)
        try:
            yield chat
        finally:
            chat.stop()


def read(response: httpx.Response) -> Reply | None:
    """The reply of a chat completion, or None where this is none."""
    try:
        told = response.json()
        choice = told["choices"][0]
        content = choice["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if content is None:  # a refusal, or all tokens went into reasoning
        content = ""
    if not isinstance(content, str):
        return None
    # Half a surrogate pair, where an answer was cut off, is no text that could be written.
    text = content.encode(errors="replace").decode()
    prompt, completion = (_count(told, name) for name in ("prompt_tokens", "completion_tokens"))
    return Reply(text, prompt, completion, choice.get("finish_reason") == CUT_OFF)


def _count(told: Any, name: str) -> int:  # noqa: ANN401 - whatever the server's JSON is
    """A count of the server's `usage`; 0 where there is none that can be."""
    usage = told.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if type(count) is int and 0 <= count <= MOST else 0
