"""Review of pairs by people: a file with a column to fill in, and what is done with it.

    {"verdict": null, "id": "5f0c...", "kind": "table", "prompt": [...], "chosen": [...], ...}

The verdict is `keep`, `drop`, or `swap` where the wrong answer was chosen; null where nobody has
looked. An id names the content of a pair, so that a review holds for the same pair of another run,
and for no other.

    verdicts = read(Path("reviewed.jsonl"))
    kept = reviewed(pair, verdicts.get(name(pair)), unreviewed="keep")
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from baiwen import files
from baiwen.errors import UserError
from baiwen.mistakes import nearest

VERDICTS = ("keep", "drop", "swap")
CONTENT = ("prompt", "tools", "chosen", "rejected")  # what makes a pair that pair

Row = Mapping[str, Any]  # of pairs.jsonl


def name(pair: Row) -> str:
    """The id of a pair: 16 hex digits of its content."""
    content = json.dumps([pair.get(part) for part in CONTENT], sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def drawn(pair: Row, share: float) -> bool:
    """Whether a pair is of the share to be looked at: a function of its content alone."""
    return int(name(pair), 16) < share * 2**64


def row(pair: Row, truth: object) -> dict[str, Any]:
    """A line of the file to fill in."""
    return {"verdict": None, "id": name(pair), **pair, "answer": truth}


def read(path: Path) -> dict[str, str]:
    """The verdict of each pair that has one, by its id; UserError for a line with another word."""
    verdicts = {}
    for number, found in enumerate(files.read_jsonl(path), start=1):
        place = f"{path}: row {number}"
        if "id" not in found or "verdict" not in found:
            raise UserError(f"{place} has no `id` or no `verdict`: {json.dumps(found):.80}")
        verdict = found["verdict"]
        if verdict is None:
            continue
        if not isinstance(found["id"], str):
            raise UserError(f"{place}: id must be a text, not {found['id']!r:.60}")
        if verdict not in VERDICTS:
            hint = nearest(str(verdict), VERDICTS)
            raise UserError(
                f"{place}: verdict is {verdict!r}, not null, {', '.join(VERDICTS)}.{hint}"
            )
        verdicts[found["id"]] = verdict
    return verdicts


def reviewed(
    pair: Row, verdict: str | None, unreviewed: Literal["keep", "drop"]
) -> dict[str, Any] | None:
    """The pair as the verdict would have it; None where it goes."""
    match verdict or unreviewed:
        case "drop":
            return None
        case "swap":
            return {**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]}
        case _:
            return dict(pair)
