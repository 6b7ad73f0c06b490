"""Rows of `benchmarks/data.py`: how right the models are that choose documents, on known labels.

labels(bench)        the classifier on DCLM's human labels of quality, beside fastText
recall(bench)        mathematics and documentation hidden in general text, found by round
"""

from itertools import chain
from pathlib import Path

from baiwen import files
from baiwen.data import read
from benchmarks import page
from benchmarks.data_pages import OURS, Bench, Claim, Player, Row, in_turns, rate, side
from benchmarks.sides import data_quality
from benchmarks.turns import Figures

LABELS = "pipeline/dclm_quality_labels_dev.jsonl.gz"  # in the shared data
GOOD = ("web_en-00", "encyclopedia_en-00")  # the weak teacher's, against raw pages of a crawl
RAW = "pipeline/dolma/warc__sample-0000.warc.gz"
FOLDS = 10
FASTTEXT = "fastText"
# What is sought, and the share of all documents whose labels the run itself is given to measure by.
RUNS = (("math", 1.0), ("code", 1.0), ("exams", 1.0), ("math", 0.0), ("code", 0.0))
SKIPPED = "Skipped: what it is measured on is in the shared data, which is not there."


def labels(bench: Bench) -> Row:
    """By cross-validation, and taught by a weak teacher, each on all of the human labels."""
    if not bench.shared:
        return Row([], [SKIPPED])
    tasks = asked(bench.shared, bench.folder)
    settings = {"tasks": tasks}
    found = in_turns(
        bench,
        {
            OURS: Player("data_quality", settings),
            FASTTEXT: Player("data_quality_fasttext", settings, "fasttext-numpy2-wheel"),
        },
        once=[OURS, FASTTEXT],
    )
    told = {name: agreed(one[0]["scores"], tasks) for name, one in found.items()}
    claims = [
        Claim(
            f"DCLM's human labels, {way}: AUC",
            "reported",
            estimate(told[OURS][way]["auc"]),
            ", ".join(
                f"{name} {estimate(one[way]['auc'])}" for name, one in told.items() if name != OURS
            ),
        )
        for way in told[OURS]
    ]
    lines = [
        [name, way, one["n"], estimate(one["auc"]), estimate(one["accuracy"])]
        for name, ways in told.items()
        for way, one in ways.items()
    ]
    head = ["side", "learned from", "labels", "AUC", "accuracy at a half"]
    return Row(claims, page.table(head, lines))


def asked(shared: Path, folder: Path) -> list[data_quality.Task]:
    """What the sides learn and score: the folds of the human labels, then the weak teacher's."""
    rows = list(files.read_jsonl(shared / LABELS))
    paths = [shared / "pretrain" / "dev" / f"{name}.jsonl.zst" for name in GOOD]
    good = [row["text"] for path in paths for row in files.read_jsonl(path)]
    raw = list(read.texts_of([shared / RAW]))
    weak = data_quality.teacher(good, raw, rows, folder)
    return [*data_quality.folds(rows, FOLDS, folder), weak]


def agreed(scores: list[list[float]], tasks: list[data_quality.Task]) -> dict[str, Figures]:
    """The agreement of each way to learn."""
    rows = [list(files.read_jsonl(task["test"])) for task in tasks]
    across = list(chain.from_iterable(scores[:FOLDS])), list(chain.from_iterable(rows[:FOLDS]))
    return {
        f"{FOLDS} folds": data_quality.agreed(*across),
        "a weak teacher": data_quality.agreed(scores[FOLDS], rows[FOLDS]),
    }


def estimate(found: Figures) -> str:
    """A value with its interval of 95 %."""
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def recall(bench: Bench) -> Row:
    """Each run's rounds."""
    if not bench.shared:
        return Row([], [SKIPPED])
    claims, lines = [], []
    for kind, known in RUNS:
        settings = {"kind": kind, "shared": str(bench.shared), "labels": known}
        with side(bench, Player("data_recall", settings)) as one:
            found = one.step()
        name = f"{kind}, all labelled" if known else f"{kind}, no labels"
        rounds = zip(found["found"], found["precision"], found["recall"], strict=True)
        lines += [
            [name, number, count, "-" if precision is None else f"{precision:.1%}", f"{share:.1%}"]
            for number, (count, precision, share) in enumerate(rounds, start=1)
        ]
        claims.append(
            Claim(
                f"recall of {name}, round {lines[-1][1]}",
                "reported",
                f"precision {lines[-1][3]}, recall {lines[-1][4]}",
                f"{found['documents']:,} documents, {rate([found]):,.0f} a CPU second",
            )
        )
    said = "What is hidden where, and what the settings were chosen on: docs/stages/recall.md."
    head = ["sought", "round", "found", "precision", "recall"]
    return Row(claims, [*page.table(head, lines), "", said])
