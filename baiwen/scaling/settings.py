"""Learning rate and batch of a run by a law: what `lr = "law"` and `tokens_per_step = "law"` mean.

    found = setting("steplaw", Target(parameters=357.9e6, tokens=10e9))
    found = setting(Path("runs/mine/scaling/laws.json"), target)
    numbers(config, found, shares=2)    # of a training stage: Numbers(lr, tokens_per_step, ...)

A published law is one by name that tells both and needs no expected loss: Step Law and DeepSeek's.
What lies beyond a law's runs is a guess; it is in what `told` says, and nothing is held back.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field, TypeAdapter

from baiwen import files, log
from baiwen.config import Input
from baiwen.dist import World
from baiwen.scaling import laws
from baiwen.scaling.interval import Predicted, beyond
from baiwen.scaling.presets import PRESETS, Target
from baiwen.train.optim import AskedOptim

KEPT = "law.json"  # in a run folder: what a law said when the run began, and its numbers

# A published law by its name, or a laws.json of stage scaling.
Law = Annotated[Literal["steplaw", "deepseek"] | Input, Field(union_mode="left_to_right")]


@dataclass(frozen=True)
class Setting:
    """What a law says of one run."""

    law: str  # its source
    parameters: float  # N, without embeddings; of a mixture of experts the active ones
    tokens: float  # D
    lr: Predicted  # peak
    batch: Predicted  # tokens of a step


@dataclass(frozen=True)
class Numbers:
    """Learning rate and batch of a run, and what a law said, where one was asked."""

    lr: float
    tokens_per_step: int
    setting: Setting | None = None

    @property
    def told(self) -> dict[str, str | int]:
        """For the eye; empty where no law was asked."""
        if self.setting is None:
            return {}
        one = self.setting
        run = f"N {one.parameters:.4g} without embeddings, D {one.tokens:.4g} tokens"
        return {
            "law": f"{one.law}; {run}",
            "peak lr by law": f"{one.lr}",
            "tokens a step by law": f"{one.batch:,.0f}",
            "optim.lr": f"{self.lr:.6g}",
            "tokens_per_step": self.tokens_per_step,
        }


class Asking(Protocol):
    """The knobs of a training stage that may ask a law."""

    tokens_per_step: int | Literal["law"]
    micro_tokens: int
    start: Path | None
    steps: int | None

    @property
    def law(self) -> str | Path | None:
        """By its name or its file."""

    @property
    def optim(self) -> AskedOptim:
        """Whose lr may be the word."""


def asks(config: Asking) -> bool:
    """Whether a law is asked for a number."""
    return "law" in (config.optim.lr, config.tokens_per_step)


def misasked(config: Asking) -> str | None:
    """Why a law cannot answer, or is not asked; None where all is well."""
    if not asks(config):
        unasked = 'is asked for nothing: set optim.lr or tokens_per_step to "law", or leave it out'
        return None if config.law is None else f"law {unasked}"
    if config.law is None:
        return (
            '"law" needs `law`: the laws.json of a scaling stage, or a published one by name, '
            '"steplaw" or "deepseek"'
        )
    if isinstance(config.law, Path) and config.law.suffix != ".json":
        return (
            f'law = "{config.law}" is neither a laws.json nor a published law of learning rate and '
            f'batch, "steplaw" or "deepseek"'
        )
    if config.start is not None:
        return (
            "laws are of models trained from fresh weights: with start, give optim.lr and "
            "tokens_per_step as numbers"
        )
    if config.steps is not None and config.tokens_per_step == "law":
        return 'tokens_per_step = "law" needs tokens or epochs: steps of unknown size tell no D'
    return None


def setting(law: str | Path, target: Target) -> Setting:
    """Learning rate and batch of `target`; UserError where a file holds no laws."""
    size = target.parameters, target.tokens
    if isinstance(law, Path):
        found = laws.read(law)
        source = f"{law}: {found.runs} runs in {found.cells} cells"
        best = found.hyper
        lr, batch = (law.predict(*size, target.ratio) for law in (best.lr, best.batch))
        return Setting(source, *size, lr, batch)
    preset = PRESETS[law]
    assert preset.lr is not None and preset.batch is not None, "Law names only laws of both"
    far = beyond(preset.ranges, {name: getattr(target, name) for name in preset.ranges})
    values = preset.lr(target), preset.batch(target)
    lr, batch = (Predicted(value, None, None, far) for value in values)
    return Setting(preset.source, *size, lr, batch)


def numbers(config: Asking, found: Setting | None, shares: int = 1) -> Numbers | None:
    """Those of `config`, a law's in place of the word; None where it asks and nothing was found.

    tokens_per_step becomes the nearest multiple of micro_tokens on each of `shares` ranks.
    """
    lr, step = config.optim.lr, config.tokens_per_step
    if found is not None:
        unit = shares * config.micro_tokens
        lr = found.lr.value if lr == "law" else lr
        step = max(1, round(found.batch.value / unit)) * unit if step == "law" else step
    return None if isinstance(lr, str) or isinstance(step, str) else Numbers(lr, step, found)


def begin(config: Asking, found: Setting | None, folder: files.RunFolder, world: World) -> Numbers:
    """Those of a run, kept in its law.json; a resume goes on with what the run began with."""
    path = folder.path / KEPT
    if folder.resumable and asks(config):
        return _FILE.validate_json(json.dumps(files.read_json(path)))
    settled = numbers(config, found, world.shares)
    assert settled is not None, "a stage starts when its inputs are there"
    if asks(config) and world.main:
        files.write_json(path, _FILE.dump_python(settled, mode="json"))
        for name, told in settled.told.items():
            log.say(f"{name}: {told}")
    return settled


_FILE = TypeAdapter(Numbers)
