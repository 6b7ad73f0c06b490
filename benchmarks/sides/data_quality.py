"""A side: Baiwen's classifier learns labels of quality from some texts, and scores others.

    settings: {"tasks": [{"train": FILE.jsonl, "test": FILE.jsonl}, ...], "threads": 1}

A row is {"text", "label": 0 or 1}. A turn learns and scores all of the tasks; its figures hold the
scores of each task's test. `folds` and `teacher` write the tasks: a cross-validation over human
labels, and a weak teacher (some texts against others, as DCLM's) whom human labels test. `agreed`
says how well scores agree with labels.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from baiwen import files
from baiwen.data.classifier import agreement, marks
from baiwen.data.classifier.features import Features
from baiwen.data.classifier.training import Examples, Training, fit
from baiwen.data.document import document
from baiwen.data.rubric import Dimension, Marks, Rubric
from benchmarks.turns import Turn

QUALITY = Rubric((Dimension(name="quality", least=0, most=1),))
TUNED = 10  # one of so many says when to end
Row = dict[str, Any]
Task = dict[str, str]


def main(settings: dict[str, Any]) -> None:
    """All of the tasks whenever it is told."""
    tasks = [
        {name: list(files.read_jsonl(path)) for name, path in one.items()}
        for one in settings["tasks"]
    ]
    turn = Turn()
    while True:
        turn.wait()
        scores = [scored(one["train"], one["test"]) for one in tasks]
        turn.figures = {"documents": sum(map(len, scores)), "scores": scores}


def scored(train: Sequence[Row], test: Sequence[Row]) -> list[float]:
    """How probably each row of `test` is of quality."""
    order = np.random.default_rng(0).permutation(len(train))
    aside = len(train) // TUNED
    learned, told = examples(train), examples(test)
    made, _ = fit(
        learned.take(order[aside:]), learned.take(order[:aside]), QUALITY, Features(), Training()
    )
    return [round(float(score), 6) for score in made.read(made.seen(told.found)).levels[:, 0]]


def examples(rows: Sequence[Row]) -> Examples:
    """What the classifier learns from."""
    documents = [document(row["text"], {}) for row in rows]
    return marks.examples(
        documents, [Marks({"quality": int(row["label"])}) for row in rows], QUALITY, Features()
    )


def folds(labelled: Sequence[Row], count: int, folder: Path) -> list[Task]:
    """Tasks of a cross-validation; together their tests are all of the rows, fold by fold."""
    fold = np.random.default_rng(0).permutation(len(labelled)) % count
    tasks = []
    for number in range(count):
        parts = {
            "train": [row for row, one in zip(labelled, fold, strict=True) if one != number],
            "test": [row for row, one in zip(labelled, fold, strict=True) if one == number],
        }
        tasks.append(
            {name: write(rows, folder / f"{number}-{name}.jsonl") for name, rows in parts.items()}
        )
    return tasks


def teacher(good: Iterable[str], other: Iterable[str], test: Sequence[Row], folder: Path) -> Task:
    """The task of a weak teacher: as many good texts as others, twice at most."""
    others = list(other)
    picked = list(good)
    order = np.random.default_rng(0).permutation(len(picked))[: 2 * len(others)]
    rows = [{"text": picked[place], "label": 1} for place in order]
    rows += [{"text": text, "label": 0} for text in others]
    parts = {"train": rows, "test": test}
    return {name: write(rows, folder / f"teacher-{name}.jsonl") for name, rows in parts.items()}


def agreed(scores: Sequence[float], rows: Sequence[Row]) -> dict[str, Any]:
    """AUC and accuracy at a half, each with its interval of 95 %."""
    said, good = np.array(scores), np.array([int(row["label"]) for row in rows]) == 1
    right = agreement.estimate(lambda a, b: float((a == b).mean()), said > 0.5, good)
    return {"n": len(rows), "auc": agreement.estimate(agreement.auc, said, good), "accuracy": right}


def write(rows: Iterable[Row], path: Path) -> str:
    """Write the texts and labels of rows; the file's name."""
    with files.jsonl_writer(path) as put:
        for row in rows:
            put({name: row[name] for name in ("text", "label")})
    return str(path)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
