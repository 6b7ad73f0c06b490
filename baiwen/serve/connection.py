"""One client's connection: uvicorn's HTTP/1.1 protocol, with the limits that it does not have.

A client gets `header_seconds` from the first byte of a request to the end of its headers, and
`read_seconds` to take what is left of its answer when the connection closes; connections over the
limit are told 503. `request.state.abort` cuts a connection without waiting for its reader.
"""

import asyncio
import json
import socket

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from baiwen.serve.errors import APIError, shape
from baiwen.serve.limits import Limits

UNREAD = 2**16  # bytes of an answer that the kernel may hold for a client; it takes the double


class Connection(H11Protocol):
    """A connection within limits, which the app's state holds."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Greet a client, or turn it away."""
        super().connection_made(transport)
        self.limits: Limits = self.app_state["limits"]
        self.app_state = {**self.app_state, "abort": transport.abort}
        client: socket.socket = transport.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD)
        self._headers_due: asyncio.TimerHandle | None = None
        if len(self.connections) > self.limits.connections:
            self._turn_away(APIError("the server has too many connections; try later", 503))

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; the clock runs while a request's headers are not complete."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._stop_clock()
        elif self._headers_due is None:
            self._headers_due = self.loop.call_later(self.limits.header_seconds, self._late)

    def send_400_response(self, msg: str) -> None:
        """Tell of what is no HTTP in the shape of all our errors."""
        self._turn_away(APIError(msg))

    def on_response_complete(self) -> None:
        """Give a client that does not read its answer a while, then cut it off."""
        super().on_response_complete()
        if self.transport.is_closing():
            self.loop.call_later(self.limits.read_seconds, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also one whose answer has not been read."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(self.limits.read_seconds, self.transport.abort)

    def _late(self) -> None:
        self._turn_away(APIError("the request's headers have not come in time", 408))

    def _stop_clock(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _turn_away(self, error: APIError) -> None:
        """Write an answer past uvicorn's state, which is none that could still send one.

        An answer that is under way is cut instead: nothing that follows could be told from it.
        """
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
            return
        body = json.dumps(shape(error)).encode()
        head = (
            f"HTTP/1.1 {error.status_code} \r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        if not self.transport.is_closing():
            self.transport.write(head.encode() + body)
            self.transport.close()
