"""Requests to a server, made until it answers or is given up.

    with connected(server) as clients:
        connection = Connection(server, clients)
        connection.tried("POST", "/chat/completions", body, read)

What may pass (no connection, a timeout, 408, 409, 429, 5xx, a body that is no answer) is asked
again after a pause that doubles each time and is drawn from its upper half, so that those who
failed together do not come back together. Where the server says how long (`Retry-After`: seconds or
a date, RFC 9110, 10.2.3), everybody waits that long; if it is more than `patience`, the work stops.
What the server holds against this one request (400, 413, 422: too long, say) raises `Refused`;
anything else is a `UserError` at once. A redirect is not followed: it would carry the key
elsewhere. No more than `LARGEST` bytes of a body are read.

Of several servers each is asked in turn; one that fails is left out for a while, which doubles each
time that it fails again.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Annotated, Self, TypeVar

import httpx
from pydantic import Field, model_validator

from baiwen.config import Knobs
from baiwen.endpoint.pace import Pace
from baiwen.endpoint.reply import Refused, Stopped
from baiwen.errors import UserError

PASSING = {408, 409, 429}  # and every 5xx
REQUEST = {400, 413, 422}  # what is wrong with one request
LONGEST = 60.0  # seconds of a pause that the server has not asked for
ABSENT = 15.0  # seconds for which a server that has failed is left out, where there are others
LARGEST = 2**27  # bytes of a body
SHOWN = 300  # characters of an answer in an error

Url = Annotated[str, Field(pattern=r"^https?://")]
T = TypeVar("T")
Reader = Callable[[httpx.Response], T | None]  # None: it holds no answer


class Server(Knobs):
    """Where a server is, and how much patience it is worth."""

    url: Url  # OpenAI's base_url, with or without /v1
    model: str | None = None  # none: the first that the server lists
    key_env: str | None = None  # name of the environment variable that holds the API key
    timeout: Annotated[float, Field(gt=0)] = 120.0  # seconds without a byte
    retries: Annotated[int, Field(ge=0)] = 6  # times that a request is made again
    pause: Annotated[float, Field(ge=0)] = 1.0  # seconds before the first of them; then doubled
    patience: Annotated[float, Field(ge=0)] = 600.0  # seconds that a server may ask to wait

    @model_validator(mode="after")
    def _plain(self) -> Self:
        for url in self.urls:
            _refuse_odd(url)
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        """All servers of the same model."""
        return (self.url,)


@dataclass
class Peer:
    """One of the servers."""

    client: httpx.Client
    failures: int = 0  # in a row
    absent: float = 0.0  # until when it is left out

    @property
    def base(self) -> str:
        """The URL under which `/chat/completions` lies."""
        return str(self.client.base_url).rstrip("/")

    def failed(self) -> None:
        """Leave it out for a while."""
        self.failures += 1
        pause = min(ABSENT * 2 ** (self.failures - 1), 10 * LONGEST)
        self.absent = time.monotonic() + pause


class Connection:
    """An open connection to the servers of a model; from any thread."""

    def __init__(
        self, server: Server, clients: Sequence[httpx.Client], pace: Pace | None = None
    ) -> None:
        self._server, self._pace = server, pace or Pace()
        self._peers = [Peer(client) for client in clients]
        self._turns = count()
        self._stop = threading.Event()
        self.name = server.model or self.tried("GET", "/models", None, _listed)

    @property
    def base(self) -> str:
        """The first server's URL, under which `/chat/completions` lies."""
        return self._peers[0].base

    def stop(self) -> None:
        """End the pauses: whoever waits raises `Stopped`."""
        self._stop.set()

    def tried(self, method: str, path: str, body: object, read: Reader[T], tokens: int = 0) -> T:
        """What `read` makes of the answer, asked for until there is one.

        tokens: about how many the request is worth, for the pace. Refused; UserError where no
        answer comes in all the tries; Stopped.
        """
        server, told = self._server, ""
        for attempt in range(server.retries + 1):
            self._await(self._pace.book(tokens))
            peer = self._peer()
            try:
                response = _response(peer.client, method, path, body)
            except httpx.RequestError as error:
                told = f"{type(error).__name__}: {error}"
                peer.failed()
            else:
                if response.status_code == httpx.codes.OK:
                    peer.failures = 0
                    if (found := read(response)) is not None:
                        return found
                    told = f"no answer in OpenAI's form: {response.text[:SHOWN]!r}"
                else:
                    told = f"HTTP {response.status_code}: {response.text[:SHOWN]}"
                    self._bear(response, peer, method, told)
            if attempt < server.retries:
                pause = min(server.pause * 2**attempt, LONGEST) * random.uniform(0.5, 1)
                self._await(time.monotonic() + pause)
        raise UserError(f"{peer.base} is down: after {server.retries + 1} tries it says {told}")

    def _bear(self, response: httpx.Response, peer: Peer, method: str, told: str) -> None:
        """Raise what makes another try senseless, and hold who waits for as long as is asked."""
        status = response.status_code
        if status in REQUEST and method == "POST":
            raise Refused(told)
        if status < httpx.codes.INTERNAL_SERVER_ERROR and status not in PASSING:
            raise UserError(f"{peer.base} does not let us in: {told}")
        wait = asked_pause(response)
        if wait > self._server.patience:
            raise UserError(
                f"{peer.base} asks to be left alone for {wait:,.0f} seconds, more than patience = "
                f"{self._server.patience:,.0f}: {told}\nRun again then, or raise the knob."
            )
        self._pace.hold(wait)
        if status not in PASSING:
            peer.failed()

    def _await(self, due: float) -> None:
        """Wait until a request may go; Stopped."""
        while (left := self._pace.left(due)) > 0:
            if self._stop.wait(left):
                break
        if self._stop.is_set():
            raise Stopped

    def _peer(self) -> Peer:
        """The next server in turn that is there; if none is, the one that is due first."""
        turn = next(self._turns)
        peers = [self._peers[(turn + n) % len(self._peers)] for n in range(len(self._peers))]
        now = time.monotonic()
        there = (peer for peer in peers if peer.absent <= now)
        return next(there, None) or min(peers, key=lambda peer: peer.absent)


@contextmanager
def connected(server: Server, concurrency: int) -> Iterator[list[httpx.Client]]:
    """A client of each server, which lets us in; UserError where there is no key."""
    headers = {} if server.key_env is None else {"Authorization": f"Bearer {_key(server.key_env)}"}
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                httpx.Client(
                    base_url=base(url),
                    headers=headers,
                    timeout=httpx.Timeout(server.timeout, pool=None),  # others may go first
                    trust_env=not _local(url),  # past any proxy
                    limits=httpx.Limits(max_connections=concurrency),
                )
            )
            for url in server.urls
        ]


def base(url: str) -> str:
    """The URL under which `/chat/completions` lies."""
    found = httpx.URL(url)
    return str(found.copy_with(path="/v1")) if found.path in ("", "/") else str(found).rstrip("/")


def _listed(response: httpx.Response) -> str | None:
    """The first model of a list of models, or None where this is none."""
    try:
        return str(response.json()["data"][0]["id"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def asked_pause(response: httpx.Response) -> float:
    """Seconds that `Retry-After` asks for: a number, or a date by the server's own clock."""
    asked = response.headers.get("retry-after", "")
    try:
        return max(float(asked), 0.0)
    except ValueError:
        until, now = _date(asked), _date(response.headers.get("date", ""))
    if until is None:
        return 0.0
    return max(until - (time.time() if now is None else now), 0.0)


def _date(text: str) -> float | None:
    """Seconds since 1970 of a date of HTTP; None where it is none."""
    try:
        found = parsedate_to_datetime(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _response(client: httpx.Client, method: str, path: str, body: object) -> httpx.Response:
    """The response, whose body is cut off where it is larger than any answer."""
    data = bytearray()
    with client.stream(method, path, json=body) as response:
        for part in response.iter_bytes():
            data += part
            if len(data) > LARGEST:
                break
    names = ("content-type", "retry-after", "date")
    told = {name: value for name, value in response.headers.items() if name in names}
    return httpx.Response(response.status_code, headers=told, content=bytes(data))


def _refuse_odd(text: str) -> None:
    """ValueError where a URL is none, or holds what stands in the environment."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(f"url is none: {error}") from error
    if not url.host or url.userinfo or url.query or url.fragment:
        raise ValueError(
            "url is http(s)://host[:port][/path], without user, password or key: a key stands in "
            "the environment variable that key_env names"
        )


def _key(name: str) -> str:
    key = os.environ.get(name)
    if not key:
        raise UserError(
            f"endpoint.key_env: the environment has no {name}; set it to the API key, or leave "
            "key_env out where none is needed"
        )
    if " " in key or not (key.isascii() and key.isprintable()):
        raise UserError(
            f"endpoint.key_env: {name} holds a space, a line break or a character that is not "
            "ASCII, which no API key does"
        )
    return key


def _local(url: str) -> bool:
    host = httpx.URL(url).host
    return host == "localhost" or host.startswith("127.")
