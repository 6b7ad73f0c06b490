"""The sections of how it was made: training, stages, recipes.

    for block in training([read("sft", Path("runs/tiny/sft"))]): ...

Each yields nothing where no run folder has what it shows.
"""

import json
from collections.abc import Iterator, Sequence
from statistics import median

from baiwen.report import figures
from baiwen.report.page import Block, Code, Figure, Table, Text
from baiwen.report.runs import Run
from baiwen.report.words import count, duration, percent, short, size


def training(runs: Sequence[Run]) -> Iterator[Block]:
    """Loss and learning rate of every stage that trained, and how fast it went."""
    trained = [run for run in runs if run.metrics]
    for run in trained:
        curves = [_curve(run, "loss", f"{run.name}, training")]
        heldout = _curve(run, "heldout_loss", f"{run.name}, held out", dots=True)
        curves += [heldout] if heldout.x else []
        svg = figures.curves(curves, _curve(run, "lr", "lr"))
        alt = f"Loss of {run.name} over {count(run.metrics[-1]['step'])} steps, and learning rate"
        yield Figure(f"loss-{run.name}.svg", svg, alt, run.source("metrics.jsonl"))
    if trained:
        head = ["stage", "steps", "tokens", "loss", "held out", "tokens/s", "MFU", "memory"]
        source = ", ".join(run.source("metrics.jsonl") for run in trained)
        yield Table([*head, "skipped"], [_speed(run) for run in trained], source)
        yield Text(
            "Losses are the last step's. Tokens/s and MFU are the median step's; MFU is a share of "
            "what a large matmul reaches on this machine."
        )


def stages(runs: Sequence[Run]) -> Iterator[Block]:
    """When each stage ran, for how long, on what."""
    known = [run for run in runs if run.record]
    if not known:
        return
    rows = [
        [run.name, run.stage, duration(run.seconds)]
        + [str(run.record.get(key) or "") for key in ("started", "finished")]
        + [str(len(run.record.get("resumed") or []))]
        for run in known
    ]
    total = duration(sum(run.seconds for run in known))
    head = ["run", "stage", "wall time", "started", "finished", "resumed"]
    source = ", ".join(run.source("run.json") for run in known)
    yield Table(head, [*rows, ["all", "", total, "", "", ""]], source)
    record = known[-1].record
    machine = {**record.get("host", {}), **record.get("versions", {})}
    yield Table(
        ["machine and versions", ""],
        [[name, str(value)] for name, value in machine.items()],
        known[-1].source("run.json"),
    )


def recipes(runs: Sequence[Run]) -> Iterator[Block]:
    """The resolved recipe of every stage, folded."""
    for run in runs:
        if run.recipe:
            text = json.dumps(run.recipe, indent=2, ensure_ascii=False)
            yield Code(text, f"{run.name} ({run.source('recipe.json')})")


def _curve(run: Run, key: str, name: str, dots: bool = False) -> figures.Curve:
    """A column of the metrics over steps, without the rows that have no number for it."""
    return figures.Curve(name, *run.curve(key), dots)


def _speed(run: Run) -> list[str]:
    losses, heldout = _column(run, "loss"), _column(run, "heldout_loss")
    return [
        run.name,
        count(run.metrics[-1]["step"]),
        short(sum(_column(run, "tokens"))),
        f"{losses[-1]:.3f}" if losses else "",
        f"{heldout[-1]:.3f}" if heldout else "",
        short(median(_column(run, "tokens_per_second") or [0])),
        percent(median(_column(run, "mfu") or [0])),
        size(max(_column(run, "memory") or [0])),
        count(run.metrics[-1].get("skipped") or 0),
    ]


def _column(run: Run, key: str) -> Sequence[float]:
    return run.curve(key)[1]
