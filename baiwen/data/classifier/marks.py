"""Marks of documents: read from a file, as what a classifier learns from, and in three parts.

for row in read("labels.jsonl", rubric, {"quality": "label"}):
    row.id, row.document, row.marks
parts(documents, heldout=0.2, tuned=0.1, seed=0)["heldout"]
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from baiwen import files
from baiwen.data.classifier.features import Features, features
from baiwen.data.classifier.model import Scores
from baiwen.data.classifier.training import UNJUDGED, Examples
from baiwen.data.document import Document, document
from baiwen.data.rubric import Marks, Rubric, given
from baiwen.data.sample import draw
from baiwen.errors import UserError


class Labelled(NamedTuple):
    """A row of a file of marks."""

    id: str
    document: Document | None  # where the row has its text
    marks: Marks


def read(path: Path, rubric: Rubric, fields: Mapping[str, str]) -> Iterator[Labelled]:
    """The rows of a JSONL file; `fields`: how it calls a dimension, or the `domain`."""
    for number, row in enumerate(files.read_jsonl(path), start=1):
        place = f"{path}: row {number}"
        try:
            marks = given(rubric, {name: row.get(fields.get(name, name)) for name in rubric.names})
        except ValueError as error:
            raise UserError(f"{place}: {error}") from error
        yield Labelled(*_document(row, place), marks)


def examples(
    documents: Sequence[Document], said: Sequence[Marks], rubric: Rubric, look: Features
) -> Examples:
    """What a classifier learns from."""
    places = {one.name: place for place, one in enumerate(rubric.domains)}
    levels = [
        [marks.levels.get(one.name, one.least + UNJUDGED) - one.least for one in rubric.dimensions]
        for marks in said
    ]
    return Examples(
        features(pa.array([one.text for one in documents], pa.large_string()), look),
        np.array(levels, np.int64).reshape(len(said), len(rubric.dimensions)),
        np.array([places.get(marks.domain or "", UNJUDGED) for marks in said], np.int64),
    )


def parts(
    documents: Sequence[Document], heldout: float, tuned: float, seed: int
) -> dict[str, np.ndarray]:
    """The places of those to learn from, to tune on and to measure on, by hash of their family."""
    # Of a family that is the document's id `sample` took the lowest hashes: these are others.
    names = (f"part of {one.family}" for one in documents)
    shares = np.array([draw(name, seed) for name in names], np.uint64) / 2**64
    aside = shares < heldout
    tune = ~aside & (shares < heldout + tuned)
    masks = {"train": ~(aside | tune), "tune": tune, "heldout": aside}
    return {name: np.flatnonzero(mask) for name, mask in masks.items()}


def rows(scores: Scores, rubric: Rubric) -> Iterator[dict[str, Any]]:
    """What a classifier says of each text, by name, for JSON."""
    for levels, chances in zip(*scores, strict=True):
        named = zip(rubric.dimensions, levels, strict=True)
        row: dict[str, Any] = {one.name: round(float(level), 3) for one, level in named}
        if rubric.domains:
            best = int(chances.argmax())
            row["domain"] = rubric.domains[best].name
            row["probability"] = round(float(chances[best]), 3)
        yield row


def _document(row: Mapping[str, Any], place: str) -> tuple[str, Document | None]:
    """The id of a row, and its document."""
    text, name = row.get("text"), row.get("id")
    if isinstance(text, str):
        made = document(text, {}, None if name is None else str(name))
        return made.id, made
    if name is None:
        raise UserError(f"{place}: a row needs a string `text`, or the `id` of a document")
    return str(name), None
