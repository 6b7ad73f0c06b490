"""Answers from a server that speaks OpenAI's protocol: ours, vLLM, llama.cpp, ...

    source = Remote("http://127.0.0.1:8000", key=None)
    "".join(source.stream([{"role": "user", "content": "Hi"}], {"temperature": 0.7}))

Only the standard library: nothing heavy is imported for a conversation with a server. The key goes
to the address that was given and nowhere else: redirects are not followed.
"""

import json
from collections.abc import Generator, Iterator
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from baiwen.commands.conversation import Knobs, Messages
from baiwen.commands.terminal import clean
from baiwen.errors import UserError

PATIENCE = 600.0  # seconds without a byte; a long prompt may take minutes to read
MOST_TOLD = 65536  # bytes read of a refusal
LOOPBACK = ("127.", "localhost", "::1")


class _Stay(HTTPRedirectHandler):
    """No redirect is followed: it would carry the key to another address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - urllib's own signature
        return None


class Remote:
    """A server at `address`, with or without `/v1`; the first of its models answers."""

    def __init__(self, address: str, key: str | None = None) -> None:
        self.address = address.rstrip("/").removesuffix("/v1")
        host = urlsplit(address).hostname or ""
        direct = [ProxyHandler({})] if host.startswith(LOOPBACK) else []  # past any proxy
        self._opener = build_opener(_Stay, *direct)
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        model = self._first_model()
        self.name = str(model["id"])
        self.context: int | None = model.get("max_model_len")

    def stream(self, messages: Messages, knobs: Knobs) -> Generator[str]:
        """The next answer in pieces; the request ends where the iterator is closed."""
        known = {name: value for name, value in knobs.items() if value is not None}
        body = {"model": self.name, "messages": messages, "stream": True, **known}
        with self._open("/v1/chat/completions", body) as response:
            for event in events(response):
                if "error" in event:
                    raise UserError(f"the server stopped: {_message(event)}")
                for choice in event.get("choices") or []:
                    if text := (choice.get("delta") or {}).get("content"):
                        yield text

    def count(self, messages: Messages) -> int:
        """The tokens of a conversation, as the server counts them."""
        body = {"model": self.name, "messages": messages, "add_generation_prompt": True}
        with self._open("/tokenize", body) as response:
            answer = _parsed(response.read())
        if not isinstance(answer.get("count"), int):
            raise UserError(f"{self.address} does not count tokens: its /tokenize has no count")
        return int(answer["count"])

    def check(self, knobs: Knobs) -> None:
        """Nothing: the server says what it does not take."""

    def _first_model(self) -> dict[str, Any]:
        with self._open("/v1/models") as response:
            models = _parsed(response.read()).get("data")
        if not isinstance(models, list) or not models or "id" not in models[0]:
            raise UserError(f"{self.address} does not speak OpenAI's protocol: it lists no models")
        return dict(models[0])

    def _open(self, path: str, body: object = None) -> HTTPResponse:
        """The response to a request, as it comes; UserError with the server's words against it."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.address + path, data, self._headers)
        try:
            return self._opener.open(request, timeout=PATIENCE)
        except HTTPError as error:
            with error:
                raise UserError(_refusal(error)) from error
        except (URLError, HTTPException, OSError) as error:
            why = getattr(error, "reason", error)
            raise UserError(f"{self.address} does not answer: {why}") from error


def events(response: HTTPResponse) -> Iterator[dict[str, Any]]:
    """The JSON of each server-sent event (HTML standard, section 9.2), up to `[DONE]`.

    UserError where the stream ends before that: what has come is not the whole answer.
    """
    data: list[bytes] = []
    for line in _lines(response):
        if line.startswith(b"data:"):
            data.append(line.removeprefix(b"data:").strip())
        elif not line and data:
            event = b"\n".join(data)
            if event == b"[DONE]":
                return
            yield _parsed(event)
            data = []
    raise UserError("the server has left in the middle of its answer")


def _lines(response: HTTPResponse) -> Iterator[bytes]:
    try:
        yield from (line.rstrip(b"\r\n") for line in response)
    except (HTTPException, OSError) as error:
        raise UserError(f"the server has left: {error}") from error


def _parsed(raw: bytes) -> dict[str, Any]:
    """The JSON object that a server sent; UserError where it is none."""
    try:
        value = json.loads(raw)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UserError(f"the server does not speak OpenAI's protocol: it said {raw[:80]!r}")
    return value


def _refusal(error: HTTPError) -> str:
    if error.code == 401:
        return "the server wants its API key: give --api-key, or set BAIWEN_API_KEY"
    told = clean(error.read(MOST_TOLD).decode(errors="replace"))
    with suppress(ValueError):  # no JSON: a proxy's page, say
        told = _message(json.loads(told))
    return f"the server refused (HTTP {error.code}): {told}"


def _message(answer: Any) -> str:  # noqa: ANN401 - whatever a server says
    error = answer.get("error") if isinstance(answer, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return clean(str(message or answer))
