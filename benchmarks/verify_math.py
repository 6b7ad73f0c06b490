"""The verifier of mathematics beside Math-Verify alone: how often right, how fast, how slow.

    python -m benchmarks.verify_math                       # 150 rows a set for both
    python -m benchmarks.verify_math --data FOLDER --sample 1000 --write

FOLDER holds GSM8K and MATH as the shared data does; without it the pairs by hand are judged alone.

Each row is a text, a truth and the verdict that belongs to it: the label of the set, or "right" for
a gold in its own box and "wrong" for it in another problem's. Ours judges all rows, both judge the
same sample in turns. Math-Verify runs as its page says, with its own limits of 5 seconds.
"""

import argparse
import gzip
import json
import logging
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median
from typing import NamedTuple

import math_verify

from baiwen.verify import math
from benchmarks import page

PAIRS = Path(__file__).parents[1] / "tests" / "verify" / "cases" / "math.jsonl"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "eval"
MEDIAN, WORST = 1e-3, 1.0  # seconds, the targets
PAIRS_RIGHT = 0.99


class Row(NamedTuple):
    """A text, a truth, and whether the one answers the other."""

    text: str
    truth: str
    right: bool


class Judged(NamedTuple):
    """A side over rows: which it judged as they should be, and the seconds of each."""

    agrees: list[bool]
    seconds: list[float]

    @property
    def share(self) -> float:
        """How often right."""
        return sum(self.agrees) / len(self.agrees)


def main() -> None:
    """Measure, print, and write the page when asked."""
    options = arguments()
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    math.check(r"\boxed{\sum_{k=1}^{3} k}", "6")  # starts the worker
    rows, judged = [], []
    for name, found in sets(options.data).items():
        sample = Random(0).sample(found, min(options.sample, len(found)))
        ours, here, peer = judge(found, by_baiwen), *in_turns(sample)
        judged.append((name, ours, here, peer))
        rows.append(line(name, ours, here, peer))
    head = ["set", "rows", "right", "median ms", "worst ms", "sample", "ours", "Math-Verify"]
    body = page.table([*head, "its median ms", "its worst ms"], rows)
    page.publish("verify_math", "Math answers", [*body, "", *claims(judged)], options.write)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder with gsm8k/, math/")
    parser.add_argument("--sample", type=int, default=150, help="rows of a set for the peer")
    return parser.parse_args()


def sets(data: Path) -> dict[str, list[Row]]:
    """The sets, each as rows."""
    return (public(data) if data.is_dir() else {}) | {
        "pairs by hand": [
            Row(rf"$\boxed{{{row['answer']}}}$", row["truth"], row["verdict"] == "right")
            for row in map(json.loads, PAIRS.read_text(encoding="utf-8").splitlines())
        ]
    }


def public(data: Path) -> dict[str, list[Row]]:
    """Those of the public sets."""
    gsm8k = [row["answer"].rpartition("####")[2].strip() for row in read(data / "gsm8k/train")]
    train = [row["answer"] for row in read(data / "math/train") if row["answer"]]
    held = read(data / "math/test_dev")
    return {
        "GSM8K, model solutions with a label": list(solutions(data)),
        "GSM8K, golds in their box": own(gsm8k),
        "MATH train, golds in their box": own(train),
        "MATH train, golds in another's box": others(train),
        "MATH test, solutions as written": [Row(r["solution"], r["answer"], True) for r in held],
    }


def read(name: Path) -> list[dict[str, str]]:
    """The rows of a compressed JSONL file."""
    with gzip.open(f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def solutions(data: Path) -> Iterator[Row]:
    """What four models answered, with the verdict of the set's makers."""
    for row in read(data / "gsm8k/model_solutions_devhalf"):
        truth = row["ground_truth"].rpartition("A:")[2].strip()
        for model in (value for value in row.values() if isinstance(value, dict)):
            yield Row(model["solution"], truth, model["is_correct"])


def own(golds: list[str]) -> list[Row]:
    """Each gold as an answer to itself."""
    return [Row(rf"So it is $\boxed{{{gold}}}$.", gold, True) for gold in golds]


def others(golds: list[str]) -> list[Row]:
    """Each gold as an answer to the next problem, where that has another gold."""
    pairs = [(one, two) for one, two in pairwise(golds) if one != two]
    return [Row(rf"So it is $\boxed{{{one}}}$.", two, False) for one, two in pairs]


def by_baiwen(row: Row) -> bool:
    """Is the text right, says our verifier?"""
    return math.check(row.text, row.truth) == "right"


def by_math_verify(row: Row) -> bool:
    """Is the text right, says Math-Verify?"""
    truth = math_verify.parse(f"${row.truth}$")
    return bool(math_verify.verify(truth, math_verify.parse(row.text)))


def judge(rows: list[Row], side: Callable[[Row], bool]) -> Judged:
    """A side over rows."""
    judged = Judged([], [])
    for row in rows:
        begin = time.perf_counter()
        found = side(row)
        judged.seconds.append(time.perf_counter() - begin)
        judged.agrees.append(found == row.right)
    return judged


def in_turns(rows: list[Row]) -> tuple[Judged, Judged]:
    """Both sides over the same rows, row by row."""
    ours, peer = Judged([], []), Judged([], [])
    for row in rows:
        for judged, side in ((ours, by_baiwen), (peer, by_math_verify)):
            one = judge([row], side)
            judged.agrees.extend(one.agrees)
            judged.seconds.extend(one.seconds)
    return ours, peer


def line(name: str, ours: Judged, here: Judged, peer: Judged) -> list[str]:
    """A row of the table."""
    return [name, *figures(ours), str(len(here.agrees)), percent(here), *figures(peer)[1:]]


def figures(judged: Judged) -> list[str]:
    """How many, how often right, and the milliseconds."""
    fast, slow = median(judged.seconds), max(judged.seconds)
    return [f"{len(judged.agrees):,}", percent(judged), f"{1e3 * fast:.2f}", f"{1e3 * slow:.0f}"]


def percent(judged: Judged) -> str:
    """How often right."""
    return f"{judged.share:.2%}"


def claims(sets: list[tuple[str, Judged, Judged, Judged]]) -> list[str]:
    """The targets, and whether they hold."""
    fast = max(median(ours.seconds) for _, ours, _, _ in sets)
    slow = max(max(ours.seconds) for _, ours, _, _ in sets)
    behind = [name for name, _, here, peer in sets if here.share < peer.share]
    pairs = next(ours for name, ours, _, _ in sets if name == "pairs by hand")
    return page.claims(
        [
            ("median of a set, ms", "<= 1", f"{1e3 * fast:.2f}", fast <= MEDIAN),
            ("slowest answer, s", "<= 1", f"{slow:.2f}", slow <= WORST),
            ("pairs by hand", ">= 99 %", percent(pairs), pairs.share >= PAIRS_RIGHT),
            ("sets on which Math-Verify is more often right", "0", str(len(behind)), not behind),
        ]
    )


if __name__ == "__main__":
    main()
