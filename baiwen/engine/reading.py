"""How requests are read: their ropes, their chunks, and the name that their blocks begin with.

    reader = Reader(reaches, sparse=Sparse(threshold=32_768), sharing=True)
    reader.of(prompt=40_000, tokens=41_000)         # Reading(ropes, root, chunk=4096)
    reader.told                                     # "131,072 tokens: 32,768 as trained, ..."

Requests share blocks if they are read alike: by the same ropes (`reach.py`), and all densely or
all sparsely.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from baiwen.engine.reach import Reach
from baiwen.errors import UserError
from baiwen.model.config import ModelConfig
from baiwen.model.rope import Rope
from baiwen.model.sparse import Sparse


@dataclass(frozen=True)
class Reading:
    """How a request is read, first token to last; those that share its blocks are read alike."""

    ropes: tuple[Rope, ...]  # by the model, and by its draft if there is one
    root: bytes | None  # the name that its content begins with; None: it is not shared
    chunk: int = 0  # tokens of a prompt that are read together, sparsely; 0: densely, any number


@dataclass(frozen=True)
class Sparsity:
    """What was seen of a prompt that was read sparsely."""

    tokens: int  # that were read so
    density: float  # keys that a token saw, as a share of those before it: the mean
    recall: float  # share of the last queries' attention that was held, by estimate: the mean,
    lowest_recall: float  # and the worst of a chunk, layer and head

    def after(self, other: "Sparsity | None") -> "Sparsity":
        """Both together."""
        if other is None:
            return self
        tokens = self.tokens + other.tokens

        def mean(one: float, two: float) -> float:
            return (one * self.tokens + two * other.tokens) / tokens

        return Sparsity(
            tokens,
            mean(self.density, other.density),
            mean(self.recall, other.recall),
            min(self.lowest_recall, other.lowest_recall),
        )


@dataclass(frozen=True)
class Reader:
    """How far and how an engine reads."""

    reaches: tuple[Reach, ...]  # of the model, and of its draft if there is one
    sparse: Sparse | None  # None: every prompt densely
    sharing: bool  # whether blocks have names

    def of(self, prompt: int, tokens: int) -> Reading:
        """The reading of a prompt of so many tokens, which has `tokens` with its answer."""
        ropes = tuple(reach.rope(tokens) for reach in self.reaches)
        sparse = self.sparse if self.sparse and prompt >= self.sparse.threshold else None
        chunk = sparse.chunk if sparse else 0
        if not self.sharing:
            return Reading(ropes, None, chunk)
        tag = self._tag + repr((ropes, chunk)).encode()
        return Reading(ropes, hashlib.sha256(tag).digest(), chunk)

    @cached_property
    def _tag(self) -> bytes:
        """What all requests have in common; patterns of thousands of heads are told once."""
        return repr(([reach.config for reach in self.reaches], self.sparse)).encode()

    def answer(self, prompt: int) -> int:
        """Tokens for the answer to a prompt, where nobody says how many (`Reach.answer`)."""
        return min(reach.answer(prompt) for reach in self.reaches)

    @property
    def told(self) -> str:
        """All of it in a line."""
        if self.sparse is None:
            return self.reaches[0].told
        by = "by vote" if self.sparse.patterns is None else "by patterns"
        return f"{self.reaches[0].told}; prompts from {self.sparse.threshold:,} on sparsely, {by}"


def check(sparse: Sparse, config: ModelConfig, block_size: int) -> None:
    """UserError for chunks that no block ends with, or another model's patterns."""
    if sparse.chunk % block_size:
        raise UserError(
            f"sparse prefill: chunk = {sparse.chunk} must be a multiple of {block_size}"
        )
    if sparse.patterns is None:
        return
    heads = [len(layer) for layer in sparse.patterns.layers]
    if heads != [config.num_attention_heads] * config.num_hidden_layers:
        raise UserError(
            f"sparse prefill: these patterns are another model's: {len(heads)} layers with "
            f"{max(heads, default=0)} heads; this one has {config.num_hidden_layers} with "
            f"{config.num_attention_heads}"
        )
