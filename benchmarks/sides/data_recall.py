"""The side of Baiwen: recall of what was hidden among real text, from seeds of another origin.

    python -m benchmarks.sides.data_recall '{"kind": "math", "shared": "DATA", "labels": 1.0}'

math    hidden: 600 problems with solutions of MATH, AQuA, CARP, CMATH (Chinese), college
        mathematics and Gaokao, strewn over the sources of the others; seeds: 2,000 word problems
        of GSM8K
code    hidden: the documentation of software, of many projects; seeds: that of Python (its PEPs)
        and of Arrow, which is then no part of the corpus
exams   hidden: the questions on mathematics and statistics of MMLU, and those of Chinese schools;
        seeds: 2,000 problems of MATH. Among MMLU's and AGIEval's questions on all else, other
        books, classical Chinese and documentation: no file of the two others

`math` and `code` lie among web pages, encyclopedias, dialogues, books and Chinese text, and were
looked at while the defaults of the stage were chosen; `exams` was not. What is hidden is known, so
each round's figures are those of all documents; of `labels`, a share of them, the run itself
learns. `shared` is a folder of the shared data.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from baiwen import files, stages
from baiwen.data.recall.search import FOUND, TOLD, WAYS
from baiwen.errors import UserError
from benchmarks.turns import Figures, Turn

USUAL = ("web_en-00", "encyclopedia_en-00", "dialogue-00", "books_en-00", "zh_modern-00")
OTHER = ("docs_en-00", "docs_en-01", "books_en-01", "zh_classical-00")
HIDDEN = {  # file: the fields of a problem and its solution
    "math/test_dev": ("problem", "solution"),
    "math_more/aqua": ("question", "rationale"),
    "math_more/carp_en_dev": ("content", "steps"),
    "math_more/cmath_dev": ("question", "answer"),
    "math_more/college_math_dev": ("question", "answer"),
    "math_more/gaokao_math_qa": ("question", "answer"),
}
EXAMS = (  # files of questions, the fields of one, and what tells its subject
    ("mmlu/test_dev", ("question", "choices"), "subject"),
    ("agieval/agieval_dev", ("passage", "question", "options"), "task"),
    ("math_more/cn_middle_school_dev", ("question", "answer"), None),
)
MATHEMATICS = ("mathematics", "algebra", "statistics", "mathcloze")  # ends of subjects
SEEDS = {"math": 2000, "code": 500, "exams": 2000}  # at most
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


def questions(shared: Path) -> Iterator[tuple[bool, Row]]:
    """Questions of exams, and whether they are on mathematics."""
    for name, fields, about in EXAMS:
        for number, row in enumerate(files.read_jsonl(shared / "eval" / f"{name}.jsonl.gz")):
            parts = [row[field] for field in fields if row.get(field)]
            text = "\n".join("\n".join(one) if isinstance(one, list) else str(one) for one in parts)
            is_math = about is None or row[about].endswith(MATHEMATICS)
            yield is_math, {"id": f"{name} {number}", "text": text}


def pages(shared: Path, names: Iterable[str]) -> list[Row]:
    """The documents of files of text."""
    paths = [shared / "pretrain" / "dev" / f"{name}.jsonl.zst" for name in names]
    return [row for path in paths for row in files.read_jsonl(path)]


def pieces(kind: str, shared: Path) -> tuple[list[Row], list[Row], list[Row]]:
    """Seeds, what is hidden, and what it is hidden among."""
    if kind == "code":
        found = pages(shared, ("docs_en-00", "docs_en-01"))
        seeds = [row for row in found if row["source"].startswith(KNOWN)]
        hidden = [row for row in found if not row["source"].startswith(KNOWN)]
        return seeds, hidden, pages(shared, USUAL)
    if kind == "math":
        rows = files.read_jsonl(shared / "eval" / "gsm8k" / "train.jsonl.gz")
        seeds = [{"text": f"{row['question']}\n\n{row['answer']}"} for row in rows]
        return seeds, *strewn(list(hidden_math(shared)), pages(shared, USUAL))
    asked = list(questions(shared))
    rows = files.read_jsonl(shared / "eval" / "math" / "train.jsonl.gz")
    seeds = [{"text": f"{row['problem']}\n\n{row['solution']}"} for row in rows]
    others = [*pages(shared, OTHER), *(row for is_math, row in asked if not is_math)]
    return seeds, *strewn([row for is_math, row in asked if is_math], others)


def strewn(hidden: list[Row], others: list[Row]) -> tuple[list[Row], list[Row]]:
    """Both, what is hidden at the sources of others."""
    hosts = Random(0).choices(others, k=len(hidden))
    return [
        row | {"source": host.get("source")} for row, host in zip(hidden, hosts, strict=True)
    ], others


def prepare(kind: str, shared: Path, place: Path, known: float) -> dict[str, bool]:
    """Write seeds, corpus and labels into `place`; of each document, whether it was hidden."""
    seeds, hidden, others = pieces(kind, shared)
    truth = dict.fromkeys([row["id"] for row in others], False)
    truth |= dict.fromkeys([row["id"] for row in hidden], True)
    some = Random(0).sample(sorted(truth), round(known * len(truth)))
    write(place / "seeds.jsonl", seeds[: SEEDS[kind]])
    write(place / "corpus.jsonl", [*others, *hidden])
    write(place / "labels.jsonl", [{"id": one, "label": truth[one]} for one in some])
    return truth


def write(path: Path, rows: list[Row]) -> None:
    """Rows as JSONL."""
    with files.jsonl_writer(path) as put:
        for row in rows:
            put(row)


def recall(kind: str, place: Path, known: float) -> list[Row]:
    """One whole run; what its rounds say."""
    shutil.rmtree(place / "out", ignore_errors=True)
    recipe = {
        "stage": "recall",
        "out": str(place / "out"),
        "name": kind,
        "seeds": [str(place / "seeds.jsonl")],
        "corpus": [str(place / "corpus.jsonl")],
        **({"labels": str(place / "labels.jsonl")} if known else {}),
        "source_depth": 3,
        "workers": 1,
    }
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in recipe.items())
    files.write(place / "recall.toml", text)
    (loaded,) = stages.load(place / "recall.toml")
    try:
        stages.run(loaded)
    except UserError as error:  # nothing was found: its only round says so
        print(error, file=sys.stderr)
    rounds = (place / "out" / "rounds").glob(f"*/{TOLD}")
    return sorted(map(files.read_json, rounds), key=lambda row: int(row["round"]))


def figures(truth: Mapping[str, bool], rounds: list[Row], place: Path) -> Figures:
    """Documents that were read, and how precise and complete each round has left the findings.

    By way: what all rounds together found by score and by source, and how much of it is right.
    """
    found: list[bool] = []
    ways: dict[str, list[bool]] = {way: [] for way in WAYS}
    told: dict[str, list[float | None]] = {"precision": [], "recall": []}
    for row in rounds:
        table = pq.read_table(place / "out" / "rounds" / str(row["round"]) / FOUND)
        for one in table.filter(pc.greater_equal(table["way"], 0)).to_pylist():
            found.append(truth[one["id"]])
            ways[WAYS[one["way"]]].append(truth[one["id"]])
        told["precision"].append(round(sum(found) / len(found), 4) if found else None)
        told["recall"].append(round(sum(found) / sum(truth.values()), 4))
    return {
        "documents": len(truth),
        "hidden": sum(truth.values()),
        **told,
        "found": [row["found"] for row in rounds],
        "ways": {way: [len(own), sum(own)] for way, own in ways.items()},
        "end": rounds[-1]["end"],
    }


def main() -> None:
    """Serve turns."""
    settings, turn = json.loads(sys.argv[1]), Turn()
    known = settings.get("labels", 1.0)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        truth = prepare(settings["kind"], Path(settings["shared"]), place, known)
        while True:
            turn.wait()
            turn.figures = figures(truth, recall(settings["kind"], place, known), place)


if __name__ == "__main__":
    main()
