"""How far an engine reads: the length that a model was trained at, and what carries it beyond.

    reach = Reach.of(config, context=131_072)      # of a model that was trained at 32,768 tokens
    reach.rope(20_000), reach.rope(40_000)         # Rope(), and that of 65,536 tokens
    reach.told                                     # "131,072 tokens: 32,768 as trained, beyond ..."

Beyond the trained length distances are cut to trained ones (dual chunk attention), rotations slowed
down or logits sharpened (YaRN; spec 6). How much is decided for each request: by the smallest
factor that holds its prompt and its answer, of few factors, so that a conversation which grows
mostly finds its beginning in the cache. Within the trained length nothing changes.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from baiwen.engine import capacity
from baiwen.errors import UserError
from baiwen.model import rope
from baiwen.model.config import ModelConfig
from baiwen.model.positions import DualChunk
from baiwen.model.rope import Rope

Way = Literal["temperature", "yarn", "none"]
REPORTED = 4  # times the trained length (the report: 32,768 tokens serve 131,072)
LOCAL = 16  # the part of the trained length whose distances stay true (ChunkLlama's default)
ANSWER = 16  # the part of the trained length that an answer has at least, if nobody says how long


@dataclass(frozen=True)
class Extend:
    """What is done beyond the trained length."""

    dca: bool = True  # distances are cut to trained ones, by dual chunk attention
    # yarn: slower rotations and a higher temperature; temperature: that alone; None: temperature
    # with dca, yarn without. Report: yarn with dca; of the 1M models temperature.
    rope: Way | None = None
    local: int | None = None  # tokens whose distances dca leaves true; None: 1/16 of the trained
    factors: tuple[float, ...] = ()  # times the trained length; (): 1, 2, 3, ... (report: 4)

    def __post_init__(self) -> None:
        if self.rope not in (None, *get_args(Way)):
            raise UserError(f"rope = {self.rope!r} is none of {', '.join(get_args(Way))}")
        for factor in self.factors:
            if not 1 <= factor < math.inf:
                told = "is below 1: it would make the model read less than it was trained at"
                told = told if factor < 1 else "is none: give a number from 1 up, as in 4"
                raise UserError(f"a factor of {factor:g} {told}")
        if self.local is not None and self.local < 1:
            raise UserError(f"local = {self.local} must be at least 1 token")

    @property
    def way(self) -> Way:
        """What becomes of the rotations."""
        return self.rope or ("temperature" if self.dca else "yarn")


@dataclass(frozen=True)
class Reach:
    """A model's configuration as an engine reads with it, and the `Rope` for each length."""

    config: ModelConfig  # with dual chunk attention, where that extends it
    trained: int  # tokens
    context: int  # tokens of a prompt and its answer, at most
    lengths: tuple[int, ...]  # tokens, rising: requests up to the same one are read alike
    way: Way | None  # None: the rotations that config.json asks for, whatever the length

    @classmethod
    def of(
        cls, config: ModelConfig, context: int | None = None, extend: Extend | None = None
    ) -> "Reach":
        """The reach of a model. context None: what config.json says; with `extend` 4 times that.

        A static YaRN of config.json holds as far as it goes, unless there is an `extend`. Raises
        UserError where the factors end before the context.
        """
        if context is not None and context < 2:
            raise UserError(f"a context of {context} tokens has no room for a prompt and an answer")
        trained, own = capacity.trained(config), capacity.longest(config)
        if extend is not None or (context or own) > own:
            extend = extend or Extend()
            context = context or max(own, REPORTED * trained)
            config = _extended(config, trained, extend)
            lengths = _lengths(trained, context, extend)
            return cls(config, trained, context, lengths, extend.way)
        context = context or own
        if config.dual_chunk_attention_config is None:
            return cls(config, trained, context, (context,), None)
        lengths = _lengths(trained, context, Extend())
        return cls(config, trained, context, lengths, "temperature")

    def length(self, tokens: int) -> int:
        """The most tokens that a request of so many may have without being read differently."""
        return next(length for length in self.lengths if length >= tokens)

    def rope(self, tokens: int) -> Rope:
        """How a request of so many tokens, its answer included, turns positions into angles."""
        if self.way is None or self.way == "none":
            return rope.of(self.config)
        length = self.length(tokens)
        if self.way == "yarn":
            return rope.stretched(self.config, max(length / self.trained, 1.0))
        if self.config.dual_chunk_attention_config is not None:
            return rope.of(self.config, length)
        return Rope(temperature=rope.temperature(length / self.trained))

    @property
    def ropes(self) -> tuple[Rope, ...]:
        """All that requests may have, each once."""
        return tuple(dict.fromkeys(map(self.rope, self.lengths)))

    def answer(self, prompt: int) -> int:
        """Tokens of an answer that may have any number: those that need no larger factor.

        If they are few, under a sixteenth of the trained length, those of the next factor. There
        must be room for one.
        """
        least = min(prompt + self.trained // ANSWER, self.context)
        return min(self.length(least), self.context) - prompt

    @property
    def told(self) -> str:
        """How far, and by what, in a line."""
        config, last = self.config, self.length(self.context)
        if self.way is None and config.rope_scaling:
            yarn = f"a static YaRN of factor {config.rope_scaling.factor:g}"
            return f"{self.context:,} tokens by {yarn}, {self.trained:,} as trained"
        if last <= self.trained:
            return f"{self.context:,} tokens, as trained"
        told = f"{self.context:,} tokens: {self.trained:,} as trained, beyond"
        ways = ["dual chunk attention"] if config.dual_chunk_attention_config else []
        ways += {"yarn": ["YaRN"], "temperature": ["YaRN's temperature"]}.get(self.way or "", [])
        if not ways:
            return f"{told} without an extension"
        told = f"{told} by {' and '.join(ways)}"
        if self.way == "none":
            return told
        factors = [f"{length / self.trained:.3g}" for length in self.lengths if length <= last]
        return f"{told}, by {'factors' if factors[1:] else 'a factor'} of {', '.join(factors)}"


def _lengths(trained: int, context: int, extend: Extend) -> tuple[int, ...]:
    """What a request's length is rounded up to; UserError where that ends before the context.

    The factors that were asked for hold as they stand; else the last one is the context's own.
    """
    if extend.way == "none":
        return (context,)
    factors = sorted(extend.factors) or range(1, math.ceil(context / trained) + 1)
    lengths = [math.floor(factor * trained) for factor in factors]
    if lengths[-1] < context:
        raise UserError(
            f"a context of {context:,} tokens is {context / trained:.3g} times the {trained:,} "
            f"that the model was trained at; the factors end at {factors[-1]:g}"
        )
    last = next(length for length in lengths if length >= context) if extend.factors else context
    return (*(length for length in lengths if length < context), last)


def _extended(config: ModelConfig, trained: int, extend: Extend) -> ModelConfig:
    """The configuration with dual chunk attention, or without; a static YaRN is off."""
    yarn, chunks = config.rope_scaling, config.dual_chunk_attention_config
    if yarn is not None:
        yarn = replace(yarn, factor=1.0, attention_factor=None)
    if not extend.dca:
        chunks = None
    else:
        chunks = chunks or DualChunk(trained, max(trained // LOCAL, 1), trained)
        chunks = replace(chunks, local_size=extend.local or chunks.local_size)
    return replace(config, rope_scaling=yarn, dual_chunk_attention_config=chunks)
