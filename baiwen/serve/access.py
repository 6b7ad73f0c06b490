"""Who is let in, and how much of a request is read: in front of every route.

    Authorization: Bearer KEY          as API clients send it
    Authorization: Basic base64(:KEY)  as a browser does, once its user has typed the key

With a key, every route but `/health` wants it. Without one, the server listens on this machine
alone, and answers only what is addressed to this machine by name: a page of the web whose own name
has been pointed here (DNS rebinding) sends its own name. While the server drains, requests that
come are told 503.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from baiwen.serve.errors import APIError, response
from baiwen.serve.limits import Limits
from baiwen.serve.metrics import Metrics

OPEN = ("/health",)
LOCAL = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE)


@dataclass
class Gate:
    """Whether requests are let in, and how many are inside."""

    api_key: str | None = None
    draining: bool = False
    running: int = 0


class Access:
    """The ASGI app around the routes that lets requests in, counts them and bounds their bodies."""

    def __init__(self, app: ASGIApp, gate: Gate, limits: Limits, metrics: Metrics) -> None:
        self._app, self._gate, self._limits, self._metrics = app, gate, limits, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if scope["method"] == "HEAD":  # a GET whose answer's body uvicorn keeps back
            scope = {**scope, "method": "GET"}
        status = 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        refusal = (
            _long_head(scope, self._limits.header)
            or self._refusal(scope["path"], headers)
            or _long_body(headers, self._limits.body)
        )
        self._gate.running += 1
        try:
            app = self._app if refusal is None else response(refusal, close=True)
            await app(scope, _Body(receive, self._limits), counted)
        except asyncio.CancelledError:
            if not self._gate.draining:
                raise
        finally:
            self._gate.running -= 1
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(route, str(status)).inc()

    def _refusal(self, path: str, headers: dict[bytes, str]) -> APIError | None:
        if self._gate.draining:
            retry = {"Retry-After": str(self._limits.retry_seconds)}
            return APIError("the server is about to stop", 503, headers=retry)
        if path in OPEN:
            return None
        if self._gate.api_key is not None:
            return _unauthorized(self._gate.api_key, headers.get(b"authorization", ""))
        host = headers.get(b"host", "")
        if LOCAL.fullmatch(host):
            return None
        return APIError(
            f"without an API key this server answers to the names of this machine only, not to "
            f"{host[:100]!r}; start it with --api-key to use another",
            421,
        )


class _Body:
    """The body of a request, piece by piece, in time and within its size."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive, self._limits = receive, limits
        self._size, self._whole = 0, False
        self._due = asyncio.get_running_loop().time() + limits.body_seconds

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._due):
                message = await self._receive()
        except TimeoutError as error:
            close = {"Connection": "close"}
            told = "the request's body has not come in time"
            raise APIError(told, 408, headers=close) from error
        self._size += len(message.get("body", b""))
        if self._size > self._limits.body:
            raise _too_long(self._limits.body)
        self._whole = not message.get("more_body", False)
        return message


def _long_head(scope: Scope, most: int) -> APIError | None:
    size = len(scope["raw_path"]) + len(scope["query_string"])
    size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    return APIError(f"the headers are longer than {most:,} bytes", 431) if size > most else None


def _long_body(headers: dict[bytes, str], most: int) -> APIError | None:
    length = headers.get(b"content-length", "0")
    return _too_long(most) if length.isdecimal() and int(length) > most else None


def _too_long(most: int) -> APIError:
    return APIError(f"the body is larger than {most:,} bytes", 413, headers={"Connection": "close"})


def _unauthorized(key: str, given: str) -> APIError | None:
    scheme, _, secret = given.strip().partition(" ")
    if scheme.lower() == "basic":
        secret = _password(secret)
    if scheme.lower() in ("bearer", "basic") and _same(secret.strip(), key):
        return None
    told = "the API key is wrong" if given else "no API key was given"
    ask = {"WWW-Authenticate": 'Basic realm="Baiwen: the API key is the password"'}
    return APIError(
        f"{told}; send Authorization: Bearer KEY", 401, code="invalid_api_key", headers=ask
    )


def _password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def _same(given: str, key: str) -> bool:
    """Equal? In a time that tells nothing of the key, not even its length."""
    digests = (
        hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in (given, key)
    )
    return hmac.compare_digest(*digests)
