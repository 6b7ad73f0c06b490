"""The end of a part: where each of its documents goes after all steps, and the rows of its files.

    ending = Ending(Ended(folder, ("heuristics", "exact", "heldout")), 3)
    ending.rows_of(KEPT, ["code"])               # bool [rows]
    ending.documents(ending.rows_of(KEPT))       # {"id", "text", "meta": {..., "scores", ...}}

Every document ends in one of three ways: kept, held out (by the step `heldout`), or dropped.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from baiwen.data.pipeline.part import Part
from baiwen.data.pipeline.sidecar import READ
from baiwen.data.pipeline.step import COLUMNS, VERDICT

KEPT, HELDOUT, DROPPED = "kept", "heldout", "dropped"
COPIES = "mixture.copies"  # how often a document is taken, where the steps have a mixture
NUMBERS = (pa.types.is_floating, pa.types.is_signed_integer, pa.types.is_boolean)
_NO_SCORES = {*COLUMNS.names, *VERDICT.names, "bytes", "copies"}


@dataclass(frozen=True)
class Ended:
    """A run whose steps are all done."""

    folder: Path
    steps: tuple[str, ...]  # after `read`
    hidden: Mapping[str, Sequence[str]] = field(default_factory=dict)  # sources, by blind step


class Ending(Part):
    """A part after all steps."""

    def __init__(self, ended: Ended, number: int) -> None:
        super().__init__(ended.folder, number, (READ, *ended.steps))
        self.hidden = ended.hidden

    def rows_of(self, outcome: str, domains: Sequence[str] | None = None) -> np.ndarray:
        """Rows that end so: bool [rows]; those of some domains, or all."""
        rows = {KEPT: self.alive, HELDOUT: self._heldout, DROPPED: ~self.alive & ~self._heldout}
        if domains is None:
            return rows[outcome]
        among = pc.is_in(self.column("domain"), pa.array(domains, pa.string()))
        return rows[outcome] & among.to_numpy(zero_copy_only=False)

    def documents(self, rows: np.ndarray) -> Iterator[dict[str, Any]]:
        """The rows of a mask as those of a documents file.

        Dropped ones come with their verdict, and with what else its step `found`: the id of the
        document that was kept instead, the test that they hold.
        """
        columns = ("text", "domain", "language", "source", "meta", *self.scores)
        found = self.table(columns, rows).to_pylist()
        places, verdicts = np.flatnonzero(rows), self.verdicts(rows)
        for place, row, verdict in zip(places, found, verdicts, strict=True):
            meta = json.loads(row["meta"])
            meta |= {name: row[name] for name in ("domain", "language") if row[name] is not None}
            scores = {name: row[name] for name in self.scores if row[name] is not None}
            meta |= {"scores": {**_table(meta, "scores"), **scores}} if scores else {}
            meta["lineage"] = {
                **_table(meta, "lineage"),  # of a synthetic document: its seeds, prompt and model
                "place": origin(meta),
                "steps": self._seen_by(row["source"], verdict),
            }
            if self._copies[place] > 1:
                meta["copies"] = int(self._copies[place])
            yield {
                "id": row["id"],
                "text": row["text"],
                "meta": meta,
                **self._gone(int(place), verdict),
            }

    def _gone(self, place: int, verdict: dict[str, Any] | None) -> dict[str, Any]:
        """The verdict on a row, and what else its step found, as far as a line can tell it."""
        if not verdict:
            return {}
        step = verdict["step"]
        names = [name for name in self.columns[step] if name not in _NO_SCORES]
        cells = {name: self._found(step, name)[place] for name in names}
        found = {
            name: cell.as_py()
            for name, cell in cells.items()
            if cell.is_valid and any(kind(cell.type) for kind in (*NUMBERS, pa.types.is_string))
        }
        return {"verdict": verdict, **({"found": found} if found else {})}

    def _seen_by(self, source: str, verdict: dict[str, Any] | None) -> list[str]:
        """The steps that looked at a document: up to the one it went at, if it did."""
        last = self.steps.index(verdict["step"]) if verdict else len(self.steps)
        return [
            step for step in self.steps[2 : last + 1] if source not in self.hidden.get(step, ())
        ]

    @cached_property
    def scores(self) -> list[str]:
        """The findings that are numbers, as "STEP.column"; unsigned ones are hashes."""
        return [
            f"{step}.{name}"
            for step in self.steps[2:]
            for name in self.columns[step]
            if name not in _NO_SCORES
            and any(kind(self._found(step, name).type) for kind in NUMBERS)
        ]

    def verdicts(self, rows: np.ndarray) -> list[dict[str, Any] | None]:
        """Which step each row of a mask went at, and why; None where it is still there."""
        told: list[dict[str, Any] | None] = [None] * len(rows)
        for step in self._with("rule"):
            names = [name for name in VERDICT.names if name in self.columns[step]]
            gone = pc.is_valid(self._found(step, "rule")).to_numpy(zero_copy_only=False)
            found = pa.table([self._found(step, name).filter(gone) for name in names], names)
            for place, verdict in zip(np.flatnonzero(gone), found.to_pylist(), strict=True):
                told[place] = {"step": step, **dict.fromkeys(VERDICT.names), **verdict}
        return [told[place] for place in np.flatnonzero(rows)]

    @cached_property
    def _copies(self) -> np.ndarray:
        step, _, name = COPIES.partition(".")
        if name not in self.columns.get(step, ()):
            return np.ones(len(self.alive), np.int64)
        return pc.fill_null(self.column(COPIES), 1).to_numpy(zero_copy_only=False)

    @cached_property
    def _heldout(self) -> np.ndarray:
        if "rule" not in self.columns.get(HELDOUT, ()):
            return np.zeros_like(self.alive)
        return pc.is_valid(self._found(HELDOUT, "rule")).to_numpy(zero_copy_only=False)


def _table(meta: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What a document brings of this name; a list of lineage is that of its parents."""
    found = meta.get(name)
    if isinstance(found, list):
        return {"parents": found}
    return found if isinstance(found, dict) else {}


def origin(meta: dict[str, Any]) -> str:
    """Where a document was read: file and line where they are known."""
    return str(meta.get("place") or meta.get("path") or meta.get("source") or "unknown")
