"""Classifier: a language model judges a sample of documents, a fast classifier learns its marks.

    stage = "classifier"
    out = "runs/mine/classifier"
    data = ["runs/mine/data"]

    [endpoint]
    url = "http://127.0.0.1:8000/v1"

The report's filter has instruct models score documents along several dimensions and assign them to
domains (section 3.1); a corpus is too large for that, so what they say of a sample is distilled.
The judge is a model behind `[endpoint]`, one of our own in this process (`[local]`), or whoever
made the file `labels`. Writes

    classifier.json           the rubric, and how far the classifier agrees with its judge on
                              documents that it has not seen, by dimension and domain
    classifier.safetensors    its weights, for the step `classify` of the stage `data`
    marks.jsonl               {"id", DIMENSION: level, ..., "domain"}: what the judge said
    unread.jsonl              {"id", "why", "text"}: where it said nothing that could be read
    heldout.jsonl             {"id", "judge": {...}, "classifier": {...}} of those set aside

An answer is kept as soon as it has come: a run that was killed asks nothing twice.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from baiwen import endpoint, files, log
from baiwen.config import Count, Input, Knobs, Share
from baiwen.data import read, rubric
from baiwen.data.classifier import agreement, marks
from baiwen.data.classifier.features import Features
from baiwen.data.classifier.training import Training, fit
from baiwen.data.criteria import DIMENSIONS, DOMAINS
from baiwen.data.document import Document
from baiwen.data.rubric import Dimension, Domain, Marks, Rubric
from baiwen.data.sample import sample
from baiwen.endpoint import Bill, Endpoint
from baiwen.endpoint.answers import SPENT
from baiwen.engine import asked
from baiwen.engine.asked import Local
from baiwen.errors import UserError

Part = Annotated[float, Field(gt=0, lt=0.5)]

LEAST = 5  # documents of each part, below which nothing could be learned or measured
LETTERS = 4  # characters of a token, roughly, for the plan


class Config(Knobs):
    """Which documents, judged by whom, on what."""

    free: ClassVar = (*endpoint.FREE, "max_unread")
    out: Path  # the run folder
    data: tuple[Input, ...] = ()  # folders of the stage `data`, or files of documents
    documents: Count = 10_000  # that are judged; FineWeb-Edu: 450,000; report: unknown
    strata: tuple[str, ...] = ("domain",)  # fields of `meta`: as many documents of each
    endpoint: Endpoint | None = None  # the judge; report: Qwen2-Instruct models
    local: Local | None = None  # or one of our own, in this process
    labels: Input | None = None  # or a file of marks, whose rows have a `text`, or an `id` of data
    fields: dict[str, str] | None = None  # what `labels` calls a dimension, or `domain`
    dimensions: tuple[Dimension, ...] | None = None  # none: six of ours; report: several, unknown
    domains: tuple[Domain, ...] | None = None  # none: twenty, six of them the report's
    characters: Count = 6000  # of a document that the judge is shown, its head and its tail
    temperature: Annotated[float, Field(ge=0)] = 0.0  # of the judge; not reported
    max_tokens: Count = 256  # of an answer
    attempts: Count = 3  # times that the judge is asked until its answer can be read
    max_unread: Share = 0.2  # share of the documents without an answer, beyond which it stops
    cache: Path | None = None  # a folder of replies shared with other runs; none: this one's own
    features: Features = Features()
    training: Training = Training()
    tuned: Part = 0.1  # share of the documents that say when learning ends
    heldout: Part = 0.2  # share that agreement is measured on
    seed: int = 0  # of the sample and the split

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if sum(one is not None for one in (self.endpoint, self.local, self.labels)) != 1:
            raise ValueError("needs one judge: [endpoint], [local] or labels")
        if not self.data and self.labels is None:
            raise ValueError("data: which documents are to be judged?")
        for named in self.rubric:
            if len({one.name for one in named}) < len(named):
                raise ValueError("each of dimensions, and of domains, needs a name of its own")
        if not self.rubric.names:
            raise ValueError("needs dimensions or domains")
        if len(self.rubric.domains) == 1:
            raise ValueError("domains: one alone tells nothing apart")
        return self

    @property
    def rubric(self) -> Rubric:
        """What the judge is asked."""
        dimensions = DIMENSIONS if self.dimensions is None else self.dimensions
        return Rubric(dimensions, DOMAINS if self.domains is None else self.domains)


class Marked(NamedTuple):
    """Documents with what is said of them, and what is told of how that came about."""

    documents: Sequence[Document]
    marks: Sequence[Marks]
    about: dict[str, Any]


def run(config: Config, folder: files.RunFolder) -> None:
    """Sample, ask, learn, measure and write."""
    files.write(folder.path / "state" / "begun", "")  # from here on there is something to lose
    asks = config.rubric
    found = _given(config, asks) if config.labels else _judged(config, asks, folder.path)
    with files.jsonl_writer(folder.path / "marks.jsonl") as write:
        for one, said in zip(found.documents, found.marks, strict=True):
            write({"id": one.id, **said.row()})
    parts = marks.parts(found.documents, config.heldout, config.tuned, config.seed)
    _check_parts(found, parts)
    examples = marks.examples(found.documents, found.marks, asks, config.features)
    train, tune, heldout = (examples.take(part) for part in parts.values())
    made, losses = fit(train, tune, asks, config.features, config.training)
    scores = made.read(made.seen(heldout.found))
    with files.jsonl_writer(folder.path / "heldout.jsonl") as write:
        for place, row in zip(parts["heldout"], marks.rows(scores, asks), strict=True):
            judged = {"id": found.documents[place].id, "judge": found.marks[place].row()}
            write({**judged, "classifier": row})
    agrees = agreement.agreement(scores, heldout.levels, heldout.domains, asks)
    about = {
        "judge": found.about,
        "documents": {name: len(part) for name, part in parts.items()},
        "training": {"losses": losses, "words": len(made.words) - 1},
        "agreement": agrees,
    }
    made.save(folder.path, about)
    for line in agreement.lines(agrees):
        log.say(line)


def check(config: Config, to_come: Sequence[Path]) -> None:
    """Stop unless there are documents; what lies in `to_come` is not looked for."""
    for place in config.data:
        if not any(place.is_relative_to(folder) for folder in to_come):
            read.find([place])


def plan(config: Config) -> dict[str, str | int]:
    """How much is asked, and what it may cost."""
    if config.labels:
        return {}
    asks = config.rubric
    told = len(rubric.instruction(asks)) // LETTERS
    tokens = config.documents * (told + config.characters // LETTERS)
    said = config.documents * config.max_tokens
    found: dict[str, str | int] = {
        "documents": f"at most {config.documents:,}",
        "requests": f"{config.documents:,}, more where an answer cannot be read",
        "tokens": f"about {tokens:,} in, at most {said:,} out",
    }
    if config.endpoint and (config.endpoint.price_in or config.endpoint.price_out):
        bill = Bill(config.endpoint.price_in, config.endpoint.price_out)
        bill.prompt_tokens, bill.completion_tokens = tokens, said
        found["cost"] = f"at most {bill.cost:,.2f}"
    return found


# Marks.


def _judged(config: Config, asks: Rubric, out: Path) -> Marked:
    """The marks of a judge; what it leaves without any goes to `unread.jsonl`."""
    documents = _sample(config)
    source = config.endpoint or config.local
    assert source  # checked with the recipe
    sampling = {"temperature": config.temperature, "max_tokens": config.max_tokens}
    bill = Bill.of(config.endpoint) if config.endpoint else Bill()
    kept = (config.cache or out / "state") / "replies.jsonl"
    done, said, why = list[Document](), list[Marks](), Counter[str]()
    with (
        files.Ledger(kept) as cache,
        asked.opened(source) as ask,
        endpoint.telling(cache),
        files.jsonl_writer(out / "unread.jsonl") as write,
    ):
        answers = endpoint.answers(
            ask,
            ((rubric.asked(asks, one.text, config.characters), sampling) for one in documents),
            cache,
            source.concurrency,
            partial(rubric.read, asks),
            config.attempts,
            partial(rubric.again, asks),
            bill,
        )
        tracked = log.track(answers, "judge", len(documents), "documents")
        for one, answer in zip(documents, tracked, strict=True):
            if answer.value is None:
                write({"id": one.id, "why": answer.why, "text": answer.text})
                why["refused" if answer.refused else answer.why] += 1
            else:
                done.append(one)
                said.append(answer.value)
        name = ask.name
    log.say(f"{len(said):,} of {len(documents):,} documents marked; {bill.line()}")
    _check_unread(config, len(said), why)
    sampled = {"sample": len(documents), "unread": dict(why), "bill": bill.told()}
    return Marked(done, said, {"model": name, **sampled})


def _given(config: Config, asks: Rubric) -> Marked:
    """The marks of a file, whose rows have a text, or are those of documents of `data`."""
    assert config.labels
    rows = list(marks.read(config.labels, asks, config.fields or {}))
    wanted = {row.id for row in rows if not row.document}
    documents = (one for one in _documents(config) if one.id in wanted) if wanted else ()
    there = {one.id: one for one in documents}
    found = [(row.document or there.get(row.id), row.marks) for row in rows]
    some = [(one, said) for one, said in found if one and said.row()]
    if not some:
        raise UserError(
            f"{config.labels}: no row has a document and one of {', '.join(asks.names)}; name the "
            "fields of its marks in [fields], and in data where the documents of its ids are"
        )
    lost = {
        "without_document": sum(one is None for one, _ in found),
        "without_marks": sum(one is not None and not said.row() for one, said in found),
    }
    log.say(f"{len(some):,} of {len(rows):,} rows of {config.labels} are marks of a document")
    about = {"labels": str(config.labels), "rows": len(rows), **lost}
    return Marked([one for one, _ in some], [said for _, said in some], about)


def _sample(config: Config) -> list[Document]:
    def documents() -> Iterator[Document]:
        return log.track(_documents(config), "read", unit="documents")

    chosen = sample(documents, config.documents, config.strata, config.seed)
    if not chosen:
        raise UserError(f"data: {', '.join(map(str, config.data))} has no document with a text")
    return chosen


def _documents(config: Config) -> Iterator[Document]:
    return read.documents(read.find(config.data))


def _check_unread(config: Config, marked: int, why: Mapping[str, int]) -> None:
    unread = sum(n for reason, n in why.items() if reason != SPENT)
    if unread > config.max_unread * (marked + unread):
        told = ", ".join(f"{reason} {n:,}" for reason, n in why.items())
        raise UserError(
            f"{unread:,} of {marked + unread:,} documents have no marks ({told}), more than "
            f"max_unread = {config.max_unread:g}. What the judge said stands in unread.jsonl: "
            "raise the knob, or take a better judge, max_tokens or attempts in another `out`"
        )


def _check_parts(found: Marked, parts: Mapping[str, np.ndarray]) -> None:
    for name, part in parts.items():
        if len(part) < LEAST:
            raise UserError(
                f"{len(found.marks):,} documents have marks, of which {len(part)} are in the part "
                f"{name!r}: at least {LEAST} are needed. Judge more (documents, data)"
            )
