"""The census: what became of the documents of a part, counted without a look at their texts.

census(3, ended).kept["code"]        # {"documents": 812, "bytes": 3_801_224}
added(census(number, ended) for number in range(count))
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from baiwen.data.pipeline.ending import DROPPED, HELDOUT, KEPT, Ended, Ending
from baiwen.data.pipeline.part import SIZE
from baiwen.data.pipeline.sidecar import Tally

BINS = 40  # of a histogram
NAMES = 10_000  # different sources or licences that are told apart; the smallest are OTHERS
UNKNOWN, OTHERS = "unknown", "others"

Table = dict[str, Tally]  # by name
Scores = Mapping[str, tuple[float, float]]  # the least and greatest value of each "STEP.column"


@dataclass(frozen=True)
class Census:
    """What became of documents."""

    kept: Table = field(default_factory=dict)  # by domain
    heldout: Table = field(default_factory=dict)
    dropped: Table = field(default_factory=dict)
    domains: Table = field(default_factory=dict)  # of all, whatever became of them
    sources: Table = field(default_factory=dict)  # of what is kept, as its `meta` says it
    licenses: Table = field(default_factory=dict)
    languages: Table = field(default_factory=dict)
    fates: dict[str, dict[str, int]] = field(default_factory=dict)  # KEPT or a rule, by origin
    histograms: dict[str, dict[str, int]] = field(default_factory=dict)  # of scores: by bin


def census(number: int, ended: Ended, scores: Scores | None = None) -> Census:
    """Count a part; scores: the findings whose histograms are wanted."""
    ending = Ending(ended, number)
    sizes, domains = (
        ending.column(name).to_numpy(zero_copy_only=False) for name in (SIZE, "domain")
    )
    rows = {what: ending.rows_of(what) for what in (KEPT, HELDOUT, DROPPED)}
    kept = rows[KEPT]
    metas = [json.loads(text) for text in ending.column("meta").filter(kept).to_pylist()]
    languages = ending.column("language").filter(kept).to_pylist()
    return Census(
        **{what: _table(domains[mask], sizes[mask]) for what, mask in rows.items()},
        domains=_table(domains, sizes),
        sources=_table([meta.get("source") for meta in metas], sizes[kept]),
        licenses=_table([meta.get("license") for meta in metas], sizes[kept]),
        languages=_table(languages, sizes[kept]),
        fates=_fates(ending),
        histograms={name: _bins(ending, name, ends) for name, ends in (scores or {}).items()},
    )


def added(counted: Iterable[Census]) -> Census:
    """The sum of several, the names of each table in alphabetical order."""
    sums: dict[str, dict[str, Any]] = {}
    for one in counted:
        for part in fields(one):
            into = sums.setdefault(part.name, {})
            _add(into, getattr(one, part.name))
            if len(into) > 2 * NAMES:
                sums[part.name] = _largest(into)
    return Census(**{name: dict(sorted(into.items())) for name, into in sums.items()})


def edges(ends: tuple[float, float]) -> list[float]:
    """The edges of a histogram's bins between the least and the greatest value."""
    return np.linspace(*ends, BINS + 1).tolist()


def _table(names: Sequence[Any], sizes: np.ndarray) -> Table:
    """Documents and bytes by name, given the name and the size of each."""
    found: Table = {}
    for name, size in zip(names, sizes.tolist(), strict=True):
        tally = found.setdefault(str(name or UNKNOWN), {"documents": 0, "bytes": 0})
        tally["documents"] += 1
        tally["bytes"] += size
    return found


def _fates(ending: Ending) -> dict[str, dict[str, int]]:
    everyone = np.ones_like(ending.alive)
    found: dict[str, dict[str, int]] = {}
    for source, verdict in zip(
        ending.column("source").to_pylist(), ending.verdicts(everyone), strict=True
    ):
        fates = found.setdefault(source, {})
        fate = verdict["rule"] if verdict else KEPT
        fates[fate] = fates.get(fate, 0) + 1
    return found


def _bins(ending: Ending, name: str, ends: tuple[float, float]) -> dict[str, int]:
    step, _, column = name.partition(".")
    if column not in ending.columns[step]:
        return {}
    values = ending.column(name).drop_null().to_numpy()
    counts, _ = np.histogram(values[np.isfinite(values)], np.array(edges(ends)))
    return {str(place): int(counts[place]) for place in np.flatnonzero(counts)}


def _add(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add numbers, or tables of them, by name."""
    for name, value in more.items():
        if isinstance(value, dict):
            _add(into.setdefault(name, {}), value)
        else:
            into[name] = into.get(name, 0) + value


def _largest(table: Table) -> Table:
    by_size = sorted(table, key=lambda name: (-table[name]["bytes"], name))
    kept = {name: table[name] for name in by_size[:NAMES]}
    for name in by_size[NAMES:]:
        _add(kept.setdefault(OTHERS, {}), table[name])
    return kept
