"""Recall of mathematics, code or anything else from general text (report, 3.1; spec 3.2).

    stage = "recall"
    out = "runs/mine/math"
    name = "math"
    about = "mathematics: problems with solutions, proofs, derivations, explanations"
    seeds = ["seeds/*.jsonl.zst"]          # documents of the kind
    corpus = ["runs/mine/data"]            # a data stage's folder, or files of documents
    labels = "labels.jsonl"                # {"id", "label": true}: what some documents are

Each round teaches a classifier the seeds and what was found against a sample of the rest. From the
best scores on it takes documents as long as they are precise, then all of the sources of which
enough was found. Precise is what enough of is of the kind: by the judge of `[endpoint]`, on a
sample, or by the labels. The recall ends where a round finds next to nothing more. Writes

    documents-NAME-00000.jsonl.zst     as the data stage does, with `meta.recall`
    data.json                          how many documents and bytes
    recall.json                        every round: what was found, how precisely, from where
    rounds/1/ ...                      found.parquet, round.json, and classifier/

A round that is finished is not done again.
"""

import heapq
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from baiwen import endpoint, files, log
from baiwen.config import Input
from baiwen.data import read, rubric
from baiwen.data.executor import ordered
from baiwen.data.recall.corpus import Corpus, Storing, key, store
from baiwen.data.recall.learning import OTHER
from baiwen.data.recall.search import TOLD, Count, Judge, Rounds, Search, Seeds
from baiwen.data.rubric import Domain, Rubric
from baiwen.data.writers import FILE_BYTES, source_name
from baiwen.endpoint import Bill, Endpoint
from baiwen.engine import asked
from baiwen.engine.asked import Local
from baiwen.errors import UserError
from baiwen.eval.statistics import proportion

SPIES = 10  # one of so many seeds is never learned from
SOURCES = 100  # that recall.json names
ELSE = "anything else"
SAMPLING = {"temperature": 0.0, "max_tokens": 200}  # of the judge


class Config(Rounds):
    """What to look for, and in what."""

    free: ClassVar = endpoint.FREE
    out: Path  # the run folder
    seeds: Annotated[tuple[str, ...], Field(min_length=1)]  # documents of the kind: paths, globs
    corpus: Annotated[tuple[str, ...], Field(min_length=1)]  # folders of data stages, or paths
    labels: Input | None = None  # rows {"id", "label"} of some of the corpus; measured, not learned
    endpoint: Endpoint | None = None  # a judge of a sample of what is found
    local: Local | None = None  # or one of our own, in this process
    about: str = ""  # what is of the kind, in words, for the judge
    characters: Count = 4000  # of a document that it is shown
    source_depth: Count = 1  # pieces of a URL, or of `meta.source`, that name a source; 1: the host
    rest: bool = False  # write all other documents too, so that `out` stands for the corpus

    @model_validator(mode="after")
    def _one_judge(self) -> Self:
        if self.endpoint and self.local:
            raise ValueError("has two judges: give [endpoint] or [local]")
        return self


def run(config: Config, folder: files.RunFolder) -> None:
    """Recall round by round, then write what was found."""
    state = folder.path / "state"
    corpus = _corpus(config, state / "parts")
    with _judge(config, state) as judge:
        search = Search(config, corpus, _seeds(config), _labels(config, corpus), _share, judge)
        rounds: list[dict[str, Any]] = []
        while not rounds or rounds[-1]["end"] is None:
            home = folder.path / "rounds" / str(len(rounds) + 1)
            if not (home / TOLD).is_file():
                scores, least = search.scores(home, state)
                search.decide(scores, least, home)
            search.add(home)
            rounds.append(files.read_json(home / TOLD))
            log.say(_told(rounds[-1]))
    if not rounds[-1]["found"]:
        raise UserError(
            f"not one document of the corpus was found to be {config.name}: what the first round "
            "looked at was not as precise as `precision` wants, or not as like the seeds as the "
            f"spies are ({home / TOLD} has the figures). Give seeds that are more like it, or "
            "labels or an endpoint; or lower these."
        )
    kept = _write(config, search, folder.path)
    files.write_json(folder.path / "data.json", {"kept": kept})
    size = {"documents": len(corpus), "unreadable": corpus.unreadable}
    table = {"name": config.name, "corpus": size, "rounds": rounds, "sources": _sources(search)}
    files.write_json(folder.path / "recall.json", table)


def check(config: Config, to_come: Sequence[Path]) -> None:
    """Stop unless seeds and corpus are there; what lies in `to_come` is not looked for."""
    for knob in ("seeds", "corpus"):
        for place in getattr(config, knob):
            if not any(Path(place).is_relative_to(folder) for folder in to_come):
                try:
                    read.find([place])
                except UserError as error:
                    raise UserError(f"{knob}: {error}") from error


def reads(config: Config) -> dict[str, list[Path]]:
    """The files of the seeds and of the corpus."""
    try:
        return {knob: read.local(read.find(getattr(config, knob))) for knob in ("seeds", "corpus")}
    except UserError:
        return {}  # gone since the run, or not there yet: `check` tells where it has to be


def _corpus(config: Config, folder: Path) -> Corpus:
    """The corpus as parts of its own, each made once."""
    chunks = read.chunks(read.find(config.corpus))
    tasks = (
        Storing(chunk, folder / f"{number:07}.parquet", config.source_depth)
        for number, chunk in enumerate(chunks)
    )
    for _ in log.track(ordered(store, tasks, config.workers), "read", unit="parts"):
        pass
    corpus = Corpus.open(folder)
    flaws = f"{corpus.unreadable:,} could not be read, the first: {corpus.first}"
    unreadable = f"; {flaws}" if corpus.unreadable else ""
    if not len(corpus):
        raise UserError(f"corpus: there is no document in {', '.join(config.corpus)}{unreadable}")
    log.say(f"corpus: {len(corpus):,} documents of {len(corpus.sources):,} sources{unreadable}")
    return corpus


def _seeds(config: Config) -> Seeds:
    """The seeds' texts, each once, drawn by their hashes: to learn from, and the spies."""
    drawn: dict[int, str] = {}
    for found in read.documents(read.find(config.seeds)):
        drawn[key(found.text)] = found.text
        if len(drawn) == 2 * config.examples:  # only the lowest matter
            drawn = {number: drawn[number] for number in heapq.nsmallest(config.examples, drawn)}
    chosen = [drawn[number] for number in sorted(drawn)[: config.examples]]
    spies = len(chosen) // SPIES
    if not spies:
        raise UserError(
            f"seeds: {len(chosen)} different documents are too few: at least {SPIES} are needed"
        )
    return Seeds(chosen[spies:], chosen[:spies])


def _labels(config: Config, corpus: Corpus) -> np.ndarray:
    """What is known of each document: 1 it is of the kind, 0 it is not, -1 nothing. int8 [n]."""
    found = np.full(len(corpus), -1, np.int8)
    if config.labels is None:
        return found
    rows = list(files.read_jsonl(config.labels))
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("label"), bool) or not isinstance(row.get("id"), str):
            raise UserError(
                f"{config.labels}: row {number} needs a string `id`, a `label` true/false"
            )
    keys = np.array([key(row["id"]) for row in rows], np.uint64)
    order = np.argsort(corpus.keys, kind="stable")
    first = np.searchsorted(corpus.keys, keys, "left", sorter=order)
    last = np.searchsorted(corpus.keys, keys, "right", sorter=order)
    for row, start, stop in zip(rows, first, last, strict=True):
        found[order[start:stop]] = row["label"]
    if not (found >= 0).any():
        raise UserError(f"{config.labels}: none of its ids is that of a document of the corpus")
    return found


@contextmanager
def _judge(config: Config, state: Path) -> Iterator[Judge | None]:
    """What says of texts whether they are of the kind, if there is a judge; asked once each."""
    source = config.endpoint or config.local
    if source is None:
        yield None
        return
    kinds = Domain(name=config.name, about=config.about), Domain(name=OTHER, about=ELSE)
    marks, bill = Rubric((), kinds), Bill.of(config.endpoint) if config.endpoint else Bill()
    with (
        files.Ledger(state / "said.jsonl") as said,
        endpoint.telling(said),
        asked.opened(source) as ask,
    ):

        def judge(texts: Sequence[str]) -> list[bool | None]:
            requests = ((rubric.asked(marks, text, config.characters), SAMPLING) for text in texts)
            answers = endpoint.answers(
                ask,
                requests,
                said,
                source.concurrency,
                partial(rubric.read, marks),
                again=partial(rubric.again, marks),
                bill=bill,
            )
            found = list(log.track(answers, "judge", len(texts), "texts"))
            if all(answer.value is None for answer in found):
                raise UserError(f"endpoint: the judge gives no answer: {found[0].why}")
            told = [answer.value for answer in found]
            return [None if one is None else one.domain == config.name for one in told]

        yield judge
        log.say(f"judge: {bill.line()}")


def _write(config: Config, search: Search, folder: Path) -> dict[str, dict[str, int]]:
    """Write what was found, and the others where they are wanted; counts by source."""
    for stale in folder.glob("documents-*.jsonl.zst"):
        stale.unlink()
    corpus, found = search.corpus, search.round > 0
    groups = {config.name: found}
    for code, domain in enumerate(corpus.domains if config.rest else ()):
        name, rest = source_name(domain), (corpus.domain == code) & ~found
        groups[name] = groups.get(name, False) | rest
    counts = {}
    for name, chosen in groups.items():
        places = np.flatnonzero(chosen)
        numbers = corpus.bytes[places].cumsum() // FILE_BYTES
        cuts = np.flatnonzero(np.diff(numbers)) + 1
        for number, own in enumerate(np.split(places, cuts) if len(places) else ()):
            path = folder / f"documents-{name}-{number:05}.jsonl.zst"
            with files.jsonl_writer(path) as put:
                for row in search.documents(own):
                    put(row)
        counts[name] = {"documents": len(places), "bytes": int(corpus.bytes[places].sum())}
    return counts


def _sources(search: Search) -> list[dict[str, Any]]:
    """The sources that gave most documents, and how many of theirs these are."""
    known = search.corpus.source >= 0
    size = len(search.corpus.sources)
    there = np.bincount(search.corpus.source[known], minlength=size)
    found = np.bincount(search.corpus.source[known & (search.round > 0)], minlength=size)
    order = np.argsort(-found, kind="stable")[:SOURCES]
    return [
        {"source": search.corpus.sources[i], "documents": int(there[i]), "found": int(found[i])}
        for i in order
        if found[i]
    ]


def _share(right: int, count: int) -> dict[str, Any]:
    return asdict(proportion(right, count))


def _told(row: dict[str, Any]) -> str:
    """A round in one line."""
    parts = [f"round {row['round']}: {row['fresh']:,} more, {row['found']:,} found"]
    for name in ("precision", "recall"):
        if row[name]:
            parts.append(f"{name} {row[name]['value']:.1%} of {row[name]['n']:,} with labels")
    judged = [band["judged"] for bands in row["ways"].values() for band in bands if band["judged"]]
    if judged:
        seen = sum(one["n"] for one in judged)
        right = sum(one["n"] * one["value"] for one in judged)
        parts.append(f"the judge agrees with {right / seen:.1%} of {seen:,}")
    return ", ".join(parts) + (f"; end: {row['end']}" if row["end"] else "")
