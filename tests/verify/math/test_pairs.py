"""More than four hundred pairs of answer and truth, written and judged by hand, area by area."""

import json
from functools import cache
from pathlib import Path

import pytest

from baiwen.verify.math import check
from baiwen.verify.verdict import Verdict

CASES = Path(__file__).parents[1] / "cases" / "math.jsonl"
ROWS = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
BOXED = r"\boxed{ANSWER}"
PLAIN = {"number", "fraction", "unit", "set", "interval"}
# Which of the two it is depends on the machine's speed; neither says right or wrong.
UNTOLD = {Verdict.undecided, Verdict.timeout}


@cache
def verdict(at, form):
    return check(form.replace("ANSWER", ROWS[at]["answer"]), ROWS[at]["truth"])


def misjudged(form, places):
    return [ROWS[at] for at in places if not agrees(verdict(at, form), ROWS[at]["verdict"])]


def agrees(found, expected):
    return found == expected or (found in UNTOLD and expected in UNTOLD)


def test_pairs_are_many_and_each_stands_once():
    assert len(ROWS) >= 400
    assert len({(row["answer"], row["truth"]) for row in ROWS}) == len(ROWS)


def test_at_least_99_in_100_pairs_are_judged_as_by_hand():
    missed = misjudged(BOXED, range(len(ROWS)))
    assert len(missed) <= 0.01 * len(ROWS), missed


def test_no_pair_is_wrongly_accepted():
    others = [at for at, row in enumerate(ROWS) if row["verdict"] != "right"]
    assert not [ROWS[at] for at in others if verdict(at, BOXED) == "right"]


@pytest.mark.parametrize("form", ["The answer is ANSWER", "$$x+1$$\n#### ANSWER", "答案：ANSWER"])
def test_an_announced_answer_is_judged_like_a_boxed_one(form):
    places = [at for at, row in enumerate(ROWS) if row["area"] in PLAIN]
    missed = misjudged(form, places)
    assert len(missed) <= 0.02 * len(places), missed
