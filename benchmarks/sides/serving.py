"""What the engines of a comparison are asked: shapes, works and requests. Standard library alone.

for work in works(settings):
    requests(work, vocabulary=4096)      # [Request(prompt=[17, 2, ...], tokens=24, arrival=0)]
"""

import itertools
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.turns import Figures, Turn, settled_memory

# The names are those of config.json.
SHAPES: dict[str, dict[str, Any]] = {
    "0.5b": {
        "vocab_size": 151936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
    },
    "tiny": {
        "vocab_size": 4224,
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 5,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
    },
}
THETA, EPS = 1_000_000.0, 1e-6
KNOWN = 4096  # ids that prompts are made of


@dataclass(frozen=True)
class Request:
    """One prompt, how many tokens it wants, and when it comes, in seconds from the beginning."""

    prompt: list[int]
    tokens: int
    arrival: float = 0.0


def shape(settings: Figures) -> dict[str, Any]:
    """The model's shape; `layers` cuts it."""
    found = SHAPES[settings["shape"]]
    return found | {"num_hidden_layers": settings.get("layers") or found["num_hidden_layers"]}


def requests(work: str, settings: Figures) -> list[Request]:
    """The requests of a work: `batch 8`, `prefill 2048`, `arrivals 32`, `samples 8`."""
    kind, number = work.split()
    chance, count = random.Random(work), int(number)
    if kind == "batch":
        return [Request(_ids(chance, 64), settings["tokens"]) for _ in range(count)]
    if kind == "prefill":
        return [Request(_ids(chance, count), 1)]
    if kind == "samples":
        return [Request(_ids(chance, settings["prompt"]), 1)]
    assert kind == "arrivals", work
    due, made = 0.0, []
    for _ in range(count):
        lengths = chance.randint(16, 256), chance.randint(4, 2 * settings["tokens"])
        made.append(Request(_ids(chance, lengths[0]), lengths[1], due))
        due += chance.expovariate(settings["rate"])
    return made


def take_turns(settings: Figures, run: Callable[[str], Figures]) -> None:
    """One work a turn, round after round."""
    turn, held = Turn(), settled_memory()
    for work in itertools.cycle(settings["works"]):
        turn.wait()
        turn.figures = {"held": held} | run(work)  # bytes after loading


class Clock:
    """Counts the tokens of a work: those after every request has its first, or all."""

    def __init__(self, work: str, asked: list[Request]) -> None:
        self.kind, self.asked = work.split()[0], asked
        self.began = self.settled = self.now = time.perf_counter()
        self.tokens = self.before = 0

    def tick(self, tokens: int, begun: int) -> None:
        """So many further tokens have come; so many requests have begun to answer by now."""
        self.now = time.perf_counter()
        self.tokens += tokens
        if self.before == 0 and begun == len(self.asked):
            self.settled, self.before = self.now, self.tokens

    def figures(self) -> Figures:
        """Tokens and the seconds that they took, prompts for `prefill`."""
        if self.kind == "prefill":
            prompts = sum(len(request.prompt) for request in self.asked)
            return {"tokens": prompts, "seconds": self.settled - self.began}
        if self.kind == "batch":
            return {"tokens": self.tokens - self.before, "seconds": self.now - self.settled}
        return {"tokens": self.tokens, "seconds": self.now - self.began}


def _ids(chance: random.Random, length: int) -> list[int]:
    return list(itertools.islice(_stream(chance), length))


def _stream(chance: random.Random) -> Iterator[int]:
    while True:
        yield chance.randrange(KNOWN)
