"""What a step must pass before it may change the weights, and how a run is stopped.

    guard = Guard(max_skipped=10, skip_spikes=True)
    if guard.passes(loss, grad_norm):
        optimizer.step()

A loss or gradient norm that is not finite never reaches the weights. With `skip_spikes`, neither
does one more than six standard deviations above the last 128 accepted ones (OLMo-core's skip-step
optimizer). The windows are part of a checkpoint, so a resumed run decides alike.
"""

import math
import os
import signal
import statistics
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SETTLE = 2.0  # seconds in which one SIGTERM may come by two ways
WINDOW, LEAST, SIGMAS = 128, 32, 6.0  # accepted steps remembered; needed to judge; allowed


class Guard:
    """Says which steps are applied; counts those that are not."""

    def __init__(self, *, max_skipped: int, skip_spikes: bool) -> None:
        self.max_skipped, self.skip_spikes = max_skipped, skip_spikes
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.norms: deque[float] = deque(maxlen=WINDOW)
        self.skipped = 0  # over the whole run
        self.in_a_row = 0

    def passes(self, loss: float, norm: float) -> bool:
        """Whether a step with this loss and gradient norm may be applied."""
        good = math.isfinite(loss) and math.isfinite(norm)
        if good and self.skip_spikes:
            good = not (_spikes(self.losses, loss) or _spikes(self.norms, norm))
        if good:
            self.losses.append(loss)
            self.norms.append(norm)
            self.in_a_row = 0
        else:
            self.skipped += 1
            self.in_a_row += 1
        return good

    @property
    def exhausted(self) -> bool:
        """Whether so many steps were skipped in a row that the run cannot recover by itself."""
        return self.in_a_row >= self.max_skipped

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {
            "losses": list(self.losses),
            "norms": list(self.norms),
            "skipped": self.skipped,
            "in_a_row": self.in_a_row,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state()` gave."""
        self.losses.extend(state["losses"])
        self.norms.extend(state["norms"])
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]


def _spikes(window: deque[float], value: float) -> bool:
    if len(window) < LEAST:
        return False
    return value > statistics.fmean(window) + SIGMAS * statistics.pstdev(window)


class Stop:
    """Whether someone asked the run to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal = 0
        self.at = 0.0  # when it came

    def error(self) -> BaseException:
        """What to raise once the state is saved: the command line exits with 130 or 143."""
        if self.signal == signal.SIGINT:
            return KeyboardInterrupt()
        return SystemExit(128 + signal.SIGTERM)


@contextmanager
def stopping() -> Iterator[Stop]:
    """Note the first Ctrl-C or SIGTERM, so that the step is finished; the second acts at once.

    Under torchrun the first SIGTERM may come twice: a scheduler sends it to every process of a job,
    and torchrun, which is one of them, passes it on.
    """
    stop = Stop()
    settle = SETTLE if "TORCHELASTIC_RUN_ID" in os.environ else 0.0
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may set handlers
        return

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _: FrameType | None) -> None:
        if not stop.signal:
            stop.signal, stop.at = number, time.monotonic()
        elif number == signal.SIGINT or time.monotonic() - stop.at >= settle:
            restore()
            signal.raise_signal(number)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        restore()
