"""Answers that mean harm: each has its verdict within the second, none raises."""

import time
from fractions import Fraction
from random import Random

import pytest

from baiwen.verify.math import check, final_answer
from baiwen.verify.math.compare import equal
from baiwen.verify.verdict import Verdict

TRUTH = r"\sqrt{2}+\sqrt{3}"
CAP = 1.0  # seconds, in all
SLACK = 0.5  # for a machine that others use too

HOSTILE = {
    "a tower of powers": "9^{9^{9^9}}",
    "a tower without braces": "9^9^9^9",
    "a tower of x": "x" + "^x" * 40,
    "a braced tower of x": "x^{" * 30 + "x" + "}" * 30,
    "a huge power": "10^{10^{10}}",
    "a huge factorial": "(10^9)!",
    "factorials of factorials": "100!!!!",
    "factorials": "2000!" * 50,
    "a huge binomial": r"\binom{10^9}{5\cdot 10^8}",
    "a huge sum": r"\sum_{k=1}^{10^{12}} \frac{1}{k^2+\sqrt{k}}",
    "a huge product": r"\prod_{k=1}^{10^7} k",
    "a hard integral": r"\int_0^1 \sin(x^x)\,dx",
    "a sine of much": r"\sin(10^{300})",
    "a power of a complex number": "(1+i)^{10^{11}}",
    "fractions in fractions": r"\frac{1}{" * 1000 + "2" + "}" * 1000,
    "mixed numbers in mixed numbers": r"3\frac{" * 300,
    "roots in roots": r"\sqrt{2+" * 38 + "2" + "}" * 38,
    "tangents of tangents": r"\tan(" * 38 + "1" + ")" * 38,
    "a sum of roots": "+".join(f"\\sqrt{{{k}}}" for k in range(2, 60)),
    "a sum of fractions": "+".join(rf"\frac{{1}}{{{k}}}" for k in range(10_001, 10_090)),
    "a megabyte of digits": "1" * 10**6,
    "a megabyte of decimals": "0." + "9" * 10**6,
    "grouped digits": "1" + ",111" * 5000 + ",1111",
    "a megabyte of blanks": " " * 10**6 + "1",
    "lines that announce": "answer is\n" * 20_000,
    "dollars": "$" * 10**5,
    "formulas that do not close": "\\[" * 20_000,
    "boxes that do not close": "\\boxed{" * 3000,
    "braces": "{" * 5000,
    "brackets": "(" * 5000 + ")" * 5000,
    "signs": "-" * 1500 + "1",
    "stars": "**" * 50_000,
    "a long list": ",".join(map(str, range(400))),
    "a list of sums": ",".join(f"x+{k}" for k in range(55)),
    "matrices in matrices": r"\begin{pmatrix}" * 50,
    "letters": "a" * 30_000 + "!",
    "null characters": "\0" * 1000,
    "half characters": "\ud800" * 1000,
    "accents": "a" + "\u0301" * 10_000,
}


@pytest.fixture(scope="module", autouse=True)
def _started():
    check(r"\boxed{\sum_{k=1}^{3} k}", "6")  # the worker's start is on nobody's account


@pytest.mark.parametrize("name", HOSTILE)
def test_no_answer_takes_longer_than_the_cap(name):
    begin = time.monotonic()
    verdict = check(rf"\boxed{{{HOSTILE[name]}}}", TRUTH)
    assert time.monotonic() - begin < CAP + SLACK
    assert verdict in (Verdict.wrong, Verdict.undecided, Verdict.timeout)


@pytest.mark.parametrize("form", ["The answer is ANSWER", "ANSWER", "ANSWER = ANSWER\n**ANSWER**"])
def test_no_text_is_slow_to_search_and_compare(form):
    for name, answer in HOSTILE.items():
        text = form.replace("ANSWER", answer)
        begin = time.process_time()
        assert equal(final_answer(text, TRUTH), TRUTH) is not True, name
        assert time.process_time() - begin < CAP / 2, name


PIECES = (
    r"\frac \sqrt \boxed{ \left( \right] { } ( ) [ ] | , ; = < > \le \pm ^ _ ! % $ \text{ cm } \pi "
)
PIECES += (
    r"\infty \cup \{ \} \sin \log x y e i 1 2 0 10 0.5 1,234 / * + - : ' \\ & \begin{pmatrix} "
)
PIECES += r"\end{pmatrix} \overline{3} 0. . 。 和 答案 answer is #### ** \ \binom \lfloor ° ½ ² ∞ −"
TRUTHS = [
    "1",
    r"\frac{1}{2}",
    "x^2+1",
    "(1,2)",
    r"[0,\infty)",
    r"\{1,2\}",
    "x=3",
    "5 cm",
    "yes",
    "A",
]


@pytest.mark.slow
def test_ten_thousand_fuzzed_answers_raise_nothing_and_end():
    rng, pieces = Random(0), PIECES.split(" ")
    begin = time.process_time()
    for _ in range(10_000):
        answer = rng.choice(["", " "]).join(rng.choices(pieces, k=rng.randint(1, 14)))
        truth = rng.choice(TRUTHS)
        assert equal(final_answer(answer, truth), truth) in (True, False, None)
    assert time.process_time() - begin < 60


@pytest.mark.parametrize(
    "answer", ["", " ", "?", "qwerty uiop", "{}", "\\", "$$", r"\boxed{}", "。"]
)
@pytest.mark.parametrize("truth", TRUTHS)
def test_garbage_is_never_right(answer, truth):
    assert check(answer, truth) in (Verdict.wrong, Verdict.undecided)


@pytest.mark.parametrize("truth", [None, [], {}, True, "", "  ", r"\boxed{}", b"1"])
def test_a_truth_that_states_nothing_is_an_error(truth):
    assert check("1", truth) is Verdict.error


def test_a_truth_may_be_a_number_of_python():
    assert check("0.1", 0.1) is Verdict.right
    assert check("12", 12) is Verdict.right
    assert check(r"\frac13", Fraction(1, 3)) is Verdict.right
    assert check("0.3", 0.1 + 0.2) is Verdict.wrong
