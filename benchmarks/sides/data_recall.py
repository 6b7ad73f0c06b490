"""The side of Baiwen: recall of what was hidden among real text, from seeds of another origin.

    python -m benchmarks.sides.data_recall '{"kind": "math", "shared": "DATA", "threads": 1}'

math    hidden: 600 problems with solutions of MATH, AQuA, CARP, CMATH (Chinese), college
        mathematics and Gaokao, strewn over the sources of the others; seeds: 2,000 word problems
        of GSM8K
code    hidden: the documentation of software, of many projects; seeds: that of Python (its PEPs)
        and of Arrow, which is then no part of the corpus

Both lie among web pages, encyclopedias, dialogues, books and Chinese text. What is hidden is known,
so each round's figures are those of all documents. `shared` is a folder of the shared data.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from baiwen import files, stages
from benchmarks.turns import Figures, Turn

AMONG = ("web_en-00", "encyclopedia_en-00", "dialogue-00", "books_en-00", "zh_modern-00")
HIDDEN = {  # file: the fields of a problem and its solution
    "math/test_dev": ("problem", "solution"),
    "math_more/aqua": ("question", "rationale"),
    "math_more/carp_en_dev": ("content", "steps"),
    "math_more/cmath_dev": ("question", "answer"),
    "math_more/college_math_dev": ("question", "answer"),
    "math_more/gaokao_math_qa": ("question", "answer"),
}
SEEDS = {"math": 2000, "code": 500}  # at most
OF_EACH = 100  # hidden problems of each kind: a corpus holds little mathematics
KNOWN = ("github.com/python/peps", "github.com/apache/arrow")
Row = dict[str, Any]


def hidden_math(shared: Path) -> Iterator[Row]:
    """Problems with their solutions."""
    for name, fields in HIDDEN.items():
        rows = files.read_jsonl(shared / "eval" / f"{name}.jsonl.gz")
        for number, row in enumerate(rows):
            text = "\n\n".join(str(row.get(field, "")) for field in fields)
            if number < OF_EACH:
                yield {"id": f"{name} {number}", "text": text, "domain": name}


def hidden_code(shared: Path) -> Iterator[Row]:
    """The documentation of software."""
    for path in sorted((shared / "pretrain" / "dev").glob("docs_en-*.jsonl.zst")):
        yield from files.read_jsonl(path)


def prepare(kind: str, shared: Path, place: Path) -> int:
    """Write seeds, corpus and labels into `place`; how many documents the corpus has."""
    hidden = list({"math": hidden_math, "code": hidden_code}[kind](shared))
    paths = [shared / "pretrain" / "dev" / f"{name}.jsonl.zst" for name in AMONG]
    others = [row for path in paths for row in files.read_jsonl(path)]
    if kind == "math":
        for row, host in zip(hidden, Random(0).choices(others, k=len(hidden)), strict=True):
            row["source"] = host["source"]
        rows = files.read_jsonl(shared / "eval" / "gsm8k" / "train.jsonl.gz")
        seeds = [{"text": f"{row['question']}\n\n{row['answer']}"} for row in rows]
    else:
        seeds = [row for row in hidden if row["source"].startswith(KNOWN)]
        hidden = [row for row in hidden if not row["source"].startswith(KNOWN)]
    write(place / "seeds.jsonl", seeds[: SEEDS[kind]])
    write(place / "corpus.jsonl", [*others, *hidden])
    labels = [{"id": row["id"], "label": True} for row in hidden]
    write(place / "labels.jsonl", labels + [{"id": row["id"], "label": False} for row in others])
    return len(others) + len(hidden)


def write(path: Path, rows: list[Row]) -> None:
    """Rows as JSONL."""
    with files.jsonl_writer(path) as put:
        for row in rows:
            put(row)


def recall(kind: str, place: Path) -> list[Row]:
    """One whole run; what its rounds say."""
    shutil.rmtree(place / "out", ignore_errors=True)
    recipe = {
        "stage": "recall",
        "out": str(place / "out"),
        "name": kind,
        "seeds": [str(place / "seeds.jsonl")],
        "corpus": [str(place / "corpus.jsonl")],
        "labels": str(place / "labels.jsonl"),
        "source_depth": 3,
        "workers": 1,
    }
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in recipe.items())
    files.write(place / "recall.toml", text)
    (loaded,) = stages.load(place / "recall.toml")
    stages.run(loaded)
    return list(files.read_json(place / "out" / "recall.json")["rounds"])


def figures(documents: int, rounds: list[Row]) -> Figures:
    """Documents that were read, and how precise and complete each round has left the findings."""
    return {
        "documents": documents,
        "precision": [row["precision"]["value"] if row["precision"] else None for row in rounds],
        "recall": [row["recall"]["value"] for row in rounds],
        "found": [row["found"] for row in rounds],
        "end": rounds[-1]["end"],
    }


def main() -> None:
    """Serve turns."""
    settings, turn = json.loads(sys.argv[1]), Turn()
    with tempfile.TemporaryDirectory() as name:
        documents = prepare(settings["kind"], Path(settings["shared"]), Path(name))
        while True:
            turn.wait()
            turn.figures = figures(documents, recall(settings["kind"], Path(name)))


if __name__ == "__main__":
    main()
