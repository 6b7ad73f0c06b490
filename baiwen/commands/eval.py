"""`baiwen eval MODEL --tasks heldout.jsonl --documents heldout.jsonl.zst`: the scores of one model.

    kind         right      95 %             n
    all          41.0 %     34.4 to 47.9 %   200

    source       bits a byte   95 %             gzip -9   xz -9   bytes
    all          1.912         1.880 to 1.944   2.301     2.184   301,224

    $ baiwen eval MODEL --suite long --lengths 4096 8192 --tasks passkey vt

    depth    4,096     8,192
    0.00     100.0 %   100.0 %
    all      98.2 %    94.5 %

What the evaluate stage measures (baiwen/stages/evaluate.py), with nothing written. The results go
to stdout, progress to stderr.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from baiwen import mistakes
from baiwen.commands import loading
from baiwen.errors import UserError
from baiwen.stages import evaluate

LONG = (
    "lengths",
    "depths",
    "keys",
    "samples",
    "haystack",
    "squad",
    "hotpotqa",
)  # options and knobs


def main(options: argparse.Namespace) -> None:
    """Score the model and print a table for each kind of score."""
    given = _given(options)
    if not given:
        raise UserError(
            "nothing to score on: give --tasks FILE, --documents FILE or --suite long --lengths N"
        )
    model = Path(options.model)
    for name in ("tasks", "documents"):
        if name in given and not given[name].exists():
            raise UserError(mistakes.missing(f"file of {name}", given[name]))
    if not model.exists():
        raise UserError(mistakes.missing("model", model))
    scores = evaluate.score_model(
        model,
        questions=options.questions,
        device=options.device,
        reading=_reading(options),
        **given,
    )
    console = Console(highlight=False)
    if "tasks" in scores:
        console.print(_tasks(scores["tasks"]))
    if "compression" in scores:
        console.print(_compression(scores["compression"]))
    for table in _long(scores["long"]["tasks"]) if "long" in scores else ():
        console.print(table)


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """What to score on: knobs of the stage."""
    given: dict[str, Any] = {}
    if options.documents is not None:
        given["documents"] = Path(options.documents)
    suite = {name: getattr(options, name) for name in LONG}
    suite = {name: value for name, value in suite.items() if value is not None}
    if options.suite == "long":
        if "lengths" not in suite:
            raise UserError("--suite long needs --lengths, in tokens, as in --lengths 4096 8192")
        given["long"] = suite | ({"tasks": options.tasks} if options.tasks else {})
    elif suite:
        raise UserError(f"--{next(iter(suite))} is for --suite long")
    elif options.tasks is not None:
        if len(options.tasks) > 1:
            raise UserError(f"--tasks takes one file of questions; {len(options.tasks)} were given")
        given["tasks"] = Path(options.tasks[0])
    return given


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    """How the model is asked and read, as knobs of the stage."""
    extend = loading.extend_of(options)
    sparse = {knob: getattr(options, option) for option, knob in loading.SPARSE.items()}
    sparse = {knob: value for knob, value in sparse.items() if value is not None}
    sparse |= {"patterns": options.patterns} if options.patterns else {}
    forms = {"forms": options.forms} if options.forms else {}
    return {
        **forms,
        "context": options.context,
        "extend": None if extend is None else asdict(extend),
        "sparse": sparse if options.sparse or sparse else None,
        "kv": options.kv,
    }


def _tasks(scores: dict[str, dict[str, Any]]) -> Table:
    table = _table("kind", "right", "95 %", "n")
    for kind, score in scores.items():
        interval = f"{100 * score['low']:.1f} to {100 * score['high']:.1f} %"
        table.add_row(kind, f"{100 * score['accuracy']:.1f} %", interval, f"{score['n']:,}")
    return table


def _compression(scores: dict[str, Any]) -> Table:
    table = _table("source", "bits a byte", "95 %", "gzip -9", "xz -9", "bytes")
    for source, score in {"all": scores["all"], **scores["sources"]}.items():
        table.add_row(
            source,
            f"{score['bits_per_byte']:.3f}",
            "" if score["low"] is None else f"{score['low']:.3f} to {score['high']:.3f}",
            f"{score['gzip']:.3f}",
            f"{score['xz']:.3f}",
            f"{score['bytes']:,}",
        )
    return table


def _long(scores: dict[str, Any]) -> Iterator[Table]:
    """The grid of the pass key, then the other tasks: our mark, and the official one."""
    if "passkey" in scores:
        by_length = scores["passkey"]["lengths"]
        table = _table("pass key, depth", *(f"{int(length):,}" for length in by_length))
        for depth in next(iter(by_length.values()))["depths"]:
            marks = [found["depths"][depth]["strict"]["value"] for found in by_length.values()]
            table.add_row(depth, *(f"{100 * mark:.1f} %" for mark in marks))
        for name, told in (("value", "all"), ("low", "95 %, from"), ("high", "to")):
            ends = [found["strict"][name] for found in by_length.values()]
            table.add_row(told, *(f"{100 * end:.1f} %" for end in ends))
        yield table
    others = {task: found["lengths"] for task, found in scores.items() if task != "passkey"}
    if others:
        lengths = [f"{int(length):,}" for length in next(iter(others.values()))]
        table = _table("task, ours / official", *lengths)
        for task, by_length in others.items():
            table.add_row(task, *map(_both, by_length.values()))
        for name, told in (("low", "95 % of ruler, ours, from"), ("high", "to")):
            ends = [found["strict"][name] for found in others["ruler"].values()]
            table.add_row(told, *(f"{100 * end:.1f} %" for end in ends))
        yield table


def _both(marks: dict[str, Any]) -> str:
    ours, official = (100 * marks[name]["value"] for name in ("strict", "official"))
    return f"{ours:.1f} / {official:.1f} %"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
