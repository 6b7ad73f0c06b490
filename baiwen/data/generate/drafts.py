"""A draft: a reply on its way to a document, with the verdict that ended it where one has.

    drafts = formed(answered)                # each step takes drafts and gives them, in order
    for draft in sieve.distinct(drafts, ...):
        draft.verdict                        # None: it is a document

A step looks at those without a verdict, and hands on the others as they are, so that what was
refused is written beside what was kept.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import xxhash

from baiwen.data.document import PROSE, Document, document
from baiwen.data.generate.prompts import Prompt, Seed
from baiwen.endpoint import Messages, Reply, Sampling

MODEL = "model"  # the step of those that got no reply that can be read
BATCH = 64  # drafts that a step looks at together


class Refusal(NamedTuple):
    """Why a draft is no document."""

    step: str
    rule: str
    value: float | None = None  # what was measured
    bound: float | None = None  # what it should have kept to


@dataclass(frozen=True)
class Draft:
    """A reply, and what has become of it."""

    prompt: Prompt
    seed: Seed
    messages: Messages
    sampling: Sampling
    reply: Reply | None  # None: there is none
    model: str
    parts: Mapping[str, str] = field(default_factory=dict)  # what was read out of it
    text: str = ""  # of the document
    scores: Mapping[str, float] = field(default_factory=dict)
    verdict: Refusal | None = None

    def refused(self, step: str, rule: str, *figures: float | None) -> "Draft":
        """The same, ended."""
        return replace(self, verdict=Refusal(step, rule, *figures))

    def scored(self, name: str, score: float) -> "Draft":
        """The same with a further score, as "STEP.column"."""
        return replace(self, scores={**self.scores, name: score})

    @property
    def source(self) -> tuple[str, str, int]:
        """Which drafts are samples of one request."""
        return self.prompt.name, self.seed.id, self.seed.round

    def document(self) -> Document:
        """What it is written as: of the family of its seed, so that a split never parts them."""
        seed, prompt = self.seed, self.prompt
        domain = prompt.domain or seed.meta.get("domain") or PROSE
        code = prompt.form == "exercise"
        known = {
            "license": seed.meta.get("license"),
            "domain": domain,
            "language": "python" if code else prompt.language,
            "family": seed.meta.get("family"),
            "scores": {**self.scores} or None,
        }
        lineage = {
            "parents": [seed.id],
            "prompt": prompt.name,
            "prompt_digest": digest(prompt.text),
            "model": self.model,
            "seed": self.sampling.get("seed"),
            "sampling": {**self.sampling},
        }
        told = {name: value for name, value in known.items() if value is not None}
        raw = self.reply.text if self.reply else ""
        # Named by all that was asked. Of what could not be read, the reply itself is kept.
        asked = [*self.source, self.model, self.messages, lineage["sampling"]]
        name = json.dumps(asked, sort_keys=True)
        meta = {"source": f"generate/{prompt.name}", **told, "lineage": lineage}
        return document(self.text or raw, meta, digest(name))

    def row(self) -> dict[str, Any]:
        """The line of `dropped`: the document that it is none, and why."""
        assert self.verdict is not None
        return {**self.document().row(), "verdict": self.verdict._asdict()}


def digest(text: str) -> str:
    """Names a text by its content."""
    return xxhash.xxh3_128_hexdigest(text.encode())


def apply(
    drafts: Iterable[Draft], step: Callable[[Sequence[Draft]], Sequence[Draft]]
) -> Iterator[Draft]:
    """The drafts after a step, which is given those without a verdict, a batch at a time."""
    for batch in batched(drafts):
        found = iter(step([draft for draft in batch if not draft.verdict]))
        yield from (draft if draft.verdict else next(found) for draft in batch)


def batched(drafts: Iterable[Draft]) -> Iterator[list[Draft]]:
    """Batches of about `BATCH`, none of which ends between the samples of a request."""
    batch: list[Draft] = []
    for _, group in itertools.groupby(drafts, key=lambda draft: draft.source):
        batch += group
        if len(batch) >= BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
