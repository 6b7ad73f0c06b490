"""Documents, filtered, without duplicates, split and parted by domain (report, section 3.1).

Reads the corpus (the standard library of the Python that runs it, or files, folders and globs of
your own) and extra documents. Writes, in its folder,

    documents-DOMAIN-00000.jsonl.zst    {"id", "text", "meta"}: to train on
    heldout.jsonl.zst                   to measure on, chosen by hash
    dropped.jsonl.zst                   the rest, each with the reason
    data.json                           how many documents and bytes became what

This is the short way: exact duplicates and published heuristics, no classifier.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from baiwen import files, log
from baiwen.config import Input, Knobs
from baiwen.data import clean, corpus, read
from baiwen.data.filters import Settings, known
from baiwen.data.read import Chunk
from baiwen.data.split import HeldOut
from baiwen.errors import UserError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^\w[\w.]*$")]


class Extra(Knobs):
    """Further documents that are a source of their own."""

    name: Name  # of the source in the mixture
    path: Input  # a file or folder of documents
    filtered: bool = False  # whether the heuristic filters judge them too


class Config(Knobs):
    """What to read and what to keep of it."""

    out: Path  # the run folder
    corpus: str | tuple[str, ...] = "stdlib"  # "stdlib", or paths, folders and globs
    extra: tuple[Extra, ...] = ()  # further sources, each with a name and a path
    # Thresholds of filters (baiwen/data/filters/) by name, or false for off; all others run with
    # their published ones.
    filters: dict[str, dict[str, float] | bool] | None = None
    heldout_share: Share = 0.02  # of the documents, by hash
    heldout_bytes: Annotated[int, Field(ge=0)] = 4 << 20  # bytes of text held out at most
    max_bytes: Count | None = None  # bytes of text of the corpus; none: all
    max_unreadable: Share = 0.01  # share of documents that may be unreadable and dropped
    workers: Annotated[int, Field(ge=0)] = 0  # processes; 0: one a core

    @field_validator("filters")
    @classmethod
    def _known(cls, value: Settings | None) -> Settings | None:
        return known(value) if value else value


def run(config: Config, folder: files.RunFolder) -> None:
    """Read, filter, split and write the documents."""
    for stale in folder.path.glob("documents-*.jsonl.zst"):
        stale.unlink()
    settings = config.filters or {}
    own = clean.judged(_corpus(config), settings, config.workers)
    extra = clean.judged(_extra(config), settings, config.workers)
    documents = itertools.chain(clean.limited(own, config.max_bytes), extra)
    heldout = HeldOut(config.heldout_share, config.heldout_bytes)
    counts = clean.write(log.track(documents, "data", unit="documents"), folder.path, heldout)
    counts.check_unreadable(config.max_unreadable)
    counts.check_kept([clean.CORPUS, *(extra.name for extra in config.extra)])
    files.write_json(folder.path / "data.json", counts.table())
    _report(counts)


def check(config: Config, to_come: Sequence[Path]) -> None:
    """Stop unless the corpus is there; what lies in the folders `to_come` is not looked for."""
    for place in _places(config):
        later = any(Path(place).is_relative_to(folder) for folder in to_come)
        if place != corpus.NAME and not later:
            try:
                read.find([place])
            except UserError as error:
                raise UserError(f"corpus: {error}") from error


def reads(config: Config) -> dict[str, list[Path]]:
    """The files of the corpus, where it is not the standard library."""
    places = [place for place in _places(config) if place != corpus.NAME]
    try:
        return {"corpus": read.find(places)} if places else {}
    except UserError:
        return {}  # gone since the run, or not there yet: `check` tells where it has to be


def plan(config: Config) -> dict[str, str | int]:
    """How much there is to read."""
    paths = [path for extra in config.extra if extra.path.exists() for path in _paths(extra)]
    places = _places(config)
    if corpus.NAME in places:
        paths += corpus.modules()
    try:
        paths += read.find(place for place in places if place != corpus.NAME)
    except UserError as error:
        return {"files": f"unknown: {error}"}
    return {"files": len(paths), "bytes on disk": sum(path.stat().st_size for path in paths)}


def _corpus(config: Config) -> Iterator[Chunk]:
    for place in _places(config):
        yield from corpus.chunks() if place == corpus.NAME else read.chunks(read.find([place]))


def _extra(config: Config) -> Iterator[Chunk]:
    for extra in config.extra:
        for chunk in read.chunks(_paths(extra)):
            yield replace(chunk, domain=extra.name, filtered=extra.filtered)


def _paths(extra: Extra) -> list[Path]:
    return read.find([extra.path])


def _places(config: Config) -> tuple[str, ...]:
    return (config.corpus,) if isinstance(config.corpus, str) else config.corpus


def _report(counts: clean.Counts) -> None:
    for outcome, domains in counts.table().items():
        documents = sum(count["documents"] for count in domains.values())
        size = sum(count["bytes"] for count in domains.values())
        parts = ", ".join(f"{name} {count['documents']:,}" for name, count in domains.items())
        log.say(f"{outcome}: {documents:,} documents, {size / 1e6:.1f} MB ({parts})")
