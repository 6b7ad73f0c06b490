"""Repeated lines: what the corpus has said before is taken out of texts.

    steps = [..., "lines", ...]
    [lines]
    unit = "paragraph"
    most = 1

Of lines or paragraphs with the same words all but the first `most` of the corpus go, in the order
of its documents: menus, notices and disclaimers, which CCNet (Wenzek et al., 2020, section 3.1)
takes out by paragraphs of a shard and C4 (Raffel et al., 2020, section 2.2) by spans of three
sentences. Shorter ones than `least` words stay, and so do those of code, where a repeated line is
no waste. A document of which nothing is left but white space goes.

What is counted is 8 bytes for each line that is long enough: those whose hashes share their first
bits are sorted at a time, and a line that goes is a bit of memory.
"""

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from baiwen.config import Knobs
from baiwen.data.dedup.spill import Spill
from baiwen.data.document import CODE
from baiwen.data.pipeline.step import VERDICT, Global, Map, Parts
from baiwen.data.words import mixed, slices, utf8, words

RULE = "lines: nothing left"
HASHES = "units.hashes"
SORTED = 1 << 26  # hashes sorted at a time: 1 GiB of memory
NONE = 0  # the hash of a line that always stays
FOUND = pa.schema([*VERDICT, ("text", pa.large_string()), ("removed", pa.int64())])

Unit = Literal["line", "paragraph"]


class Lines(Knobs):
    """Lines or paragraphs that come again are taken out."""

    unit: Unit = "line"  # what is compared: between line breaks, or between blank lines
    least: Annotated[int, Field(gt=0)] = 10  # words of a unit that may be taken out
    most: Annotated[int, Field(gt=0)] = 1  # times that the corpus keeps it; CCNet and C4: 1
    spared: tuple[str, ...] = (CODE,)  # domains whose texts stay as they are


def steps(knobs: Lines) -> tuple[Map, Global]:
    """The step in two: each unit's hash, then which come again."""
    find = partial(units, unit=knobs.unit, least=knobs.least, spared=knobs.spared)
    return (
        Map("units", find, ("text", "domain")),
        Global("lines", partial(lines, knobs=knobs), ("text", HASHES)),
    )


def units(table: pa.Table, unit: Unit, least: int, spared: tuple[str, ...] = ()) -> pa.Table:
    """`hashes` of each text's units, uint64; `NONE` where they are short, none where spared."""
    found, counts = [np.zeros(0, np.uint64)], [np.zeros(1, np.int64)]
    texts = pc.if_else(pc.is_in(table["domain"], pa.array(spared, pa.string())), "", table["text"])
    for part in slices(texts):
        data, offsets = utf8(part)
        starts, bounds = cut(data, offsets, unit)
        pieces = pa.LargeStringArray.from_buffers(
            len(starts), pa.py_buffer(np.append(starts, len(data))), pa.py_buffer(data)
        )
        found.append(whole(pieces, least))
        counts.append(np.diff(bounds))
    hashes = pa.LargeListArray.from_arrays(
        pa.array(np.cumsum(np.concatenate(counts))), pa.array(np.concatenate(found))
    )
    return pa.table({"hashes": hashes})


def cut(data: np.ndarray, offsets: np.ndarray, unit: Unit) -> tuple[np.ndarray, np.ndarray]:
    """Where each unit of the texts begins, and which are whose: starts[bounds[i] : bounds[i + 1]].

    A unit goes up to the next one, with the breaks at its end. An empty text has none.
    """
    breaks = data == ord("\n")
    ends = np.flatnonzero(breaks) + 1
    if unit == "paragraph":
        ends = ends[(ends > 1) & breaks[ends - 2]]
    begins = offsets[:-1][np.diff(offsets) > 0]
    starts = np.union1d(begins, ends[ends < len(data)])
    return starts, np.searchsorted(starts, offsets)


def whole(texts: pa.Array, least: int) -> np.ndarray:
    """A hash of all words of each text in their order; `NONE` for one of fewer than `least`."""
    found = words(texts)
    counts = np.diff(found.bounds)
    places = np.arange(len(found.hashes)) - np.repeat(found.bounds[:-1], counts)
    placed = mixed(found.hashes + mixed(places.astype(np.uint64)))
    long = counts >= least
    hashes = np.full(len(counts), NONE, np.uint64)
    if long.any():
        sums = np.append(np.uint64(0), np.cumsum(placed))
        hashes[long] = np.maximum(np.diff(sums[found.bounds])[long], NONE + 1)
    return hashes


def lines(parts: Parts, knobs: Lines) -> Iterator[pa.Table]:
    """`text` without what comes again, where there is any; `removed`, of how many units."""
    gone = repeated(parts, knobs.most)
    first = 0
    for part in range(len(parts)):
        table = parts.table(part, ("text", HASHES))
        counts = pc.list_value_length(table[HASHES]).to_numpy()
        last = first + int(counts.sum())
        flags = np.unpackbits(gone[first // 8 : -(-last // 8)])[first % 8 :][: last - first]
        yield without(table["text"], counts, flags.astype(bool), knobs.unit)
        first = last


def repeated(parts: Parts, most: int) -> np.ndarray:
    """Which of all units go, in order: uint8, a bit each."""
    spill = Spill(np.uint64)
    for part in range(len(parts)):
        spill.add(parts.table(part, (HASHES,))[HASHES].combine_chunks().flatten().to_numpy())
    hashes = spill.all()
    gone = np.zeros(-(-len(hashes) // 8), np.uint8)
    rounds = np.uint64(-(-len(hashes) // SORTED))
    for turn in range(int(rounds)):
        places = np.concatenate(
            [
                begin + np.flatnonzero((piece % rounds == turn) & (piece != NONE))
                for begin in range(0, len(hashes), SORTED)
                for piece in (hashes[begin : begin + SORTED],)
            ]
        )
        beyond = places[counted(hashes[places]) >= most]
        np.bitwise_or.at(gone, beyond // 8, (128 >> (beyond % 8)).astype(np.uint8))
    return gone


def counted(hashes: np.ndarray) -> np.ndarray:
    """How many equal ones stand before each: int64."""
    order = np.argsort(hashes, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(hashes[order]) != 0))
    before = np.empty(len(order), np.int64)
    sizes = np.diff(np.append(starts, len(order)))
    before[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    return before


def without(texts: pa.ChunkedArray, counts: np.ndarray, gone: np.ndarray, unit: Unit) -> pa.Table:
    """Texts without the units that go.

    counts: of the units of each text. gone: bool, of all units of all texts.
    """
    owners = np.repeat(np.arange(len(counts)), counts)
    removed = np.bincount(owners[gone], minlength=len(counts))
    changed = removed > 0
    data, offsets = utf8(texts.filter(pa.array(changed)))
    starts, _ = cut(data, offsets, unit)
    stays = np.repeat(~gone[changed[owners]], np.diff(np.append(starts, len(data))))
    kept = np.append(0, np.cumsum(stays))[offsets]
    left = pa.LargeStringArray.from_buffers(
        len(kept) - 1, pa.py_buffer(kept), pa.py_buffer(data[stays])
    )
    empty = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(left)), 0)
    index = pa.array(np.cumsum(changed) - 1, mask=~changed)
    rule = pc.if_else(empty, RULE, pa.scalar(None, pa.string())).take(index)
    text = pc.if_else(empty, pa.scalar(None, pa.large_string()), left).take(index)
    value = pc.if_else(pc.is_valid(rule), pa.array(removed, pa.float64()), None)
    nothing = pa.nulls(len(counts), pa.float64())
    columns = [rule, value, nothing, text, pa.array(removed, pa.int64())]
    return pa.table(columns, schema=FOUND)
