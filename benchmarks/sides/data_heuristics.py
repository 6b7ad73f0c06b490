"""A side: Baiwen's heuristic filters, each group over all documents of a file.

    settings: {"documents": FILE.jsonl, "filters": [NAME, ...], "threads": 1}

A group has the rules and thresholds of datatrove's filter of that name; "all" is Gopher's two and
then C4 on what they leave, as in a pipeline. The figures of a turn hold the reason for each
document that goes; `agreement` compares them with the peer's of `data_heuristics_datatrove`.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from baiwen.data import filters
from baiwen.data.filters import c4, fineweb, gopher, repetition
from benchmarks.turns import Turn

Reasons = dict[str, str]  # place of a document that goes -> why
Judge = Callable[[pa.Table], pa.Table]


def only(rules: tuple[filters.Rule, ...], **thresholds: filters.Setting) -> Judge:
    """The step with these rules and no others."""
    settings: dict[str, filters.Setting] = {rule.__name__: False for rule in filters.ALL}
    for rule in rules:
        settings[rule.__name__] = thresholds.get(rule.__name__, True)
    return partial(filters.heuristics, settings=settings)


def in_turn(first: Judge, second: Judge) -> Judge:
    """The second on what the first leaves."""

    def judge(table: pa.Table) -> pa.Table:
        before = first(table)["rule"].combine_chunks()
        after = second(table.filter(before.is_null()))["rule"].combine_chunks()
        rules = pc.replace_with_mask(before, before.is_null(), after)
        return pa.table({"rule": rules})

    return judge


REPETITION = (*repetition.RULES, *repetition.NGRAM_RULES)
SIGNS: filters.Setting = {"signs": True}  # are words of the letters rule, as in datatrove
LINES = partial(c4.lines, knobs=c4.Lines())
FILTERS: dict[str, Judge] = {
    "all": in_turn(only((*gopher.RULES, *REPETITION), letters=SIGNS), LINES),
    "gopher quality": only(gopher.RULES, letters=SIGNS),
    "gopher repetition": only(REPETITION),
    "c4": LINES,
    "fineweb": only(
        fineweb.RULES, repeated_lines={"most": 0.01}
    ),  # datatrove's, for the paper's 0.1
}


def main(settings: dict[str, Any]) -> None:
    """All of the groups over all of the documents whenever it is told."""
    lines = Path(settings["documents"]).read_bytes().splitlines()
    texts = pa.array([json.loads(line)["text"] for line in lines], pa.large_string())
    table = pa.table({"text": texts})
    size = pc.sum(pc.binary_length(texts)).as_py()
    turn = Turn()
    while True:
        turn.wait()
        dropped = {name: judged(FILTERS[name], table) for name in settings["filters"]}
        turn.figures = {"documents": table.num_rows, "bytes": size, "dropped": dropped}


def judged(judge: Judge, table: pa.Table) -> Reasons:
    """The reason for each document that goes, by its place."""
    rules = judge(table)["rule"].to_pylist()
    return {str(place): rule for place, rule in enumerate(rules) if rule}


def agreement(ours: Reasons, theirs: Reasons, documents: int) -> dict[str, Any]:
    """How many documents both keep or both drop, and what the others are.

    Returns {"kept", "dropped", "agree" (share), "only ours", "only theirs" (reason -> documents)}.
    """
    both = ours.keys() & theirs.keys()
    either = ours.keys() | theirs.keys()
    return {
        "kept": documents - len(either),
        "dropped": len(both),
        "agree": 1 - (len(either) - len(both)) / documents,
        "only ours": counted(ours, both),
        "only theirs": counted(theirs, both),
    }


def counted(reasons: Reasons, but: set[str]) -> dict[str, int]:
    """How many documents go for each reason, but for some."""
    found = sorted(reason for place, reason in reasons.items() if place not in but)
    return {reason: found.count(reason) for reason in dict.fromkeys(found)}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
