"""The section of scaling laws: the sweep's cells with their valleys, the laws, the proof.

    for block in scaling([Run("sweep", Path("runs/scaling/sweep"))]): ...

From what the stage `scaling` writes: runs.csv, laws.json, parity.json, proof.json.
"""

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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
            yield from _parity(run)
            yield from _proof(run)


def _cells(run: Run, rows: Sequence[Row], finished: Sequence[Row]) -> Iterator[Block]:
    laws = run.table("laws.json").get("hyper", {})
    cells = _by_cell(finished)
    drawn = [
        Valley(
            f"{_size(own[0])}, D {short(own[0]['D'])}",
            [row["lr"] for row in own],
            [row["batch"] for row in own],
            [row["smooth loss"] for row in own],
            (_value(laws["lr"], own[0]), _value(laws["batch"], own[0])) if laws else None,
        )
        for own in cells
    ]
    alt = f"Loss over learning rate and batch in {len(drawn)} cells of {run.name}"
    yield Figure(f"valleys-{run.name}.svg", valleys.valleys(drawn), alt, run.source("runs.csv"))
    yield Text(
        "A dot is a run, the large one its cell's best, whose smoothed loss stands in the title; "
        "lines are 0.25 %, 0.5 % and 1 % above it; the cross is what the laws say."
    )
    head = [f"cell of {run.name}", "N", "D", "runs", "no loss", "stopped", "best", "lr"]
    table = [
        [own[0]["size"], _counted(own[0]), count(own[0]["D"]), count(len(own))]
        + [count(_states(rows, own[0], state)) for state in ("diverged", "stopped")]
        + [f"{(best := _best(own))['smooth loss']:.4f}", f"{best['lr']:.3g}"]
        + [count(best["batch"]), count(sum(_near(own, row) for row in own))]
        for own in cells
    ]
    yield Table([*head, "tokens a step", "within 0.25 %"], table, run.source("runs.csv"))


def _laws(run: Run, rows: Sequence[Row]) -> Iterator[Block]:
    told = run.table("laws.json")
    if not told:
        return
    near = [row for own in _by_cell(rows) for row in own if _near(own, row)]
    best = [_best(own) for own in _by_cell(rows)]
    lr, batch = told["hyper"]["lr"], told["hyper"]["batch"]
    loss = told.get("moe") or told.get("loss")
    panels = [
        _panel("rate over N", ("active N", "lr"), "peak learning rate", near, _tokens, lr),
        _panel("batch over D", ("D", "batch"), "tokens a step", near, _size, batch),
        _panel("loss over D", ("D", "smooth loss"), "smoothed loss", best, _size, loss),
    ]
    source = run.source("runs.csv", "laws.json")
    alt = f"Learning rate, batch and loss of {run.name} by N and D, and the fitted laws"
    yield Figure(f"laws-{run.name}.svg", valleys.laws(panels), alt, source)
    yield Table([f"laws of {run.name}"], [[line] for line in told["told"]], source)


def _parity(run: Run) -> Iterator[Block]:
    """The dense model that each mixture of experts equals."""
    told = run.table("parity.json")
    if not told:
        return
    rows = [
        [
            *(name, f"{one['sparsity']:.3g}", count(one["active N"]), count(one["N"])),
            *(count(one["dense N"]), f"{count(one['low'])} to {count(one['high'])}"),
            f"{one['dense N'] / one['active N']:.2f}x",
        ]
        for name, one in told.items()
    ]
    head = ["mixture of experts", "sparsity", "N", "with every expert", "dense N of equal loss"]
    yield Table([*head, "95 %", "of its N"], rows, run.source("runs.csv", "parity.json"))


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


def _by_cell(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows by what a token meets, all parameters and D, small ones first."""
    cells: dict[tuple[float, ...], list[Row]] = {}
    for row in sorted(rows, key=_cell):
        cells.setdefault(_cell(row), []).append(row)
    return list(cells.values())


def _cell(row: Row) -> tuple[float, ...]:
    return row["active N"], row["N"], row["D"]


def _size(row: Row) -> str:
    """As `N 15.2k`; of a mixture of experts as `N 15.2k of 40.1k`."""
    whole = f" of {short(row['N'])}" if row["N"] > row["active N"] else ""
    return f"N {short(row['active N'])}{whole}"


def _counted(row: Row) -> str:
    whole = f" of {count(row['N'])}" if row["N"] > row["active N"] else ""
    return f"{count(row['active N'])}{whole}"


def _tokens(row: Row) -> str:
    """As `D 240k`; of mixtures of experts with their sparsity."""
    sparse = f", sparsity {row['sparsity']:.3g}" if row["sparsity"] else ""
    return f"D {short(row['D'])}{sparse}"


def _states(rows: Sequence[Row], like: Row, state: str) -> int:
    return sum(_cell(row) == _cell(like) and row["state"] == state for row in rows)


def _best(own: Sequence[Row]) -> Row:
    return min(own, key=lambda row: float(row["smooth loss"]))


def _near(own: Sequence[Row], row: Row) -> bool:
    return float(row["smooth loss"]) <= (1 + NEAR) * float(_best(own)["smooth loss"])


def _panel(
    title: str,
    columns: tuple[str, str],
    up: str,
    rows: Sequence[Row],
    label: Callable[[Row], str],
    law: Mapping[str, Any] | None,
) -> Panel:
    """One column over the other, rows of one label in one colour; and the law at each of them."""
    across, column = columns
    dots, lines = dict[str, Points](), dict[str, Points]()
    for name in dict.fromkeys(label(row) for row in sorted(rows, key=_cell)):
        own = [row for row in rows if label(row) == name]
        own.sort(key=lambda row: (row[across], row[column]))
        dots[name] = [row[across] for row in own], [row[column] for row in own]
        if law is not None:
            fitted = {row[across]: _value(law, row) for row in own}
            lines[name] = list(fitted), list(fitted.values())
    return Panel(title, across.split()[-1], up, dots, lines)


def _value(law: Mapping[str, Any], row: Row) -> float:
    """What a law of laws.json says of a row: of learning rate or batch, or of the loss."""
    n, d, ratio = row["active N"], row["D"], row["N"] / row["active N"]
    if "variables" in law:
        given = {"parameters": n, "tokens": d, "ratio": ratio}
        first, *exponents = law["weights"]
        powers = zip(exponents, law["variables"], strict=True)
        return math.exp(first + sum(power * math.log(given[name]) for power, name in powers))
    e, a, b, alpha, beta, *mixed = law["weights"]
    sparse = sum(power * math.log(ratio) for power in mixed)
    return math.exp(e) + math.exp(a - sparse) / n**alpha + math.exp(b) / d**beta


def _told(value: float | None, error: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" + ("" if error is None else f" +- {error:.4f}")
