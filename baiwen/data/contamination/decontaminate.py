"""Decontamination by the report's rule: n-gram candidates, then a longest common subsequence.

    find(table["text"], index, knobs)       # a `Match` or None for each text
    Map("decontaminate", partial(decontaminate, knobs=knobs, tests=files.fingerprint(paths)))

The report drops a training sequence s_t where a test sequence s_e has a longest common subsequence
with it of at least 13 tokens and at least 0.6 of the shorter one (spec 3.3), among those with an
n-gram in common; n is not reported. Three readings:

*   **Tokens are words** (`data/words.py`): what punctuation, white space and case make of a text is
    no difference, as in Math's normalisation. 13 words are about 18 tokens of Qwen2.5 in English,
    punctuation included, and about 15 in Chinese, of which each character counts as a word.
*   **A long document is compared where it hits.** A few thousand words hold most words of any short
    question in their order, so their subsequence says nothing. What is compared is the stretch of
    the document where most of the candidate's n-grams lie, `window` times as long as the test; the
    shorter of the two stays the shorter of test and whole document.
*   **Candidates have short n-grams.** With one word of ten changed, of a question's 13-grams often
    none is left, of its 5-grams more than half. Two of them in one stretch make a candidate;
    `gram = 13, hits = 1, whole = 13` is Math's rule.

Coder drops what shares any ten words in a row with a test: `overlap = 10`. Tests of fewer than 13
words, which the report's rule cannot find, are found where they stand whole.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from baiwen.config import Count, Inputs, Knobs
from baiwen.data.contamination.candidates import Candidate, candidates
from baiwen.data.contamination.evaluations import Evaluations, counted, leaves, read
from baiwen.data.contamination.index import Grams
from baiwen.data.contamination.subsequence import longest, matched, places
from baiwen.data.pipeline.step import VERDICT
from baiwen.data.words import Words, words
from baiwen.errors import UserError

COLUMNS = pa.schema([*VERDICT, ("test", pa.string()), ("common", pa.string())])
SUBSEQUENCE = "evaluation: common subsequence"
WHOLE = "evaluation: a short test, whole"
OVERLAP = "evaluation: words in a row"
KNOWN = 16  # places in tests that are remembered of an n-gram: see `Grams.of`
SHOWN = 400  # words of a test whose common text is shown
GAP = " ... "  # between what is not next to each other in the document


class Decontaminate(Knobs):
    """Against what, and what is too much."""

    against: Inputs  # files and folders of evaluations: JSONL, JSON, Parquet, text
    fields: tuple[str, ...] = ()  # of a row whose strings count; none named: all
    gram: Count = 5  # words of the n-grams that find candidates; report: not named; Math: 13
    hits: Count = 2  # of them in one stretch make a candidate; Math: 1
    least: Count = 13  # words of the common subsequence; report: 13 tokens
    share: Annotated[float, Field(gt=0, le=1)] = 0.6  # of the shorter one's words; report: 0.6
    # words of a test of fewer than `least` for which a document goes that has them in a row; the
    # report's rule cannot find these; Coder: any 10 words in a row
    whole: Count = 10
    # words of the stretch that is compared, for each word of the test; not reported: there are no
    # documents longer than a sequence in the report's rule
    window: Annotated[float, Field(ge=1)] = 1.5
    overlap: Annotated[int, Field(ge=0)] = 0  # words in a row that are too many; 0: any; Coder: 10

    @model_validator(mode="after")
    def _finds_every_test(self) -> Self:
        """No test of `whole` words or more is too short to be looked for."""
        fewest = self.gram + self.hits - 1
        if not fewest <= self.whole <= self.least:
            raise ValueError(
                f"whole: {self.whole} has to be between {fewest} and {self.least}: tests of fewer "
                "than gram + hits - 1 words have too few n-grams, and those of `least` words "
                "or more are found by their subsequence"
            )
        return self


@dataclass(frozen=True)
class Index:
    """Tests, and their n-grams of both kinds."""

    tests: Evaluations
    grams: Grams  # of candidates
    overlap: Grams | None  # of Coder's rule, where it is asked for


class Match(NamedTuple):
    """What a text has in common with a test."""

    rule: str
    value: float  # the share of the shorter one that is common; of OVERLAP the n-grams in common
    bound: float
    test: str  # its place
    common: str  # words of the text, with GAP where some between them are its own


def decontaminate(table: pa.Table, knobs: Decontaminate, tests: str) -> pa.Table:
    """The verdict on each document, and of those that go the test and the text in common.

    tests: the fingerprint of `knobs.against`; a process reads them once, unless they change.
    """
    found = find(table["text"], opened(knobs, tests), knobs)
    columns = zip(*[match or (None,) * 5 for match in found], strict=True) if found else [()] * 5
    return pa.table(list(map(pa.array, columns, COLUMNS.types)), schema=COLUMNS)


def coverage(knobs: Decontaminate) -> Iterator[str]:
    """How many tests are looked for, and of which files some are too short to be.

    UserError where none is: documents would pass as if they had been compared.
    """
    every = list(counted(knobs.against, knobs.fields, knobs.whole))
    rows, sought = sum(row[1] for row in every), sum(row[2] for row in every)
    if not sought:
        raise UserError(
            f"decontaminate.against: none of {rows:,} rows has whole = {knobs.whole} words, so "
            "nothing would be looked for: lower whole (with gram or hits), or name other files"
        )
    yield f"{sought:,} of {rows:,} rows of {len(every):,} evaluation files are looked for"
    for path, own, kept in every:
        if kept < own:
            yield f"{path}: {own - kept:,} of {own:,} rows have fewer than {knobs.whole} words"


@lru_cache(maxsize=2)
def opened(knobs: Decontaminate, tests: str) -> Index:
    """The index of `knobs.against`, whose fingerprint is `tests`."""
    return index(read(knobs.against, knobs.fields, knobs.whole, knobs.least), knobs)


def index(tests: Evaluations, knobs: Decontaminate) -> Index:
    """The index of evaluations."""
    overlap = Grams.of(tests, knobs.overlap, knobs.overlap, 1) if knobs.overlap else None
    return Index(tests, Grams.of(tests, knobs.gram, min(knobs.whole, knobs.least), KNOWN), overlap)


def find(
    texts: pa.ChunkedArray | pa.Array, index: Index, knobs: Decontaminate
) -> list[Match | None]:
    """For each text the first test that it may not be trained on for, or None."""
    batch = words(texts)
    found: list[Match | None] = [None] * len(texts)
    if index.overlap:
        _overlapping(found, batch, index.overlap, index.tests)
    for candidate in candidates(
        index.grams.hits(batch), index.tests.lengths, knobs.hits, knobs.window
    ):
        if found[candidate.text] is None:
            found[candidate.text] = _compared(candidate, batch, index.tests, knobs)
    return found


def said(messages: Sequence[Mapping[str, Any]]) -> str:
    """All that messages say as one text, for `find`: a test is often a question and its answer."""
    return "\n\n".join(text for message in messages for _, text in leaves(message))


def _overlapping(found: list[Match | None], batch: Words, grams: Grams, tests: Evaluations) -> None:
    """Fill in the texts that have any n-gram of a test."""
    hits = grams.hits(batch)
    text, first, counts = np.unique(hits.text, return_index=True, return_counts=True)
    for number, hit, count in zip(text, first, counts, strict=True):
        start = batch.bounds[number] + hits.at[hit]
        common = _shown(batch, np.arange(start, start + grams.n))
        place = tests.places[hits.sequence[hit]]
        found[number] = Match(OVERLAP, float(count), 0.0, place, common)


def _compared(
    candidate: Candidate, batch: Words, tests: Evaluations, knobs: Decontaminate
) -> Match | None:
    """What the rules say of a candidate."""
    first, last = batch.bounds[candidate.text : candidate.text + 2].tolist()
    test = tests.sequence(candidate.sequence).tolist()
    begin = max(first, first + candidate.start)
    end = min(last, first + candidate.start + math.ceil(knobs.window * len(test)))
    stretch = batch.hashes[begin:end].tolist()
    if len(test) < knobs.least:
        rule, shorter, bound, common = WHOLE, len(test), 1.0, _in_a_row(test, stretch)
    else:
        rule, shorter, bound = SUBSEQUENCE, min(last - first, len(test)), knobs.share
        common = _subsequence(test, stretch, max(knobs.least, math.floor(bound * shorter)))
    if not common or common / shorter < bound:
        return None
    shown = begin + np.array(matched(test[:SHOWN], stretch[: 2 * SHOWN]))
    place = tests.places[candidate.sequence]
    return Match(rule, common / shorter, bound, place, _shown(batch, shown))


def _in_a_row(test: list[int], stretch: list[int]) -> int:
    """The words of the test if they stand in the stretch with nothing between them, else 0."""
    size = len(test)
    starts = range(len(stretch) - size + 1)
    return size if any(stretch[start : start + size] == test for start in starts) else 0


def _subsequence(test: list[int], stretch: list[int], least: int) -> int:
    """The length of their longest common subsequence, 0 if it is less than `least`."""
    known = set(test)
    stretch = [word for word in stretch if word in known]
    if len(stretch) < least:
        return 0
    common = longest(places(test), stretch, len(test))
    return common if common >= least else 0


def _shown(batch: Words, chosen: np.ndarray) -> str:
    """The text of words of the batch, rising."""
    runs = np.split(chosen, np.flatnonzero(np.diff(chosen) > 1) + 1)
    spans = [batch.data[batch.starts[run[0]] : batch.ends[run[-1]]] for run in runs if len(run)]
    return GAP.join(span.tobytes().decode() for span in spans)
