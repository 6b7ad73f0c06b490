"""How far and how a model is read while it is measured, as a recipe says it.

    [models.sparse]
    folder = "runs/mine/sft"
    context = 131_072
    extend = { rope = "yarn" }            # the report's: dual chunk attention and YaRN
    sparse = { threshold = 8192 }

    Engine(model, tokenizer, **reading.knobs(model.config))

So the same checkpoint is measured plain, with YaRN, with dual chunk attention, sparsely read.
"""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from baiwen.config import Count, Input, Knobs
from baiwen.engine.capacity import KV
from baiwen.engine.reach import Extend, Reach, Way
from baiwen.model import patterns
from baiwen.model.config import ModelConfig
from baiwen.model.sparse import Sparse

Share = Annotated[float, Field(gt=0, le=1)]


class Extension(Knobs):
    """What is done beyond the trained length (baiwen/engine/reach.py)."""

    dca: bool = True  # distances are cut to trained ones by dual chunk attention; report: true
    # Of YaRN its temperature, all of it or nothing; none: temperature with dca, yarn without;
    # report: yarn, of the 1M models temperature
    rope: Way | None = None
    local: Count | None = None  # tokens of distance that dca keeps; none: a 16th of the trained
    factors: tuple[float, ...] = ()  # that a prompt may be stretched by; none: 1, 2, 3 ...


class Sparsity(Knobs):
    """How the keys of long prompts are chosen (baiwen/model/sparse.py)."""

    threshold: Count = 32_768  # tokens from which on a prompt is read sparsely; report: 32,768
    chunk: Count = 4096  # tokens of a prompt that are read and chosen for together; report: 32,768
    patterns: Input | None = None  # sizes per head, by the stage `patterns`; none: by vote
    mass: Share = 0.98  # of the attention that is to be held, by vote
    budget: Share | None = None  # the most keys, as a share of those before; none: no limit
    floor: Share = 0.8  # a key head of which less is held is read in full

    def built(self, config: ModelConfig) -> Sparse:
        """The same for the engine, of a model of this `config`."""
        found = None if self.patterns is None else patterns.read(self.patterns, config)
        return Sparse(
            threshold=self.threshold,
            chunk=self.chunk,
            patterns=found,
            mass=self.mass,
            budget=self.budget,
            floor=self.floor,
        )


class Reading(Knobs):
    """How far and how a model is read."""

    context: Count | None = None  # tokens of prompt and answer; none: what config.json says
    extend: Extension | None = None  # none: config.json, and dca beyond what it says
    sparse: Sparsity | None = None  # none: all keys are seen
    kv: KV | None = None  # fp32, bf16, int8: how keys and values are kept; none: as the weights

    @model_validator(mode="after")
    def _sound(self) -> Self:
        _ = self.extension  # which complains of what cannot be
        return self

    @property
    def extension(self) -> Extend | None:
        """`extend` for the engine."""
        own = self.extend
        return None if own is None else Extend(own.dca, own.rope, own.local, own.factors)

    def knobs(self, config: ModelConfig) -> dict[str, Any]:
        """Those of `Engine`."""
        return {
            "context": self.context,
            "extend": self.extension,
            "sparse": self.sparse and self.sparse.built(config),
            "kv": self.kv,
        }

    def reach(self, config: ModelConfig) -> Reach:
        """How far a model of this `config` is read."""
        return Reach.of(config, self.context, self.extension)
