"""What a model is asked, and what it says: the words that stages and methods share.

    ask: Ask = chat                                  # `opened(endpoint)`, or an engine of our own
    reply = ask([{"role": "user", "content": "Hi"}], {"temperature": 0.0})
    reply.text, reply.completion_tokens

Messages and sampling are those of OpenAI's chat completions: `temperature`, `top_p`, `max_tokens`,
`seed`, `stop`. A request with another `seed` is another request.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

_BEGIN = re.compile(r"\{\s*[\"}]")  # of a JSON object

Messages = Sequence[Mapping[str, Any]]
Sampling = Mapping[str, Any]


@dataclass(frozen=True)
class Reply:
    """An answer of the model."""

    text: str
    prompt_tokens: int = 0  # 0 where the server does not count
    completion_tokens: int = 0
    cut: bool = False  # ended by `max_tokens`, not by the model
    cached: bool = False  # from the disk: nothing was asked


class Refused(Exception):  # noqa: N818 - what happened, not a kind of error
    """The model does not take this request, and says why."""


class Stopped(Exception):  # noqa: N818 - what happened, not a kind of error
    """The work was stopped while this request waited."""


class Ask(Protocol):
    """A model that is asked, from any thread."""

    @property
    def name(self) -> str:
        """Which model it is; a part of what its replies are kept under."""

    def __call__(self, messages: Messages, sampling: Sampling) -> Reply:
        """Its reply. Refused; Stopped; UserError where no further request makes sense."""

    def stop(self) -> None:
        """Whoever waits raises `Stopped`, and so does who asks later."""


def key(model: str, messages: Messages, sampling: Sampling) -> str:
    """Names a request by all of its content."""
    content = json.dumps([model, sampling, messages], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text, from left to right, none within another."""
    decoder, place = json.JSONDecoder(strict=False), 0
    while begin := _BEGIN.search(text, place):
        try:
            value, place = decoder.raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            place = begin.start() + 1
        else:
            yield value
