"""The section of what was judged and found: classifiers, recall, synthetic documents, mixtures.

    for block in judged([Run("classifier", Path("runs/web/classifier"))]): ...

A score of a classifier means as much as its agreement with the judge, a recalled document as much
as its round was precise: so these stand here with their intervals.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from baiwen.report.page import Block, Table, Text
from baiwen.report.runs import Run
from baiwen.report.words import between, count, percent

SOURCES = 10  # of a recall that are named, those that gave most
MEASURES = ("spearman", "kappa", "f1", "auc", "error")


def judged(runs: Sequence[Run]) -> Iterator[Block]:
    """Agreement by dimension, precision and recall by round, refusals by prompt, proxy runs."""
    for run in runs:
        yield from _agreement(run)
        yield from _rounds(run)
        yield from _generated(run)
        yield from _mixtures(run)


def _agreement(run: Run) -> Iterator[Block]:
    """How far a classifier agrees with its judge on documents that it has not seen."""
    told = run.table("classifier.json")
    found = told.get("agreement", {})
    source = run.source("classifier.json")
    if dimensions := found.get("dimensions"):
        rows = [
            [name, count(one["n"]), *(_measure(one[what]) for what in MEASURES)]
            for name, one in dimensions.items()
        ]
        yield Table([f"dimension, {run.name}", "n", *MEASURES], rows, source)
    if domains := found.get("domains"):
        row = [count(domains["n"]), _measure(domains["accuracy"]), percent(domains["commonest"])]
        yield Table([f"domains, {run.name}: n", "accuracy", "the commonest one"], [row], source)
    if found:
        judge = told["judge"].get("model") or told["judge"].get("labels")
        yield Text(
            f"The judge of {run.name} is {judge}. Agreement is with it, not with the truth; in "
            "brackets the interval of 95 %, by resampling."
        )


def _rounds(run: Run) -> Iterator[Block]:
    """What each round of a recall found, and how much of it is right, as far as that is known."""
    told = run.table("recall.json")
    rows = [
        [
            *map(count, (one["round"], one["fresh"], one["found"])),
            *map(_share, (one["precision"], one["recall"])),
            *(_bands(one["ways"]), one["end"] or ""),
        ]
        for one in told.get("rounds", [])
    ]
    if rows:
        head = [f"round of {run.name}", "fresh", "found", "precision", "recall", "judge agrees"]
        yield Table([*head, "end"], rows, run.source("recall.json"))
    if given := told.get("sources"):
        rows = [[one["source"], count(one["documents"]), count(one["found"])] for one in given]
        head = [f"source that gave most, {run.name}", "documents", "found"]
        yield Table(head, rows[:SOURCES], run.source("recall.json"))


def _generated(run: Run) -> Iterator[Block]:
    """What was asked of a model by prompt, and why how many replies became no document."""
    told = run.table("generate.json")
    prompts = told.get("prompts", {})
    rows = [
        [name, reason, count(number)]
        for name, one in prompts.items()
        for reason, number in [
            ("replies", one["replies"]),
            ("documents", one["documents"]),
            *sorted(one["refused"].items(), key=lambda item: (-item[1], item[0])),
        ]
    ]
    if rows:
        head = [f"prompt of {run.name}", "what became of it", "replies"]
        yield Table(head, rows, run.source("generate.json"))
        bill = ", ".join(f"{name.replace('_', ' ')} {n:,g}" for name, n in told["bill"].items())
        yield Text(f"Written by {told['model']}; {bill}.")


def _mixtures(run: Run) -> Iterator[Block]:
    """Bits per byte of each mixture's small models by domain, the best mixture first."""
    told = run.table("mixtures.json")
    if not told:
        return
    rows = []
    for name, row in sorted(told["mixtures"].items(), key=lambda item: _behind(item[1])):
        error = row["behind"]["standard_error"]
        behind = f"{_behind(row):+.4f}" + ("" if error is None else f" ± {error:.4f}")
        cells = (_bits(one) for one in (row["mean"], *row["domains"].values()))
        rows.append([name, count(row["mean"]["runs"]), behind, *cells])
    domains = next(iter(told["mixtures"].values()))["domains"]
    head = [f"mixture of {run.name}", "seeds", "behind the best", "mean", *domains]
    yield Table(head, rows, run.source("mixtures.json"))
    yield Text("Bits per byte of held-out documents, ± the standard deviation over seeds.")


def _behind(row: Mapping[str, Any]) -> float:
    return float(row["behind"]["bits_per_byte"])


def _bits(found: Mapping[str, Any]) -> str:
    spread = found["spread"]
    return f"{found['bits_per_byte']:.3f}" + ("" if spread is None else f" ± {spread:.3f}")


def _measure(found: Mapping[str, Any] | None) -> str:
    """A measure with its interval; nothing where it has no meaning."""
    return f"{found['value']:.2f} [{between(found, '{:.2f}'.format)}]" if found else ""


def _share(found: Mapping[str, Any] | None) -> str:
    """A share of documents with labels; nothing where there are none."""
    if not found:
        return ""
    return f"{percent(found['value'])} ({between(found, percent)}), n = {found['n']:,}"


def _bands(ways: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """How many of the documents that the judge saw are of the kind, over all bands of a round."""
    seen = [band["judged"] for bands in ways.values() for band in bands if band["judged"]]
    total = sum(one["n"] for one in seen)
    right = round(sum(one["n"] * one["value"] for one in seen))
    return f"{right:,} of {total:,}" if total else ""
