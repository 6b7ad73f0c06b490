"""A peer: datatrove's filters, each over all documents of a file; run by a Python that has it.

    settings: {"documents": FILE.jsonl, "filters": [NAME, ...], "threads": 1}

English words are spaCy's, without a model: `pip install datatrove[processing] spacy`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)

from benchmarks.turns import Turn

FILTERS = {
    "gopher quality": GopherQualityFilter,
    "gopher repetition": GopherRepetitionFilter,
    "c4": C4QualityFilter,
    "fineweb": FineWebQualityFilter,
}


def main(settings: dict[str, Any]) -> None:
    """All of the filters over all of the documents whenever it is told."""
    lines = Path(settings["documents"]).read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    filters = {name: FILTERS[name]() for name in settings["filters"]}
    turn = Turn()
    while True:
        turn.wait()
        dropped = {name: judged(one, texts) for name, one in filters.items()}
        turn.figures = {"documents": len(texts), "dropped": dropped}


def judged(one: Any, texts: list[str]) -> dict[str, str]:
    """The reason for each document that goes, by its place."""
    reasons = {}
    for place, text in enumerate(texts):
        stays = one.filter(Document(text=text, id=str(place)))  # C4's changes the text: a copy
        if stays is not True:
            reasons[str(place)] = stays[1] if stays else "dropped"
    return reasons


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
