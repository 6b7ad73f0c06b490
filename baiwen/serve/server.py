"""The server's process: its address, its start, and an end at which nothing is lost.

    listener = bind("127.0.0.1", 8000, api_key=None)
    run(app, listener, drain=30)

At SIGTERM (or Ctrl-C) requests that run are finished, those that come are told 503, and the process
ends when the last one is done or the time to drain is over; a second signal ends it at once.
"""

import ipaddress
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from baiwen.errors import UserError
from baiwen.serve.access import Gate
from baiwen.serve.connection import Connection
from baiwen.serve.limits import Limits

KEEP_ALIVE = 75  # seconds: longer than clients keep an idle connection, so that they close it
# Seconds after which one thread asks another for the interpreter (Python: 5 ms). Each event of a
# stream that is sent waits for it, while the engine's thread goes on.
SWITCH = 0.0005
BACKLOG = 2048  # connections that the kernel keeps until they are accepted: uvicorn's own number
GRACE = 1  # seconds for what still runs when the time to drain is over


def bind(host: str, port: int, api_key: str | None) -> socket.socket:
    """A socket that listens at the address; UserError where it may not or cannot be had.

    It does so at once, so that of two servers that load the same port one is told; who connects
    meanwhile waits.
    """
    if api_key is None and not loopback(host):
        raise UserError(
            f"--host {host} lets other machines in: give an API key, too (--api-key, or "
            "BAIWEN_API_KEY in the environment)"
        )
    if api_key is not None and (len(api_key) < 8 or not api_key.isascii() or " " in api_key):
        raise UserError("the API key must have at least 8 characters, ASCII and no blanks")
    if not 0 <= port < 2**16:
        raise UserError(f"--port {port} is none: there are 0 (a free one) to 65535")
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except UnicodeError as error:  # no name of a machine has such a form
        raise UserError(f"--host {host[:80]!r} is none: {error}") from error
    except OSError as error:
        if listener is not None:
            listener.close()
        told = f"cannot listen at {host}, port {port}: {error.strerror}"
        raise UserError(f"{told}; try another --port") from error
    return listener


def loopback(host: str) -> bool:
    """Is this an address that only this machine reaches?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def url(listener: socket.socket) -> str:
    """Where a client on this machine finds the server."""
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        host = "::1" if address.version == 6 else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: FastAPI, listener: socket.socket, drain: float, ready: Callable[[], None]) -> None:
    """Serve until a signal comes and what runs is finished; `ready` is called once it listens."""
    sys.setswitchinterval(SWITCH)
    made(app, listener, drain, ready).run([listener])


def made(
    app: FastAPI, listener: socket.socket, drain: float, ready: Callable[[], None]
) -> "Server":
    """The server of `run`, for a thread that is to stop it."""
    limits: Limits = app.state.service.limits
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=limits.header,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
    return Server(config, app.state.gate, drain, ready)


class Server(uvicorn.Server):
    """uvicorn's server, which finishes what runs before it stops listening."""

    def __init__(
        self, config: uvicorn.Config, gate: Gate, drain: float, ready: Callable[[], None] | None
    ) -> None:
        super().__init__(config)
        self._gate, self._drain, self._ready = gate, drain, ready
        self._due: float | None = None  # when the time to drain is over

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        if self._ready is not None:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, end at the second."""
        if self._gate.draining:
            self.should_exit = self.force_exit = True
        self._gate.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Has the end come?"""
        if self._gate.draining:
            now = time.monotonic()
            self._due = self._due or now + self._drain
            if self._gate.running == 0 or now >= self._due:
                self.should_exit = True
        return await super().on_tick(counter)
