"""`baiwen eval MODEL --tasks heldout.jsonl --documents heldout.jsonl.zst`: the scores of one model.

    kind         right      95 %             n
    all          41.0 %     34.4 to 47.9 %   200

    source       bits a byte   95 %             gzip -9   xz -9   bytes
    all          1.912         1.880 to 1.944   2.301     2.184   301,224

What the evaluate stage measures (baiwen/stages/evaluate.py), with nothing written. The results go
to stdout, progress to stderr.
"""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from baiwen import mistakes
from baiwen.errors import UserError
from baiwen.stages import evaluate


def main(options: argparse.Namespace) -> None:
    """Score the model and print a table for each kind of score."""
    given = {"tasks": options.tasks, "documents": options.documents}
    paths = {name: Path(path) for name, path in given.items() if path is not None}
    if not paths:
        raise UserError("nothing to score on: give --tasks FILE, --documents FILE or both")
    model = Path(options.model)
    for name, path in {"model": model, **paths}.items():
        if not path.exists():
            raise UserError(mistakes.missing(f"file of {name}" if name in paths else name, path))
    scores = evaluate.score_model(
        model,
        tasks=paths.get("tasks"),
        documents=paths.get("documents"),
        questions=options.questions,
        device=options.device,
    )
    console = Console(highlight=False)
    if "tasks" in scores:
        console.print(_tasks(scores["tasks"]))
    if "compression" in scores:
        console.print(_compression(scores["compression"]))


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


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
