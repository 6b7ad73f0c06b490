"""The section of data: what came in, what every step made of it, what the shards hold.

    for block in data([Run("data", Path("runs/tiny/data"))]): ...

From the cards of the stages `data`, `generate` and `recall`, `data.json` (`data/pipeline/card.py`),
and what else tells of documents: exercises, shards, kinds of tasks. What they look like is told by
`report/examples.py`, how scores came about by `report/judged.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from baiwen.report import figures
from baiwen.report.page import Block, Figure, Table
from baiwen.report.runs import Run
from baiwen.report.words import count, percent, size

CARD = "data.json"
NAMED = 10  # rows of a table of sources, licences or languages, the largest; the rest are one
DRAWN = 20  # groups of a mixture that are drawn, the largest; its table has all
SIDES, AMOUNT = ("before", "after"), ("documents", "bytes", "tokens", "share")  # of a mixture
KINDS = {
    "sources": "source",
    "licenses": "licence",
    "languages": "language",
    "domains": "domain, kept or not",
}


def data(runs: Sequence[Run]) -> Iterator[Block]:
    """What became of the documents, what the shards hold, what tasks were drawn."""
    for run in runs:
        yield from _funnel(run)
        yield from _outcomes(run)
        yield from _histograms(run)
        yield from _mixture(run)
        yield from _named(run)
        yield from _exercises(run)
        yield from _shards(run)
        yield from _kinds(run)


def _funnel(run: Run) -> Iterator[Block]:
    """What went into each step and came out, drawn as shares of what came in first."""
    steps = run.table(CARD).get("funnel", [])
    if not steps:
        return
    most = {"in": max(1, steps[0]["in"]), "bytes_in": max(1, steps[0]["bytes_in"])}
    bars = {
        step["step"]: {
            "documents": step["out"] / most["in"],
            "bytes": step["bytes_out"] / most["bytes_in"],
        }
        for step in steps
    }
    alt = f"Shares of the documents and bytes that {run.name} has left after each step"
    svg = figures.bars(bars, "left after the step")
    yield Figure(f"funnel-{run.name}.svg", svg, alt, run.source(CARD))
    rows = [
        [
            *(step["step"], count(step["in"]), count(step["out"])),
            percent(step["out"] / max(1, step["in"])),
            *(size(step["bytes_in"]), size(step["bytes_out"])),
        ]
        for step in steps
    ]
    head = [f"step of {run.name}", "in", "out", "stay", "text in", "text out"]
    yield Table(head, rows, run.source(CARD))


def _outcomes(run: Run) -> Iterator[Block]:
    """Documents by what became of them: kept or held out by domain, dropped by step and rule."""
    told = run.table(CARD)
    groups = [
        *((outcome, told.get(outcome, {})) for outcome in ("kept", "heldout")),
        *((f"dropped by {step}", rules) for step, rules in told.get("dropped", {}).items()),
    ]
    rows = [
        [outcome, name, count(found["documents"]), count(found["bytes"])]
        for outcome, table in groups
        for name, found in table.items()
    ]
    if rows:
        head = ["outcome", "domain or rule", "documents", "bytes"]
        yield Table(head, rows, run.source(CARD))


def _histograms(run: Run) -> Iterator[Block]:
    """The distribution of every score; one that is the same everywhere is not drawn."""
    told = run.table(CARD).get("histograms", {})
    drawn = {name: one for name, one in told.items() if one["edges"][0] < one["edges"][-1]}
    if drawn:
        svg = figures.histograms(
            {name: (one["edges"], one["counts"]) for name, one in drawn.items()}, "documents"
        )
        alt = f"How the scores of {run.name} are distributed: {', '.join(drawn)}"
        yield Figure(f"scores-{run.name}.svg", svg, alt, run.source(CARD))


def _mixture(run: Run) -> Iterator[Block]:
    """Shares of domains and languages before and after the mixture, and what there is of each."""
    groups = run.table(CARD).get("mixture", {}).get("groups", [])
    if not groups:
        return
    by_size = sorted(groups, key=lambda row: -max(row[side]["share"] for side in SIDES))
    bars = {_group(row): {side: row[side]["share"] for side in SIDES} for row in by_size[:DRAWN]}
    alt = f"Shares of {len(bars)} domains and languages of {run.name} before and after the mixture"
    svg = figures.bars(bars, "share of the mixture")
    yield Figure(f"mixture-{run.name}.svg", svg, alt, run.source(CARD))
    head = [f"mixture of {run.name}"]
    head += [f"{what}, {side}" for side in SIDES for what in ("documents", "bytes", "tokens", "%")]
    rows = [
        [_group(row), *(cell for side in SIDES for cell in _amount(row[side]))] for row in groups
    ]
    yield Table(head, rows, run.source(CARD))


def _group(row: Mapping[str, Any]) -> str:
    return f"{row['domain']}/{row['language']}"


def _amount(found: Mapping[str, Any]) -> list[str]:
    """Documents, bytes, tokens where they were counted, and the share."""
    tokens = "" if found["tokens"] is None else count(found["tokens"])
    return [count(found["documents"]), count(found["bytes"]), tokens, percent(found["share"])]


def _named(run: Run) -> Iterator[Block]:
    """Sources, licences and languages of what is kept, and the domains of all, largest first."""
    told = run.table(CARD)
    for table, what in KINDS.items():
        found = sorted(told.get(table, {}).items(), key=lambda item: (-item[1]["bytes"], item[0]))
        rows = [[name, count(one["documents"]), count(one["bytes"])] for name, one in found[:NAMED]]
        if rest := [one for _, one in found[NAMED:]]:
            sums = (sum(one[unit] for one in rest) for unit in ("documents", "bytes"))
            rows.append([f"{len(rest):,} more", *map(count, sums)])
        if rows:
            yield Table([f"{what}, {run.name}", "documents", "bytes"], rows, run.source(CARD))


def _exercises(run: Run) -> Iterator[Block]:
    """Exercises by kind, and why how many texts did not give one."""
    rows = [
        [form, what, name, count(number)]
        for form, tally in run.table("exercises.json").items()
        for what, named in (("made", tally["kinds"]), ("not made", tally["unfit"]))
        for name, number in sorted(named.items())
    ]
    if rows:
        yield Table([run.name, "", "kind", "exercises"], rows, run.source("exercises.json"))


def _shards(run: Run) -> Iterator[Block]:
    names = sorted(path.parent.name for path in run.folder.glob("*/index.json"))
    rows = []
    for name in names:
        index = run.table(f"{name}/index.json")
        totals = [count(index[key]) for key in ("documents", "tokens", "bytes")]
        rows.append([name, *totals, f"{index['bytes'] / max(index['tokens'], 1):.2f}"])
    if rows:
        head = ["shards", "documents", "tokens", "bytes", "bytes a token"]
        yield Table(head, rows, run.source(*(f"{name}/index.json" for name in names)))


def _kinds(run: Run) -> Iterator[Block]:
    kinds = run.table("instruct.json").get("kinds", {})
    rows = [[kind, *map(count, splits.values())] for kind, splits in kinds.items()]
    if rows:
        head = ["kind of task", *next(iter(kinds.values()))]
        yield Table(head, rows, run.source("instruct.json"))
