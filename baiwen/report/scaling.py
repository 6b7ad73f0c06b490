"""The section of scaling laws: the sweep's cells with their valleys, the laws, the proof.

    for block in scaling([Run("sweep", Path("runs/scaling/sweep"))]): ...

From what the stage `scaling` writes: runs.csv, laws.json, proof.json.
"""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from baiwen import files
from baiwen.report import valleys
from baiwen.report.page import Block, Figure, Table, Text
from baiwen.report.runs import Run
from baiwen.report.valleys import Panel, Points, Valley
from baiwen.report.words import count, short

Row = dict[str, Any]  # of the table: numbers, and words under `state`, `size` and `name`
NEAR = 0.0025  # a run is near its cell's best, as for the laws


def scaling(runs: Sequence[Run]) -> Iterator[Block]:
    """Every sweep: valleys, laws and what they are worth."""
    for run in runs:
        rows = _rows(run)
        finished = [row for row in rows if row["state"] == "finished"]
        if finished:
            yield from _cells(run, rows, finished)
            yield from _laws(run, finished)
            yield from _proof(run)


def _cells(run: Run, rows: Sequence[Row], finished: Sequence[Row]) -> Iterator[Block]:
    laws = run.table("laws.json").get("hyper", {})
    cells = _by_cell(finished)
    drawn = [
        Valley(
            f"N {short(n)}, D {short(d)}",
            [row["lr"] for row in own],
            [row["batch"] for row in own],
            [row["smooth loss"] for row in own],
            (_power(laws["lr"], n, d), _power(laws["batch"], n, d)) if laws else None,
        )
        for (n, d), own in cells.items()
    ]
    alt = f"Loss over learning rate and batch in {len(drawn)} cells of {run.name}"
    yield Figure(f"valleys-{run.name}.svg", valleys.valleys(drawn), alt, run.source("runs.csv"))
    yield Text(
        "A dot is a run, the large one its cell's best, whose smoothed loss stands in the title; "
        "lines are 0.25 %, 0.5 % and 1 % above it; the cross is what the laws say."
    )
    head = [f"cell of {run.name}", "N", "D", "runs", "no loss", "stopped", "best", "lr"]
    table = [
        [own[0]["size"], count(n), count(d), count(len(own))]
        + [count(_states(rows, n, d, state)) for state in ("diverged", "stopped")]
        + [f"{(best := _best(own))['smooth loss']:.4f}", f"{best['lr']:.3g}"]
        + [count(best["batch"]), count(sum(_near(own, row) for row in own))]
        for (n, d), own in cells.items()
    ]
    yield Table([*head, "tokens a step", "within 0.25 %"], table, run.source("runs.csv"))


def _laws(run: Run, rows: Sequence[Row]) -> Iterator[Block]:
    told = run.table("laws.json")
    if not told:
        return
    near = [row for own in _by_cell(rows).values() for row in own if _near(own, row)]
    best = [_best(own) for own in _by_cell(rows).values()]
    lr, batch = told["hyper"]["lr"], told["hyper"]["batch"]
    panels = [
        _panel("rate over N", "N", "peak learning rate", near, "lr", "D", lr),
        _panel("batch over D", "D", "tokens a step", near, "batch", "N", batch),
        _panel("loss over D", "D", "smoothed loss", best, "smooth loss", "N", told.get("loss")),
    ]
    source = run.source("runs.csv", "laws.json")
    alt = f"Learning rate, batch and loss of {run.name} by N and D, and the fitted laws"
    yield Figure(f"laws-{run.name}.svg", valleys.laws(panels), alt, source)
    yield Table([f"laws of {run.name}"], [[line] for line in told["told"]], source)


def _proof(run: Run) -> Iterator[Block]:
    told = run.table("proof.json")
    if not told:
        return
    settings = told["settings"]
    losses = {name: [loss for loss in one["losses"] if loss is not None]
              for name, one in settings.items()}  # fmt: skip
    known = {name: own for name, own in losses.items() if own}
    what = f"a run of N {short(told['N'])}, D {short(told['D'])}"
    alt = f"Held-out loss of {what}, as the law sets it and as others do"
    if known:
        svg = valleys.bars(known, "held-out loss, nats a token")
        yield Figure(f"proof-{run.name}.svg", svg, alt, run.source("proof.json"))
    rows = [
        [
            *(name, f"{one['lr']:.3g}", count(one["tokens_per_step"]), str(len(one["losses"]))),
            _told(one["heldout loss"], one["spread"]),
            "" if name == "law" else _told(one["lead"], one["standard_error"]),
        ]
        for name, one in settings.items()
    ]
    head = ["setting", "lr", "tokens a step", "seeds", "held-out loss", "the law's lead"]
    yield Table(head, rows, run.source("proof.json"))
    yield Text(f"Of {what}, {told['times']:.3g} times the FLOPs of the sweep's largest run. The "
               "lead is seed by seed, with its standard error.")  # fmt: skip


def _rows(run: Run) -> list[Row]:
    """The table's rows with numbers in the place of text; empty fields are None."""
    path = run.folder / "runs.csv"
    if not path.is_file() or run.stage != "scaling":
        return []
    found = []
    for row in csv.DictReader(io.StringIO(files.read_text(path))):
        words = {name: row.pop(name) for name in ("state", "size", "name")}
        numbers = {name: float(value) if value else None for name, value in row.items()}
        found.append({**words, **numbers, "batch": float(row["bs"]) * float(row["sequence"])})
    return found


def _by_cell(rows: Sequence[Row]) -> dict[tuple[float, float], list[Row]]:
    """Rows by active N and D, small ones first."""
    cells: dict[tuple[float, float], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["active N"], row["D"])):
        cells.setdefault((row["active N"], row["D"]), []).append(row)
    return cells


def _states(rows: Sequence[Row], n: float, d: float, state: str) -> int:
    return sum((row["active N"], row["D"], row["state"]) == (n, d, state) for row in rows)


def _best(own: Sequence[Row]) -> Row:
    return min(own, key=lambda row: float(row["smooth loss"]))


def _near(own: Sequence[Row], row: Row) -> bool:
    return float(row["smooth loss"]) <= (1 + NEAR) * float(_best(own)["smooth loss"])


def _panel(
    title: str,
    across: str,
    up: str,
    rows: Sequence[Row],
    column: str,
    other: str,
    law: Mapping[str, Any] | None,
) -> Panel:
    """Rows by the variable `other`, a colour each, over the one named `across`; and the law's."""
    names = {"N": "active N", "D": "D"}
    dots: dict[str, Points] = {}
    lines: dict[str, Points] = {}
    for value in sorted({row[names[other]] for row in rows}):
        own = sorted(
            (row[names[across]], row[column]) for row in rows if row[names[other]] == value
        )
        name = f"{other} {short(value)}"
        xs = sorted({x for x, _ in own})
        dots[name] = [x for x, _ in own], [y for _, y in own]
        if law is not None:
            lines[name] = (
                xs,
                [_value(law, *((value, x) if other == "N" else (x, value))) for x in xs],
            )
    return Panel(title, across, up, dots, lines)


def _value(law: Mapping[str, Any], n: float, d: float) -> float:
    """A law of laws.json at N and D: of learning rate or batch, or of the loss."""
    if "variables" in law:
        return _power(law, n, d)
    e, a, b, alpha, beta = law["weights"]
    return math.exp(e) + math.exp(a) / n**alpha + math.exp(b) / d**beta


def _power(law: Mapping[str, Any], n: float, d: float) -> float:
    given = {"parameters": n, "tokens": d}
    first, *exponents = law["weights"]
    logs = (power * math.log(given[name])
            for power, name in zip(exponents, law["variables"], strict=True))  # fmt: skip
    return math.exp(first + sum(logs))


def _told(value: float | None, error: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" + ("" if error is None else f" +- {error:.4f}")
