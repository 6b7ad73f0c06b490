"""The pace of requests: so many of them and of their tokens a minute, evenly spread.

    pace = Pace(requests=600, tokens=100_000)         # a minute; None: as fast as they come
    due = pace.book(tokens=1500)                      # when this request may go
    while (wait := pace.left(due)) > 0: ...           # seconds
    pace.correct(tokens=-300)                         # it took fewer than were booked

Requests go one after the other, each as far from the next as its share of a minute, so no window of
a minute ever holds more than the limit, wherever it begins (but for the one request that opens it).
Where a server asks to be left alone (`Retry-After`), all who wait are held, not only the one that
was told.
"""

import threading
import time

MINUTE = 60.0  # seconds


class Pace:
    """When the next request may go; from any thread."""

    def __init__(self, requests: float | None = None, tokens: float | None = None) -> None:
        """requests, tokens: a minute."""
        self._request = MINUTE / requests if requests else 0.0  # seconds that one takes
        self._token = MINUTE / tokens if tokens else 0.0
        self._lock = threading.Lock()
        self._next = 0.0  # when the next request may go, for their number
        self._free = 0.0  # the same for their tokens
        self._held = 0.0  # until when nobody goes

    def book(self, tokens: int = 0) -> float:
        """When a request of about so many tokens may go, in seconds of `time.monotonic`."""
        with self._lock:
            now = time.monotonic()
            due = max(now, self._next, self._free)
            self._free = due + tokens * self._token
            if self._request:
                self._next = due + self._request
            return due

    def correct(self, tokens: int) -> None:
        """A request took so many tokens more than were booked, or fewer."""
        with self._lock:
            self._free += tokens * self._token

    def hold(self, seconds: float) -> None:
        """Nobody goes for so long."""
        with self._lock:
            self._held = max(self._held, time.monotonic() + seconds)

    def left(self, due: float) -> float:
        """Seconds that a request still has to wait, which may grow while it does; 0 or less: go."""
        return max(due, self._held) - time.monotonic()
