"""The sections of what was measured: results, accuracy by task, bits per byte, answers.

    for block in accuracy([read("evaluate", Path("runs/tiny/evaluate"))]): ...

Each yields nothing where no run folder has scores.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from baiwen.report import figures
from baiwen.report.page import Block, Cards, Code, Figure, Sample, Samples, Table, Text
from baiwen.report.runs import Run
from baiwen.report.words import (
    between,
    count,
    cut,
    duration,
    percent,
    points,
    probability,
    tokens,
    told,
)


def results(runs: Sequence[Run]) -> Iterator[Block]:
    """The few numbers that matter most, and the command that gives them."""
    cards = [card for run, scores in _scored(runs) for card in _score_cards(scores)]
    seconds = sum(run.seconds for run in runs)
    if seconds:
        cards.append(("Wall time", duration(seconds), f"{len(runs)} stages"))
    if cards:
        yield Cards(cards)
    for command in dict.fromkeys(run.record.get("command") for run in runs):
        if command:
            yield Code(command)


def accuracy(runs: Sequence[Run]) -> Iterator[Block]:
    """Accuracy by task of every model, and the paired difference of each two."""
    for run, scores in _scored(runs):
        tested = {name: model for name, model in scores["models"].items() if "tasks" in model}
        if not tested:
            continue
        source = run.source("scores.json")
        marks = {
            f"{name} ({model['form']})": {
                kind: (score["accuracy"], score["low"], score["high"])
                for kind, score in model["tasks"].items()
            }
            for name, model in tested.items()
        }
        alt = "Accuracy by task with 95 % intervals, one dot a model; the numbers are in the table"
        yield Figure(f"accuracy-{run.name}.svg", figures.intervals(marks), alt, source)
        yield _accuracy_table(tested, source)
        yield from _differences(scores["differences"], source)
        yield from _odd_verdicts(tested)


def compression(runs: Sequence[Run]) -> Iterator[Block]:
    """Bits per byte of every model beside gzip and xz."""
    for run, scores in _scored(runs):
        measured = {n: m["compression"] for n, m in scores["models"].items() if "compression" in m}
        if not measured:
            continue
        first = next(iter(measured.values()))
        parts = {"all": first["all"], **first["sources"]}
        rows = []
        for part, about in parts.items():
            found = [m["all"] if part == "all" else m["sources"][part] for m in measured.values()]
            rows.append(
                [part, count(about["documents"]), count(about["bytes"])]
                + [_bits(figure) for figure in found]
                + [f"{about['xz']:.3f}", f"{about['gzip']:.3f}"]
            )
        yield Text(
            "Held-out documents; fewer bits are better. The interval is over documents. xz -9e and "
            "gzip -9 get the same bytes as one stream."
        )
        head = ["source", "documents", "bytes", *measured, "xz", "gzip"]
        yield Table(head, rows, run.source("scores.json"))


def answers(runs: Sequence[Run]) -> Iterator[Block]:
    """The first answer of the last model by kind and verdict."""
    for run, scores in _scored(runs):
        tested = [name for name, model in scores["models"].items() if "tasks" in model]
        if not tested:
            continue
        name = tested[-1]
        file = f"samples-{name}-{scores['models'][name]['form']}.jsonl"
        first: dict[tuple[str, str], dict[str, Any]] = {}
        for row in run.rows(file):
            first.setdefault((row["kind"], row["verdict"]), row)
        if first:
            yield Text(f"Of {name}: the first answer with each verdict, by kind of task.")
            yield Samples([_sample(first[key]) for key in sorted(first)], run.source(file))


def _scored(runs: Sequence[Run]) -> Iterator[tuple[Run, dict[str, Any]]]:
    for run in runs:
        scores = run.table("scores.json")
        if scores.get("models"):
            yield run, scores


def _score_cards(scores: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name, model in scores["models"].items():
        if "tasks" in model:
            every = model["tasks"]["all"]
            remark = f"{between(every, percent)}, n = {every['n']}, as {model['form']}"
            yield f"{name}: held-out tasks", percent(every["accuracy"]), remark
    for name in _neighbours(scores):
        kinds = scores["differences"][name]
        remark = f"points, {between(kinds['all'], points)}, paired"
        yield name, points(kinds["all"]["value"]), remark
    for name, model in scores["models"].items():
        if "compression" in model:
            every = model["compression"]["all"]
            remark = f"bits per byte; xz -9e needs {every['xz']:.3f}"
            yield f"{name}: held-out text", f"{every['bits_per_byte']:.3f}", remark
    for name, model in scores["models"].items():
        if "long" in model and "passkey" in model["long"]["tasks"]:
            by_length = model["long"]["tasks"]["passkey"]["lengths"]
            length, found = max(by_length.items(), key=lambda pair: int(pair[0]))
            remark = f"{between(found['strict'], percent)}, n = {found['strict']['n']}"
            label = f"{name}: pass key in {tokens(int(length))} tokens"
            yield label, percent(found["strict"]["value"]), remark


def _accuracy_table(models: dict[str, Any], source: str) -> Table:
    head = ["task", "n"]
    for name, model in models.items():
        head += [f"{name} ({model['form']})", "95 % interval"]
    rows = []
    for kind, about in next(iter(models.values()))["tasks"].items():
        row = [kind, count(about["n"])]
        for model in models.values():
            score = model["tasks"][kind]
            row += [percent(score["accuracy"]), between(score, percent)]
        rows.append(row)
    return Table(head, rows, source)


def _neighbours(scores: dict[str, Any]) -> list[str]:
    """The differences of each model and the one before it, as `differences` names them."""
    differences = scores.get("differences", {})
    names = [f"{after} - {before}" for before, after in pairwise(scores["models"])]
    return [name for name in names if name in differences]


def _differences(differences: dict[str, Any], source: str) -> Iterator[Block]:
    """Each two models over all tasks, then by task, in points with the paired interval."""
    if not differences:
        return
    rows = [
        [name, points(every["value"]), between(every, points), probability(every["p"])]
        for name, every in ((name, kinds["all"]) for name, kinds in differences.items())
    ]
    yield Table(["over all tasks", "points", "95 % interval", "McNemar's p"], rows, source)
    cells = {
        kind: [by_kind[kind] for by_kind in differences.values()]
        for kind in next(iter(differences.values()))
        if kind != "all"
    }
    rows = [
        [kind, *(f"{points(d['value'])} ({between(d, points)})" for d in found)]
        for kind, found in cells.items()
    ]
    yield Table(["points by task", *differences], rows, source)


def _odd_verdicts(models: dict[str, Any]) -> Iterator[Block]:
    """Answers that no verifier could judge; they count as not right, and are not hidden."""
    for name, model in models.items():
        verdicts = model["tasks"]["all"]["verdicts"]
        odd = [
            f"{n} {verdict}"
            for verdict, n in verdicts.items()
            if verdict not in ("right", "wrong") and n
        ]
        if odd:
            yield Text(f"{name}: not judged, and counted as not right: {', '.join(odd)}.")


def _sample(row: dict[str, Any]) -> Sample:
    parts = {"asked": row["asked"], "answered": row["answer"]}
    if row["verdict"] != "right":
        parts["truth"] = told(row["truth"])
    shown = [(label, cut(text)) for label, text in parts.items()]
    return Sample(row["kind"], row["verdict"], shown)


def _bits(figure: dict[str, Any]) -> str:
    if figure["low"] is None:
        return f"{figure['bits_per_byte']:.3f}"
    return f"{figure['bits_per_byte']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"
