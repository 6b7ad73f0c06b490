"""A chat model behind OpenAI's protocol, asked until it answers or is given up.

    [endpoint]
    url = "http://127.0.0.1:8000/v1"
    key_env = "OPENAI_API_KEY"          # the name of the variable, never the key itself

    with opened(endpoint) as ask:
        reply = ask([{"role": "user", "content": "Hi"}], {"temperature": 0})

What may pass (no connection, a timeout, 408, 409, 429, 5xx, a body that is no answer) is asked
again after a pause that doubles each time, or as long as the server says. What the server holds
against this one request (400, 413, 422: too long, say) raises `Refused`; anything else is a
`UserError` at once. A redirect is not followed: it would carry the key elsewhere. No more than
`LARGEST` bytes of a body are read.
"""

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Self, TypeVar

import httpx
from pydantic import Field, model_validator

from baiwen.config import Knobs
from baiwen.endpoint.reply import Messages, Refused, Reply, Sampling, Stopped
from baiwen.errors import UserError

PASSING = {408, 409, 429}  # and every 5xx
REQUEST = {400, 413, 422}  # what is wrong with one request
LONGEST = 60.0  # seconds of a pause
LARGEST = 2**27  # bytes of a body
SHOWN = 300  # characters of an answer in an error

T = TypeVar("T")
Reader = Callable[[httpx.Response], T | None]  # None: it holds no answer


class Endpoint(Knobs):
    """Where the model is, and how much patience it is worth."""

    url: Annotated[str, Field(pattern=r"^https?://")]  # OpenAI's base_url, with or without /v1
    model: str | None = None  # none: the first that the server lists
    key_env: str | None = None  # name of the environment variable that holds the API key
    concurrency: Annotated[int, Field(gt=0)] = 8  # requests at a time
    timeout: Annotated[float, Field(gt=0)] = 120.0  # seconds without a byte
    retries: Annotated[int, Field(ge=0)] = 6  # times that a request is made again
    pause: Annotated[float, Field(ge=0)] = 1.0  # seconds before the first of them; then doubled

    @model_validator(mode="after")
    def _plain(self) -> Self:
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ValueError(f"url is none: {error}") from error
        if not url.host or url.userinfo or url.query or url.fragment:
            raise ValueError(
                "url is http(s)://host[:port][/path], without user, password or key: a key stands "
                "in the environment variable that key_env names"
            )
        return self

    @property
    def base(self) -> str:
        """The URL under which `/chat/completions` lies."""
        url = httpx.URL(self.url)
        return str(url.copy_with(path="/v1")) if url.path in ("", "/") else str(url).rstrip("/")


class Chat:
    """An open connection; from any thread."""

    def __init__(self, endpoint: Endpoint, client: httpx.Client) -> None:
        self._endpoint, self._client = endpoint, client
        self._stop = threading.Event()
        self.name = endpoint.model or self._first()

    def stop(self) -> None:
        """End the pauses: whoever waits raises `Stopped`."""
        self._stop.set()

    def __call__(self, messages: Messages, sampling: Sampling) -> Reply:
        """The model's reply. Refused; UserError where none comes in all the tries."""
        body = {"model": self.name, "messages": messages, **sampling}
        return self._tried("POST", "/chat/completions", body, _reply)

    def _first(self) -> str:
        return self._tried("GET", "/models", None, _listed)

    def _tried(self, method: str, path: str, body: object, read: Reader[T]) -> T:
        endpoint, told = self._endpoint, ""
        for attempt in range(endpoint.retries + 1):
            if self._stop.is_set():
                raise Stopped
            wait = min(endpoint.pause * 2**attempt, LONGEST) * random.uniform(0.5, 1)
            try:
                response = self._response(method, path, body)
            except httpx.RequestError as error:
                told = f"{type(error).__name__}: {error}"
            else:
                if response.status_code == httpx.codes.OK:
                    if (found := read(response)) is not None:
                        return found
                    told = f"no answer in OpenAI's form: {response.text[:SHOWN]!r}"
                else:
                    told = f"HTTP {response.status_code}: {response.text[:SHOWN]}"
                    if response.status_code in REQUEST and method == "POST":
                        raise Refused(told)
                    if response.status_code < 500 and response.status_code not in PASSING:
                        raise UserError(f"{endpoint.base}{path} does not let us in: {told}")
                    wait = max(wait, _asked_pause(response))
            if attempt < endpoint.retries and self._stop.wait(wait):
                raise Stopped
        raise UserError(
            f"{endpoint.base} is down: after {endpoint.retries + 1} tries it says {told}"
        )

    def _response(self, method: str, path: str, body: object) -> httpx.Response:
        """The response, whose body is cut off where it is larger than any answer."""
        data = bytearray()
        with self._client.stream(method, path, json=body) as response:
            for part in response.iter_bytes():
                data += part
                if len(data) > LARGEST:
                    break
        told = {k: v for k, v in response.headers.items() if k in ("content-type", "retry-after")}
        return httpx.Response(response.status_code, headers=told, content=bytes(data))


@contextmanager
def opened(endpoint: Endpoint) -> Iterator[Chat]:
    """The model, connected; UserError where there is no key, or nobody answers."""
    with connected(endpoint) as client:
        yield Chat(endpoint, client)


@contextmanager
def connected(endpoint: Endpoint) -> Iterator[httpx.Client]:
    """A client of the endpoint, which lets us in; UserError where there is no key."""
    headers = {}
    if endpoint.key_env is not None:
        key = os.environ.get(endpoint.key_env)
        if not key:
            raise UserError(
                f"endpoint.key_env: the environment has no {endpoint.key_env}; set it to the API "
                "key, or leave key_env out where none is needed"
            )
        if " " in key or not (key.isascii() and key.isprintable()):
            raise UserError(
                f"endpoint.key_env: {endpoint.key_env} holds a space, a line break or a character "
                "that is not ASCII, which no API key does"
            )
        headers["Authorization"] = f"Bearer {key}"
    host = httpx.URL(endpoint.url).host
    with httpx.Client(
        base_url=endpoint.base,
        headers=headers,
        timeout=endpoint.timeout,
        trust_env=not (host == "localhost" or host.startswith("127.")),  # past any proxy
        limits=httpx.Limits(max_connections=endpoint.concurrency),
    ) as client:
        yield client


def _reply(response: httpx.Response) -> Reply | None:
    """The reply of a chat completion, or None where this is none."""
    try:
        told = response.json()
        content = told["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if content is None:  # a refusal, or all tokens went into reasoning
        content = ""
    if not isinstance(content, str):
        return None
    # Half a surrogate pair, where an answer was cut off, is no text that could be written.
    text = content.encode(errors="replace").decode()
    return Reply(text, _count(told, "prompt_tokens"), _count(told, "completion_tokens"))


def _count(told: Any, name: str) -> int:  # noqa: ANN401 - whatever the server's JSON is
    """A count of the server's `usage`; 0 where there is none."""
    usage = told.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count >= 0 else 0


def _listed(response: httpx.Response) -> str | None:
    try:
        return str(response.json()["data"][0]["id"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _asked_pause(response: httpx.Response) -> float:
    """Seconds that `Retry-After` asks for; dates are passed over."""
    try:
        return min(max(float(response.headers["retry-after"]), 0.0), LONGEST)
    except (KeyError, ValueError):
        return 0.0
