"""Four hundred pairs of answer and truth, written and judged by hand, area by area."""

import json
from pathlib import Path

import pytest

from baiwen.verify.math import check
from baiwen.verify.verdict import Verdict

CASES = Path(__file__).parents[1] / "cases" / "math.jsonl"
ROWS = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
# Which of the two it is depends on the machine's speed; neither says right or wrong.
UNTOLD = {Verdict.undecided, Verdict.timeout}


def verdict(row, form):
    return check(form.replace("ANSWER", row["answer"]), row["truth"])


def agrees(found, expected):
    return found == expected or (found in UNTOLD and expected in UNTOLD)


def test_pairs_are_many_and_each_stands_once():
    assert len(ROWS) >= 400
    assert len({(row["answer"], row["truth"]) for row in ROWS}) == len(ROWS)


def test_at_least_99_in_100_pairs_are_judged_as_by_hand():
    missed = [row for row in ROWS if not agrees(verdict(row, r"\boxed{ANSWER}"), row["verdict"])]
    assert len(missed) <= 0.01 * len(ROWS), missed


def test_no_pair_is_wrongly_accepted():
    others = [row for row in ROWS if row["verdict"] != "right"]
    assert not [row for row in others if verdict(row, r"\boxed{ANSWER}") == "right"]


@pytest.mark.parametrize("form", ["The answer is ANSWER", "$$x+1$$\n#### ANSWER", "答案：ANSWER"])
def test_an_announced_answer_is_judged_like_a_boxed_one(form):
    rows = [row for row in ROWS if row["area"] in ("number", "fraction", "unit", "set", "interval")]
    missed = [row for row in rows if not agrees(verdict(row, form), row["verdict"])]
    assert len(missed) <= 0.02 * len(rows), missed
