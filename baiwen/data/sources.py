"""Sources: the places where the documents of a corpus are; one of them may be `corpus.NAME`.

check(("stdlib", "books/*.jsonl.zst"), to_come=[])
for chunk in chunks(("stdlib", "books/*.jsonl.zst"), Reading()): ...
for chunk in extra(Path("tasks.jsonl"), "tasks", Reading()): ...      # of the domain "tasks"
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from baiwen.data import corpus, read
from baiwen.data.read import Chunk, Place, Reading
from baiwen.errors import UserError


def chunks(places: Sequence[str], reading: Reading) -> Iterator[Chunk]:
    """The documents of a corpus, place by place; a file in two of them is read once."""
    seen: set[Place] = set()
    for place in places:
        if place == corpus.NAME:
            yield from corpus.chunks()
        else:
            found = [path for path in read.find([place]) if path not in seen]
            yield from read.chunks(found, reading=reading)
            seen.update(found)


def extra(path: Path, name: str, reading: Reading) -> Iterator[Chunk]:
    """The documents of a path, all of one domain."""
    for chunk in read.chunks(read.find([path]), reading=reading):
        yield replace(chunk, domain=name)


def check(places: Sequence[str], to_come: Sequence[Path]) -> None:
    """Stop unless all are there; what lies in the folders `to_come` is not looked for."""
    for place in _elsewhere(places):
        if not any(Path(place).is_relative_to(folder) for folder in to_come):
            try:
                read.find([place])
            except UserError as error:
                raise UserError(f"corpus: {error}") from error


def local(places: Sequence[str]) -> list[Path]:
    """The files of this machine, without the standard library's; none if a place is not there."""
    try:
        return read.local(read.find(_elsewhere(places)))
    except UserError:
        return []  # gone since the run, or not there yet: `check` tells where it has to be


def plan(places: Sequence[str], extra: Sequence[Path]) -> dict[str, str | int]:
    """How much there is to read."""
    paths = read.find([path for path in extra if path.exists()])
    if corpus.NAME in places:
        paths += corpus.modules()
    try:
        paths += read.find(_elsewhere(places))
    except UserError as error:
        return {"files": f"unknown: {error}"}
    return {"files": len(paths), "bytes on disk": sum(read.size(path) or 0 for path in paths)}


def _elsewhere(places: Sequence[str]) -> list[str]:
    return [place for place in places if place != corpus.NAME]
