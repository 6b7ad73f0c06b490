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

FILTERS = {  # the filters of each name, of which the first to drop a document decides
    "all": (GopherQualityFilter, GopherRepetitionFilter, C4QualityFilter),
    "gopher quality": (GopherQualityFilter,),
    "gopher repetition": (GopherRepetitionFilter,),
    "c4": (C4QualityFilter,),
    "fineweb": (FineWebQualityFilter,),
}


def main(settings: dict[str, Any]) -> None:
    """All of the filters over all of the documents whenever it is told."""
    lines = Path(settings["documents"]).read_bytes().splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    size = sum(len(text.encode()) for text in texts)
    filters = {name: [one() for one in FILTERS[name]] for name in settings["filters"]}
    turn = Turn()
    while True:
        turn.wait()
        dropped = {name: judged(some, texts) for name, some in filters.items()}
        turn.figures = {"documents": len(texts), "bytes": size, "dropped": dropped}


def judged(filters: list[Any], texts: list[str]) -> dict[str, str]:
    """The reason for each document that goes, by its place."""
    reasons = {str(place): reason(filters, text) for place, text in enumerate(texts)}
    return {place: found for place, found in reasons.items() if found}


def reason(filters: list[Any], text: str) -> str | None:
    """Why the first of the filters that objects drops a text."""
    document = Document(text=text, id="")
    for one in filters:
        stays = one.filter(document)
        if stays is not True:
            return str(stays[1]) if stays else "dropped"
    return None


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
