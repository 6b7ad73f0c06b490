"""A side: Baiwen's decontamination, over real documents and over some with tests planted in them.

    settings: {"documents": FILE.jsonl, "against": {FILE: FIELD, ...}, "planted": 500, "threads": 1}

Tests are the strings of a field of each evaluation file. Each is planted in a real document at a
random place, as it is and with 10 % of its words changed (half of those replaced, a quarter left
out, a quarter with another word behind them). The figures of a turn: `documents`, `bytes` and
`dropped` of the real documents, which is what takes its time, and what the planted ones showed
before the first turn: {"exact" or "edited": {"all" or "long": [found, planted]}}. Long ones have
the 13 words without which the report's rule finds nothing.
"""

import json
import random
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from baiwen import files
from baiwen.data.contamination.decontaminate import Decontaminate, decontaminate, find, opened
from baiwen.data.words import words
from benchmarks.turns import Turn

WORDS = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+|\s+")  # with what stands between them
CHARACTERS = "的一是不了人我在有他这中大来上个国到说们"  # replace others in Chinese


def main(settings: dict[str, Any]) -> None:
    """All documents whenever it is told."""
    texts = [row["text"] for row in files.read_jsonl(settings["documents"])]
    table = pa.table({"text": pa.array(texts, pa.large_string())})
    size = pc.sum(pc.binary_length(table["text"])).as_py()
    fields = tuple(dict.fromkeys(settings["against"].values()))
    knobs = Decontaminate(against=tuple(map(Path, settings["against"])), fields=fields)
    mark = str(files.fingerprint(list(knobs.against)))
    opened(knobs, mark)
    shown = {"planted": planted(texts, settings, knobs, mark)}
    turn = Turn()
    while True:
        turn.wait()
        found = decontaminate(table, knobs, mark)
        rows = pa.table({"row": np.arange(len(texts)), **{n: found[n] for n in ("test", "common")}})
        dropped = rows.filter(pc.is_valid(rows["test"])).to_pylist()
        turn.figures = {"documents": len(texts), "bytes": size, "dropped": dropped, **shown}


def planted(
    texts: list[str], settings: dict[str, Any], knobs: Decontaminate, mark: str
) -> dict[str, dict[str, list[int]]]:
    """How many of the planted tests are found."""
    rng = random.Random(0)
    rows = [
        row[field] for path, field in settings["against"].items() for row in files.read_jsonl(path)
    ]
    tests = rng.sample(rows, min(settings["planted"], len(rows)))
    vocabulary = [word for text in texts[:100] for word in text.split()]
    lengths = np.diff(words(pa.array(tests, pa.large_string())).bounds)
    shown = {}
    for kind, share in (("exact", 0.0), ("edited", 0.1)):
        copies = [
            within(edited(test, share, rng, vocabulary), rng.choice(texts), rng) for test in tests
        ]
        found = find(pa.array(copies, pa.large_string()), opened(knobs, mark), knobs)
        hit = np.array([match is not None for match in found])
        shown[kind] = {
            "all": [int(hit.sum()), len(hit)],
            "long": [int(hit[lengths >= knobs.least].sum()), int((lengths >= knobs.least).sum())],
        }
    return shown


def within(test: str, text: str, rng: random.Random) -> str:
    """A text with a test at a random place."""
    place = rng.randint(0, len(text))
    return f"{text[:place]}\n\n{test}\n\n{text[place:]}"


def edited(test: str, share: float, rng: random.Random, vocabulary: list[str]) -> str:
    """A test with a share of its words changed."""
    parts = WORDS.findall(test)
    places = [place for place, part in enumerate(parts) if not part.isspace()]
    for place in rng.sample(places, round(share * len(places))):
        is_chinese = "\u3400" <= parts[place] <= "\u9fff"
        other = rng.choice(CHARACTERS) if is_chinese else rng.choice(vocabulary)
        gap = "" if is_chinese else " "
        parts[place] = rng.choice([other, other, "", f"{parts[place]}{gap}{other}"])
    return "".join(parts)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
