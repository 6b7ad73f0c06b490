"""Programs that want to pass without computing: none does, at any level that runs here.

A forgery's docstring says what must hold. Those of `forgeries/` should define `add`, those of
`prints/` should print the sum of two numbers.
"""

import ast
from pathlib import Path

import pytest

from baiwen.verify import Verdict, code, sandbox

HERE = Path(__file__).parent
FORGERIES = {path.stem: path.read_text() for path in sorted((HERE / "forgeries").glob("*.py"))}
PRINTS = {path.stem: path.read_text() for path in sorted((HERE / "prints").glob("*.py"))}
LIMITS = {"limits": {"wall": 60.0, "cpu": 3}}
TESTS = {
    "tests": "assert add(2, 3) == 5\nassert add(40, 2) == 42\nassert add(-7, 60) == 53"
} | LIMITS
SUMS = {"stdin": ["2 3\n", "40 2\n", "-7 60\n"], "stdout": ["5\n", "42\n", "53\n"]} | LIMITS
ADDS = "def add(a, b):\n    print('right')\n    return a + b\n"
PRINTS_SUM = "a, b = map(int, input().split())\nprint(a + b)\n"


@pytest.fixture(params=sandbox.LEVELS)
def level(request):
    if reason := sandbox.unusable(request.param):
        pytest.skip(f"level {request.param} does not run here: {reason}")
    return request.param


def test_the_bank_is_large_and_says_what_must_hold():
    assert len(FORGERIES) + len(PRINTS) >= 40
    for name, source in (FORGERIES | PRINTS).items():
        assert ast.get_docstring(ast.parse(source)), name


def test_what_computes_passes(level):
    assert code.judge(ADDS, TESTS, level) == code.Judgement(Verdict.right, "", level)
    assert code.judge(PRINTS_SUM, SUMS, level) == code.Judgement(Verdict.right, "", level)


@pytest.mark.parametrize("name", FORGERIES)
def test_no_false_pass(name, level):
    judged = code.judge(FORGERIES[name], TESTS, level)
    assert judged.verdict in (Verdict.wrong, Verdict.timeout), judged
    assert judged.level == level


@pytest.mark.parametrize("name", PRINTS)
def test_no_false_pass_by_printing(name, level):
    judged = code.judge(PRINTS[name], SUMS, level)
    assert judged.verdict in (Verdict.wrong, Verdict.timeout), judged
