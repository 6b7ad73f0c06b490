"""Rollouts ahead of training: made while the updates before theirs are under way.

    ahead = Ahead(roll, staleness=1, every=1, steps=100)
    ahead.take(7, model)        # the rollout of step 7; that of step 8 is begun, with these weights

With a staleness of k, the answers of a step come from the weights as they were k updates before it
(the first k steps: from those at the start), never from older ones, whatever is fast or slow: so a
run is the same each time. A thread of its own makes the rollouts, one after the other; what it
needs of the model is copied to the host before it begins. 0: they are made when they are asked for,
from the very weights that train.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from baiwen.rl.groups import Group
from baiwen.rl.rollout import Weights, whole


@dataclass(frozen=True)
class Rolled:
    """The rollout of an episode."""

    updates: int  # that its weights had had
    groups: list[Group]
    figures: dict[str, float]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Rolled":
        """What `asdict` gave, perhaps by way of JSON."""
        return cls(row["updates"], [Group.of(group) for group in row["groups"]], row["figures"])


class Ahead:
    """Rollouts that are under way.

    roll: makes the rollout of a step with weights, whose updates are counted. every: steps that
    share a rollout. steps: of the run.
    """

    def __init__(
        self, roll: Callable[[int, int, Weights], Rolled], staleness: int, every: int, steps: int
    ) -> None:
        self._roll, self._staleness, self._every, self._steps = roll, staleness, every, steps
        self._pool = ThreadPoolExecutor(1, "rollouts")
        self._coming: deque[Future[Rolled]] = deque()  # of the steps from the next one taken

    def take(self, step: int, model: nn.Module) -> Rolled:
        """The rollout that begins with `step`; those that may know of no later update begin."""
        if not self._staleness and not self._coming:
            return self._roll(step, step, whole(model))
        first = step + self._every * len(self._coming)
        begun = range(first, min(step + self._staleness + 1, self._steps), self._every)
        if begun:
            copies = [(name, tensor.to("cpu", copy=True)) for name, tensor in whole(model)]
            for later in begun:
                self._coming.append(self._pool.submit(self._roll, later, step, copies))
        return self._coming.popleft().result()

    def state(self) -> list[dict[str, Any]]:
        """Those that are under way, once they are done."""
        return [asdict(rolled.result()) for rolled in self._coming]

    def restore(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Go on from what `state` gave."""
        self._coming.clear()
        for row in rows:
            done: Future[Rolled] = Future()
            done.set_result(Rolled.of(row))
            self._coming.append(done)

    def close(self) -> None:
        """Begin nothing more, and wait for what has begun."""
        self._pool.shutdown(cancel_futures=True)
