"""What every route stands on: the engine's front or the scorer, tokenizer, limits, numbers.

service = app.state.service
service.name, service.context      # "sft", 32768
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from baiwen.engine.front import Front
from baiwen.engine.scorer import Scorer
from baiwen.serve.limits import Limits
from baiwen.serve.logprobs import Spelling
from baiwen.serve.metrics import Metrics
from baiwen.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Served:
    """One model, served."""

    tokenizer: Tokenizer
    name: str
    context: int  # tokens of a prompt and its answer
    metrics: Metrics
    limits: Limits
    created: int = field(default_factory=lambda: int(time.time()))
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)  # of large bodies: one at a time

    @cached_property
    def spelling(self) -> Spelling:
        """How the model's tokens are written."""
        return Spelling(self.tokenizer)


@dataclass(frozen=True, kw_only=True)
class Service(Served):
    """A language model."""

    front: Front
    defaults: Mapping[str, Any] = field(default_factory=dict)  # the folder's generation_config

    @property
    def work(self) -> Front:
        """What starts and stops with the server, and may fail."""
        return self.front


@dataclass(frozen=True, kw_only=True)
class Scoring(Served):
    """A reward model."""

    scorer: Scorer

    @property
    def work(self) -> Scorer:
        """What starts and stops with the server, and may fail."""
        return self.scorer
