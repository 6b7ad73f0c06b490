"""Answers as server-sent events, and clients that leave or do not read.

    return EventStream(request, frames(), generation.cancel)

    data: {"choices": [{"delta": {"content": "Hi"}}]}

A client that leaves ends its answer at once. One that does not read fills its own buffers, then
ours (64 KiB), then is waited for, and at last cut off: its transport is aborted, since closing
would wait for it to read. Source: the HTML standard, section 9.2 (server-sent events).
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from baiwen.serve import errors
from baiwen.serve.errors import ClientGone
from baiwen.serve.service import Service

T = TypeVar("T")
Frames = AsyncGenerator[bytes, None]

Close = Callable[[], None]

DONE = b"data: [DONE]\n\n"


def frame(data: dict[str, Any], event: str | None = None) -> bytes:
    """One server-sent event."""
    name = f"event: {event}\n" if event else ""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"{name}data: {text}\n\n".encode()


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; it is cancelled, and ClientGone raised, when the client leaves."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """A response whose frames come as they are made."""

    media_type = "text/event-stream"

    def __init__(self, request: Request, frames: Frames, close: Close) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        service: Service = request.app.state.service
        self._frames, self._close, self._service = frames, close, service
        self._abort = getattr(request.state, "abort", None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the frames, until they or the client end."""
        try:
            await unless_gone(receive, self._send(send))
        except ClientGone:
            self._service.metrics.dropped.labels("left").inc()
        except TimeoutError:
            self._service.metrics.dropped.labels("slow").inc()
            if self._abort is not None:
                self._abort()

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            await send(start)
            async for data in self._frames:
                async with asyncio.timeout(self._service.limits.read_seconds):
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        finally:
            await self._frames.aclose()
            self._close()  # for frames that nobody has begun to read
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def telling(frames: Frames) -> Frames:
    """The frames; an error on the way is told in a last one, since the status has been sent."""
    try:
        async for data in frames:
            yield data
    except Exception as error:
        yield errors.event(error)
        if errors.status_of(error) == 500:
            raise  # a fault of ours, for the server's log
    finally:
        await frames.aclose()
