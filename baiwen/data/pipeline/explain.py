"""A document's life, from the parts of a run: where it came from, what each step found, its end.

for _, part, row in places(run, "9b1c"):        # run: of `opened`; an id, or how it begins
    print(told(life(run, part, row)))
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from baiwen import files
from baiwen.data.pipeline import sidecar
from baiwen.data.pipeline.ending import DROPPED, HELDOUT, KEPT, Ended, Ending
from baiwen.data.pipeline.run import STEPS
from baiwen.data.pipeline.sidecar import DOCUMENTS, PARTS, READ
from baiwen.data.pipeline.step import VERDICT
from baiwen.data.writers import HELDOUT_FILE, PLAN
from baiwen.errors import UserError

SHOWN = 300  # characters of the text
ITEMS = 4  # of a list that a step found


class Opened(NamedTuple):
    """A run whose steps are all done."""

    ended: Ended
    parts: int


def opened(run: Path) -> Opened:
    """The data run of a folder; a `UserError` where there is none, or it is not done."""
    path = run / PARTS / STEPS
    if not (path.is_file() and (run / "data.json").is_file()):
        raise UserError(f"{run}: holds no finished run of the stage `data`")
    steps = files.read_json(path)
    hidden = {step["step"]: tuple(step["hidden"]) for step in steps}
    parts = len(list((run / PARTS / DOCUMENTS).glob("*.json")))
    return Opened(Ended(run, tuple(step["step"] for step in steps), hidden), parts)


def places(run: Opened, beginning: str) -> Iterator[tuple[str, int, int]]:
    """The ids of a run that begin so, each with its part and row."""
    for number in range(run.parts):
        ids = sidecar.column(run.ended.folder, DOCUMENTS, number, "id")
        for row in pc.indices_nonzero(pc.starts_with(ids, beginning)).to_pylist():
            yield ids[row].as_py(), number, row


def life(run: Opened, number: int, row: int) -> dict[str, Any]:
    """All that a run knows of a row of a part, as values of JSON."""
    ending = Ending(run.ended, number)
    rows = np.arange(len(ending.alive)) == row
    (document,) = ending.documents(rows)
    outcome = next(what for what in (KEPT, HELDOUT, DROPPED) if ending.rows_of(what)[row])
    seen = (READ, *document["meta"]["lineage"]["steps"])
    return {
        "id": document["id"],
        "run": str(run.ended.folder),
        "part": number,
        "row": row,
        "steps": {step: _found(ending, step, row) for step in seen},
        "outcome": outcome,
        "file": _file(run.ended.folder, outcome, document["meta"]["domain"], number),
        "verdict": document.get("verdict"),
        "meta": document["meta"],
        "text": document["text"],
    }


def told(life: dict[str, Any]) -> str:
    """A life for a person."""
    meta, verdict = life["meta"], life["verdict"]
    names = [
        str(meta[name]) for name in ("source", "license", "language", "domain") if meta.get(name)
    ]
    end = f"{life['outcome']}, in {life['file']}"
    if verdict:
        end += f": {verdict['step']} says {verdict['rule']!r}{_measured(verdict)}"
    lines = [
        f"{life['id']}    {life['run']}, part {life['part']}, row {life['row']}",
        f"  from    {meta['lineage']['place']}    {', '.join(names)}",
        *(f"  {step:<14}{_line(found)}" for step, found in life["steps"].items()),
        f"  end     {end}",
        *(f"  copies  {meta['copies']}" for _ in range("copies" in meta)),
        f"  text    {_head(life['text'])}",
    ]
    return "\n".join(line.rstrip() for line in lines)


def _found(ending: Ending, step: str, row: int) -> dict[str, Any]:
    """What a step found about a row; a changed text by its size."""
    found = {}
    for name in ending.columns[step]:
        value = ending.column(f"{step}.{name}")[row].as_py()
        value = value.hex() if isinstance(value, bytes) else value
        if name == "text":
            name, value = "changed text to bytes", value and len(value.encode())
        if value is not None:
            found[name] = value
    return found


def _file(run: Path, outcome: str, domain: str, number: int) -> str:
    if outcome == HELDOUT:
        return HELDOUT_FILE
    return next(
        name
        for name, told in files.read_json(run / PARTS / PLAN).items()
        if told["outcome"] == outcome and domain in told["domains"] and number in told["parts"]
    )


def _line(found: dict[str, Any]) -> str:
    """Findings in a line, the verdict first."""
    others = {name: value for name, value in found.items() if name not in VERDICT.names}
    shown = ", ".join(f"{name} {_value(value)}" for name, value in others.items())
    return f"goes: {found['rule']!r}{_measured(found)}  {shown}" if "rule" in found else shown


def _measured(verdict: dict[str, Any]) -> str:
    value, bound = verdict.get("value"), verdict.get("bound")
    told = [f"{value:.4g}"] if value is not None else []
    told += [f"bound {bound:.4g}"] if bound is not None else []
    return f" ({', '.join(told)})" if told else ""


def _value(value: Any) -> str:  # noqa: ANN401 - whatever a step found
    if isinstance(value, list):
        more = ", ..." if len(value) > ITEMS else ""
        return f"[{', '.join(map(_value, value[:ITEMS]))}{more}] of {len(value)}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _head(text: str) -> str:
    short = " ".join(text[: 2 * SHOWN].split())
    return short if len(text) <= SHOWN else f"{short[:SHOWN]} ..."
