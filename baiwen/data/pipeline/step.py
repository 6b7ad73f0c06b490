"""A step of a pipeline: a pure function of Arrow tables of documents.

    Map("gopher", partial(heuristics, settings=...))        # one part at a time, in any process
    Global("near", partial(near_duplicates, knobs=...))     # all documents have to meet

A step is handed the documents that are still there (it may be none), with `id` and the columns
that it `reads`: those of `COLUMNS`, the `bytes` of the text, or those of an earlier step as
"STEP.column". It gives a table of as many rows in the same order, whose columns mean

    rule, value, bound    the verdict: `rule` (null: the document stays) is why it goes, `value`
                          what was measured and `bound` what would have been right (`verdicts`)
    text domain language  what the document's own becomes from here on; null: as it was
    any other             the step's own finding, kept beside the documents (the `scores`)

Expensive steps find (`classify.educational`), cheap ones decide by what was found: so another
threshold costs nothing. Functions are picklable (a module's top level, or `partial` of one), depend
on nothing but what they are given, and import no torch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import pyarrow as pa

COLUMNS = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("domain", pa.string()),  # `meta.domain`; "prose" where there is none
        ("language", pa.string()),  # `meta.language`, an ISO 639-1 code; null where unknown
        ("source", pa.string()),  # "corpus", or the name of extra documents
        ("family", pa.string()),  # what it shares with the others of the same original
        ("meta", pa.string()),  # all of `meta`, as JSON
    ]
)
VERDICT = pa.schema([("rule", pa.string()), ("value", pa.float64()), ("bound", pa.float64())])


class Verdict(NamedTuple):
    """Why a document goes."""

    rule: str  # "gopher: too few words": a name from the literature where there is one
    value: float | None = None  # what was measured
    bound: float | None = None  # what it should have kept to


@dataclass(frozen=True)
class Map:
    """A step that needs no other document than the one it looks at."""

    name: str
    function: Callable[[pa.Table], pa.Table]
    reads: tuple[str, ...] = ("text",)  # columns it is handed, beside `id`
    files: tuple[Path, ...] = ()  # that it reads and no knob of `Input` names


class Parts(Protocol):
    """All documents that are still there, a table a part; read from the disk when asked for."""

    def __len__(self) -> int:
        """How many parts there are."""

    def table(self, part: int, columns: Sequence[str]) -> pa.Table:
        """`id` and these columns of a part's documents that are still there, in their order."""

    def rows(self, part: int, places: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """The same of those at `places` in that table, rising."""


@dataclass(frozen=True)
class Global:
    """A step for which all documents have to meet; runs in one process, over columns of all."""

    name: str
    function: Callable[[Parts], Iterator[pa.Table]]  # a table for each part, in order
    reads: tuple[str, ...] = ()  # columns that it may ask for


Step = Map | Global


def verdicts(found: Sequence[Verdict | None]) -> pa.Table:
    """The three columns of a verdict on each document; None: it stays."""
    rows = [verdict or (None, None, None) for verdict in found]
    columns = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(VERDICT)]
    return pa.table(columns, schema=VERDICT)
