"""The card of a run, `data.json`: what came in, what every step made of it, what is kept.

    {"kept": {"code": {"documents": 812, "bytes": 3801224}}, "heldout": {...},
     "dropped": {"heuristics": {"too few words": {"documents": 90, "bytes": 8121}}},
     "funnel": [{"step": "heuristics", "in": 1000, "out": 910, "bytes_in": ..., "bytes_out": ...}],
     "sources": {...}, "licenses": {...}, "languages": {...}, "domains": {...},
     "histograms": {"classify.educational": {"edges": [...], "counts": [...]}},
     "hashes": {"documents": "9f3a...", "kept": "..."}}

Every document that came in is in one of `kept`, `heldout` and `dropped`. Nothing in it is a time or
a machine: the same documents and steps give the same card.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from baiwen.data.pipeline import keys
from baiwen.data.pipeline.census import BINS, OTHERS, Census, Table, edges
from baiwen.data.pipeline.ending import HELDOUT
from baiwen.data.pipeline.sidecar import DOCUMENTS, Manifest, Tally

NAMED = 100  # sources and licences that the card tells apart, the largest; the rest are OTHERS

Manifests = Mapping[str, Sequence[Manifest]]  # of every part, by step


def card(counted: Census, made: Manifests) -> dict[str, Any]:
    """The card, given the census of all parts and what the steps told of each."""
    return {
        "kept": counted.kept,
        "heldout": counted.heldout,
        "dropped": {
            step: found
            for step, parts in made.items()
            if step != HELDOUT and (found := dropped(parts))
        },
        "funnel": [funnel(step, parts) for step, parts in made.items() if step != DOCUMENTS],
        "sources": _named(counted.sources),
        "licenses": _named(counted.licenses),
        "languages": _named(counted.languages),
        "domains": counted.domains,
        "histograms": {
            name: {"edges": edges(ends), "counts": _counts(counted.histograms.get(name, {}))}
            for name, ends in scores(made).items()
        },
        "hashes": {
            DOCUMENTS: keys.digest([one.digest for one in made[DOCUMENTS]]),
            "findings": keys.digest({step: [one.digest for one in made[step]] for step in made}),
        },
    }


def dropped(parts: Sequence[Manifest]) -> Table:
    """What a step dropped, by rule."""
    rules = sorted({rule for part in parts for rule in part.dropped})
    return {
        rule: _added(tally for part in parts for tally in part.dropped.get(rule, {}).values())
        for rule in rules
    }


def funnel(step: str, parts: Sequence[Manifest]) -> dict[str, Any]:
    """What went into a step and what came out."""
    before, after = _added(part.before for part in parts), _added(part.after for part in parts)
    return {
        "step": step,
        "in": before["documents"],
        "out": after["documents"],
        "bytes_in": before["bytes"],
        "bytes_out": after["bytes"],
    }


def scores(made: Manifests) -> dict[str, tuple[float, float]]:
    """The least and greatest value of every finding that is a score, as "STEP.column"."""
    found: dict[str, tuple[float, float]] = {}
    for step, parts in made.items():
        for part in parts:
            for column, (least, most) in part.ranges.items():
                low, high = found.get(f"{step}.{column}", (least, most))
                found[f"{step}.{column}"] = min(low, least), max(high, most)
    return dict(sorted(found.items()))


def _counts(bins: Mapping[str, int]) -> list[int]:
    return [bins.get(str(place), 0) for place in range(BINS)]


def _named(table: Table) -> Table:
    """The largest of a table by name, the rest together."""
    by_size = sorted(table, key=lambda name: (name == OTHERS, -table[name]["bytes"], name))
    found = {name: table[name] for name in by_size[:NAMED]}
    if rest := by_size[NAMED:]:
        found[OTHERS] = _added([table[name] for name in rest])
    return found


def _added(tallies: Iterable[Tally]) -> Tally:
    total = {"documents": 0, "bytes": 0}
    for tally in tallies:
        total = {what: total[what] + tally[what] for what in total}
    return total
