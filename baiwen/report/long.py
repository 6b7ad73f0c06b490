"""The section of long context: where a pass key is found, and RULER by length.

    for block in long_context([read("evaluate", Path("runs/long/evaluate"))]): ...

The pass key's figures are our strict marks, which an answer that lists everything does not win; of
RULER both stand there, ours first. A figure means nothing without how the model was read beyond its
trained length, so that is said of each.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from baiwen.report import figures
from baiwen.report.page import Block, Figure, Table, Text
from baiwen.report.runs import Run
from baiwen.report.words import between, count, percent, tokens

PASSKEY = "passkey"
SEEN = ("density", "recall", "lowest_recall")


def long_context(runs: Sequence[Run]) -> Iterator[Block]:
    """How each model was read, needle plots beside each other, and the tables."""
    for run in runs:
        models = run.table("scores.json").get("models", {})
        measured = {name: model["long"] for name, model in models.items() if "long" in model}
        if not measured:
            continue
        source = run.source("scores.json")
        read = [[name, entry["form"], entry["extension"]] for name, entry in measured.items()]
        yield Table(["model", "asked as", "reads"], read, source)
        grids = {
            name: entry["tasks"][PASSKEY]["lengths"]
            for name, entry in measured.items()
            if PASSKEY in entry["tasks"]
        }
        if grids:
            yield Text(
                "The pass key by depth and length: a full cell is always found, an empty one never."
            )
            yield _needles(run, grids)
            yield _passkey(grids, source)
        for name, entry in measured.items():
            yield from _ruler(name, entry, source)
        yield from _sparsity(measured, source)
        yield from _left_out(measured)


def _needles(run: Run, grids: Mapping[str, Any]) -> Figure:
    drawn = {
        name: figures.Grid(
            [tokens(int(length)) for length in by_length],
            [f"{100 * float(depth):.0f} %" for depth in _depths(by_length)],
            [
                [marks["depths"][depth]["strict"]["value"] for marks in by_length.values()]
                for depth in _depths(by_length)
            ],
        )
        for name, by_length in grids.items()
    }
    svg = figures.grids(drawn, "tokens of prompt and answer", "depth of the pass key")
    alt = (
        "How often the pass key is found, by its depth and the length of the text, a grid a model; "
        "a full cell is always, an empty one never. The means by length are in the table"
    )
    return Figure(f"needles-{run.name}.svg", svg, alt, run.source("scores.json"))


def _passkey(grids: Mapping[str, Any], source: str) -> Table:
    """By length, over all depths: the share of keys that are found, with its interval."""
    lengths = sorted({length for by_length in grids.values() for length in by_length}, key=int)
    rows = []
    for length in lengths:
        marks = [by_length[length]["strict"] for by_length in grids.values()]
        found = (f"{percent(mark['value'])} ({between(mark, percent)})" for mark in marks)
        rows.append([tokens(int(length)), count(marks[0]["n"]), *found])
    return Table(["pass key, length", "n", *grids], rows, source)


def _ruler(name: str, entry: Mapping[str, Any], source: str) -> Iterator[Block]:
    """A model's tasks by length, their mean, and what the report says of a model of that shape."""
    tasks = {task: found["lengths"] for task, found in entry["tasks"].items() if task != PASSKEY}
    if not tasks:
        return
    mean = tasks.pop("ruler")
    rows = [[task, *map(_both, by_length.values())] for task, by_length in tasks.items()]
    rows.append([f"mean, {len(tasks)} of 13 tasks", *map(_both, mean.values())])
    strict = [marks["strict"] for marks in mean.values()]
    rows.append(["95 % interval of ours", *(between(mark, percent) for mark in strict)])
    if published := entry["published"]:
        told = [published["ruler"].get(length) for length in mean]
        label = f"report, {published['model']}, official, 13 tasks"
        rows.append([label, *("" if one is None else percent(one) for one in told)])
    head = [f"{name}: ours / official", *(tokens(int(length)) for length in mean)]
    yield Table(head, rows, source)


def _sparsity(measured: Mapping[str, Any], source: str) -> Iterator[Block]:
    """What was seen of the prompts that were read sparsely."""
    rows = [
        [name, tokens(int(length)), *(percent(seen[key]) for key in SEEN)]
        for name, entry in measured.items()
        for length, seen in entry["sparsity"].items()
    ]
    if rows:
        head = ["read sparsely", "length", "keys seen", "attention held, by estimate", "lowest"]
        yield Table(head, rows, source)


def _left_out(measured: Mapping[str, Any]) -> Iterator[Text]:
    """The tasks that could not be made, and why; once for all models."""
    found = [entry["left_out"].items() for entry in measured.values()]
    for task, why in dict.fromkeys(pair for pairs in found for pair in pairs):
        yield Text(f"{task} is left out: {why}")


def _both(marks: Mapping[str, Any]) -> str:
    return f"{percent(marks['strict']['value'])} / {percent(marks['official']['value'])}"


def _depths(by_length: Mapping[str, Any]) -> Sequence[str]:
    return list(next(iter(by_length.values()))["depths"])
