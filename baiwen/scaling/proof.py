"""The proof of a law: a run beyond its sweep, trained as the law wants it and as others do.

    runs = rivals(run, laws.read("laws.json").hyper, config.proof, micro_tokens=2048)
    compared(rows, [row(one, ...) for one in runs])["settings"]["default"]["lead"]

What is compared is the held-out loss, seed by seed: a seed means the same weights at the start and
the same order of rows under every setting.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import Annotated, Any

from pydantic import Field, field_validator

from baiwen import log
from baiwen.config import Knobs
from baiwen.scaling import sweep
from baiwen.scaling.hyper import HyperLaws
from baiwen.scaling.sweep import Count, Run
from baiwen.scaling.table import Rows
from baiwen.train.optim import Optim
from baiwen.train.schedule import Schedule

LAW = "law"  # the name of its own setting
Name = Annotated[str, Field(pattern=r"^\w+$")]  # part of a file's name


class Setting(Knobs):
    """Another's choice for the run of the proof."""

    tokens_per_step: Count  # over all ranks
    optim: Optim = Optim()
    schedule: Schedule = Schedule()


class Proof(Knobs):
    """A run beyond the sweep, trained as the law wants it and as others do."""

    size: str  # one of the sweep's
    tokens: Count  # to train on
    seeds: Count = 3  # runs of each setting
    against: Annotated[dict[Name, Setting], Field(min_length=1)]  # by the name in the table

    @field_validator("against")
    @classmethod
    def _free(cls, against: dict[str, Setting]) -> dict[str, Setting]:
        if LAW in against:
            raise ValueError(f"{LAW} is the name of the setting that the laws choose: take another")
        return against


def rivals(run: Run, laws: HyperLaws, wanted: Proof, micro_tokens: int) -> list[Run]:
    """The runs of the proof: of every seed one as the laws want it, and one of each other.

    run: of the target's size and tokens, with the optimizer and schedule of the sweep, whose seed
    is the first.
    """
    size = run.active, run.tokens, run.parameters / run.active
    lr, batch = (law.predict(*size) for law in (laws.lr, laws.batch))
    log.say(f"the law for N {run.active:,}, D {run.tokens:,}: lr {lr}, tokens a step {batch}")
    law = Setting(
        tokens_per_step=sweep.whole(batch.value, run.length, micro_tokens),
        optim=run.optim.model_copy(update={"lr": float(f"{lr.value:.3g}")}),
        schedule=run.schedule,
    )
    return [
        replace(run, setting=name, seed=seed, batch=one.tokens_per_step, optim=one.optim,
                schedule=one.schedule)
        for seed in range(run.seed, run.seed + wanted.seeds)
        for name, one in {LAW: law, **wanted.against}.items()
    ]  # fmt: skip


def compared(rows: Rows, proven: Rows) -> dict[str, Any]:
    """What the law's setting gains on the run of the proof, seed by seed.

        {"N", "D", "times": FLOPs over those of the sweep's largest run, "settings": {NAME: {"lr",
         "tokens_per_step", "heldout loss", "spread", "losses", "lead", "standard_error"}}}

    `heldout loss` is the mean over seeds, `spread` their standard deviation; `lead` is how much
    lower the law's loss is, with its standard error over seeds. Null where there are too few
    seeds, or where one diverged.
    """
    settings: dict[str, list[Mapping[str, Any]]] = {}
    for one in proven:
        settings.setdefault(one["setting"], []).append(one)
    losses = {name: [one["heldout loss"] for one in own] for name, own in settings.items()}
    return {
        "N": proven[0]["active N"],
        "D": proven[0]["D"],
        "times": proven[0]["FLOPs"] / max(one["FLOPs"] for one in rows),
        "settings": {
            name: {
                "lr": own[0]["lr"],
                "tokens_per_step": own[0]["bs"] * own[0]["sequence"],
                **_over_seeds(losses[name], losses[LAW]),
            }
            for name, own in settings.items()
        },
    }


def _over_seeds(own: Sequence[float | None], law: Sequence[float | None]) -> dict[str, Any]:
    known = [loss for loss in own if loss is not None]
    leads = [a - b for a, b in zip(own, law, strict=True) if a is not None and b is not None]
    whole = len(leads) == len(own)
    return {
        "losses": own,
        "heldout loss": fmean(known) if whole else None,
        "spread": stdev(known) if whole and known[1:] else None,
        "lead": fmean(leads) if whole else None,
        "standard_error": stdev(leads) / math.sqrt(len(leads)) if whole and leads[1:] else None,
    }
