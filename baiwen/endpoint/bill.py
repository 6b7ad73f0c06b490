"""The bill: what replies have cost, in tokens and money.

    bill = Bill.of(endpoint)
    for answer in answers(ask, requests, cache, concurrency, bill=bill):
        ...
    files.write_json("generate.json", {"asked": bill.told()})
    log.say(bill.line())

It counts every reply that the work rests on, whether it was asked for or kept on the disk, so that
a run which was resumed comes to the same bill. The line says how many were kept.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from baiwen.endpoint.chat import Endpoint
from baiwen.endpoint.reply import Reply

MILLION = 1_000_000


@dataclass
class Bill:
    """What replies have cost so far."""

    price_in: float = 0.0  # of a million tokens of prompts
    price_out: float = 0.0  # of a million tokens of replies
    most: float | None = None  # at which nothing more is asked
    replies: int = 0
    cached: int = 0  # of them, for which nothing was asked this time
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        """An empty bill, by the prices of an endpoint."""
        return cls(endpoint.price_in, endpoint.price_out, endpoint.most_cost)

    def add(self, replies: Iterable[Reply]) -> None:
        """Count replies."""
        for reply in replies:
            self.replies += 1
            self.cached += reply.cached
            self.prompt_tokens += reply.prompt_tokens
            self.completion_tokens += reply.completion_tokens

    @property
    def cost(self) -> float:
        """Of all of them, in the currency of the prices."""
        whole = self.prompt_tokens * self.price_in + self.completion_tokens * self.price_out
        return whole / MILLION

    @property
    def spent(self) -> bool:
        """Whether nothing more is to be asked."""
        return self.most is not None and self.cost >= self.most

    def told(self) -> dict[str, Any]:
        """The bill for a JSON file, the same wherever the work was interrupted."""
        counts = {name: getattr(self, name) for name in ("prompt_tokens", "completion_tokens")}
        return {"replies": self.replies, **counts, "cost": round(self.cost, 6)}

    def line(self) -> str:
        """The bill in a line."""
        kept = f" ({self.cached:,} kept from before)" if self.cached else ""
        tokens = f"{self.prompt_tokens:,} tokens in, {self.completion_tokens:,} out"
        cost = f", cost {self.cost:,.2f}" if self.price_in or self.price_out else ""
        return f"{self.replies:,} replies{kept}: {tokens}{cost}"
