"""A peer: fastText learns labels of quality as DCLM taught it to; run by a Python that has it.

    settings: {"tasks": [{"train": FILE.jsonl, "test": FILE.jsonl}, ...], "threads": 1}

Words and pairs of words, as DCLM's classifier (Li et al., 2024, section 4.4), and the rate and the
epochs that fastText's tutorial comes to on a small set: its defaults are for hundreds of thousands
of texts, and learn nothing here. `pip install fasttext-numpy2-wheel`.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import fasttext

from benchmarks.turns import Turn

GOOD = "__label__1"


def main(settings: dict[str, Any]) -> None:
    """All of the tasks whenever it is told."""
    tasks = [{name: rows(path) for name, path in one.items()} for one in settings["tasks"]]
    turn = Turn()
    while True:
        turn.wait()
        scores = [scored(one["train"], one["test"], settings["threads"]) for one in tasks]
        turn.figures = {"documents": sum(map(len, scores)), "scores": scores}


def scored(train: list[Any], test: list[Any], threads: int) -> list[float]:
    """How probably each row of `test` is of quality."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"__label__{row['label']} {line(row['text'])}\n" for row in train)
        file.flush()
        model = fasttext.train_supervised(
            file.name, wordNgrams=2, lr=1.0, epoch=25, bucket=200_000, thread=threads, verbose=0
        )
    return [chance(model, line(row["text"])) for row in test]


def chance(model: Any, text: str) -> float:
    """The probability of the good label."""
    labels, chances = model.predict(text, k=2)
    return float(dict(zip(labels, chances, strict=True)).get(GOOD, 0.0))


def line(text: str) -> str:
    """A text in a line, as fastText reads them."""
    return " ".join(text.split())


def rows(path: str) -> list[Any]:
    """The rows of a file."""
    return [json.loads(found) for found in Path(path).read_bytes().splitlines()]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
