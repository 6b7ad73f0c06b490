"""Peers: fastText scores all documents of a file, by itself or in datatrove's filter.

    settings: {"documents": FILE.jsonl, "way": "fasttext" or "datatrove", "characters": 2000,
               "threads": 1}        # characters of each document; null: all

One head of twenty labels, dimension 64, words and pairs of words, as findings/data.md, D3, has it;
the labels mean nothing. `pip install datatrove fasttext-numpy2-wheel fasteners`.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fasttext

from benchmarks.turns import Turn

LABELS = 20


def main(settings: dict[str, Any]) -> None:
    """All of the documents whenever it is told."""
    lines = Path(settings["documents"]).read_bytes().splitlines()
    texts = [json.loads(line)["text"][: settings["characters"]] for line in lines]
    with tempfile.TemporaryDirectory() as folder:
        judge = WAYS[settings["way"]](learned(texts, Path(folder)))
        turn = Turn()
        while True:
            turn.wait()
            turn.figures = {"documents": len(texts), "kept": sum(map(judge, texts))}


def learned(texts: list[str], folder: Path) -> str:
    """A model of the texts; its file."""
    train = folder / "train.txt"
    rows = (
        f"__label__{place % LABELS} {' '.join(text.split())}" for place, text in enumerate(texts)
    )
    train.write_text("\n".join(rows), encoding="utf-8")
    model = fasttext.train_supervised(
        str(train), dim=64, wordNgrams=2, bucket=200_000, epoch=1, thread=1, verbose=0
    )
    model.save_model(str(folder / "model.bin"))
    return str(folder / "model.bin")


def alone(path: str) -> Callable[[str], bool]:
    """FastText's own prediction."""
    model = fasttext.load_model(path)
    return lambda text: model.predict(text.replace("\n", " "))[0][0] == "__label__0"


def filtered(path: str) -> Callable[[str], bool]:
    """datatrove's filter around it."""
    from datatrove.data import Document  # noqa: PLC0415 - fastText alone needs no datatrove
    from datatrove.pipeline.filters import FastTextClassifierFilter  # noqa: PLC0415

    made = FastTextClassifierFilter(path, keep_labels=("0", 0.5), newline_replacement=" ")
    return lambda text: bool(made.filter(Document(text=text, id="")))


WAYS = {"fasttext": alone, "datatrove": filtered}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
