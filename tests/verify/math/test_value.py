"""Equality of numbers and functions: against mpmath at high precision, and at its limits."""

from random import Random

import mpmath
import pytest
from mpmath.libmp import libmpf

from baiwen.verify.math.evaluate import evaluate
from baiwen.verify.math.grammar import read
from baiwen.verify.math.intervals import box
from baiwen.verify.math.value import proportional, same

# LaTeX and what mpmath computes for it.
LEAVES = [
    ("2", lambda: mpmath.mpf(2)),
    ("7", lambda: mpmath.mpf(7)),
    (r"\frac{3}{5}", lambda: mpmath.mpf(3) / 5),
    (r"\pi", lambda: +mpmath.pi),
    ("e", lambda: +mpmath.e),
]
ONE = [
    (r"\sqrt{%s}", mpmath.sqrt),
    (r"\sqrt[3]{%s}", mpmath.cbrt),
    (r"\sin(%s)", mpmath.sin),
    (r"\cos(%s)", mpmath.cos),
    (r"\arctan(%s)", mpmath.atan),
    (r"\ln(%s)", mpmath.log),
    (r"\left|%s\right|", abs),
    (r"\tanh(%s)", mpmath.tanh),
]
TWO = [
    ("(%s)+(%s)", lambda x, y: x + y),
    ("(%s)-(%s)", lambda x, y: x - y),
    (r"(%s) \cdot (%s)", lambda x, y: x * y),
    (r"\frac{%s}{%s}", lambda x, y: x / y),
]


def draw(rng, depth):
    """A closed expression as LaTeX, and its value."""
    if depth == 0:
        text, value = rng.choice(LEAVES)
        return text, value()
    if rng.random() < 0.4:
        form, function = rng.choice(ONE)
        text, value = draw(rng, depth - 1)
        return form % text, function(value)
    form, function = rng.choice(TWO)
    (left, x), (right, y) = draw(rng, depth - 1), draw(rng, depth - 1)
    return form % (left, right), function(x, y)


def real_expressions(count):
    rng = Random(1)
    with mpmath.workdps(80):
        while count:
            text, value = draw(rng, 3)
            if isinstance(value, mpmath.mpf) and abs(value) > 1e-20:
                count -= 1
                yield text, value


def test_a_box_holds_the_value_that_mpmath_computes():
    checked = 0
    for text, value in real_expressions(120):
        try:
            (low, high), _ = box(evaluate(read(text), {}, 160), 160)
        except (ArithmeticError, ValueError):
            continue
        width = libmpf.mpf_sub(high, low)
        assert libmpf.mpf_lt(width, libmpf.from_str("1e-30", 53)), text
        slack = libmpf.mpf_shift(libmpf.fone, -200)
        assert libmpf.mpf_le(libmpf.mpf_sub(low, slack), value._mpf_), text
        assert libmpf.mpf_ge(libmpf.mpf_add(high, slack), value._mpf_), text
        checked += 1
    assert checked > 100


def test_what_differs_in_the_fiftieth_digit_differs():
    for text, _ in real_expressions(60):
        assert same(read(text), read(rf"{text}+10^{{-50}}")) in (False, None), text
        assert same(read(text), read(rf"0+{text}")) in (True, None), text


EQUAL = [
    (r"\sqrt{2+\sqrt{3}}", r"\frac{\sqrt6+\sqrt2}{2}"),
    (r"\sqrt[3]{2+\sqrt5}+\sqrt[3]{2-\sqrt5}", "1"),
    (r"\frac{1}{\sqrt2+\sqrt3+\sqrt5}", r"\frac{2\sqrt3+3\sqrt2-\sqrt{30}}{12}"),
    (r"\cos\frac{\pi}{5}-\cos\frac{2\pi}{5}", r"\frac12"),
    (r"4\arctan\frac15-\arctan\frac1{239}", r"\frac\pi4"),
    (r"\frac{x^3-y^3}{x-y}", "x^2+xy+y^2"),
    (r"\ln(x^2y^2)", r"2\ln|xy|"),
    (r"\sin 3x", r"3\sin x-4\sin^3 x"),
    (r"\cosh 2x", r"2\cosh^2 x-1"),
    (r"\sec^2 x", r"1+\tan^2 x"),
]
# The first is the well-known near miss of Ramanujan's; the others agree to ten digits and more.
NEAR = [
    (r"e^{\pi\sqrt{163}}", "262537412640768744"),
    (r"\sqrt{2}+\sqrt{3}", "3.1462643699419723423"),
    (r"\sqrt[3]{2+\sqrt5}", "1.6180339887498948482"),
    (r"\frac{\ln 640320^3+744\cdot 10^{-30}}{\sqrt{163}}", r"\pi"),
    (r"x+10^{-60}", "x"),
    (r"\sqrt{x^2+10^{-60}}", "|x|"),
    (r"\sqrt{10^{80}+1}", "10^{40}"),
]


@pytest.mark.parametrize(("left", "right"), EQUAL)
def test_an_identity_is_one(left, right):
    assert same(read(left), read(right))


@pytest.mark.parametrize(("left", "right"), NEAR)
def test_nearly_equal_is_not_equal(left, right):
    assert same(read(left), read(right)) is False


@pytest.mark.parametrize("text", ["9^{9^{9^9}}", "(10^9)!", r"\sin(10^{300})", r"1+\infty", "1/0"])
def test_too_large_or_without_value_is_undecided(text):
    assert same(read(text), read("1")) is None


def test_an_equation_is_another_ones_multiple():
    assert proportional(read("2x+4y-6"), read("3-x-2y"))
    assert proportional(read("2x+4y-6"), read("3-x-2y"), positive=True) is False
    assert proportional(read("2x+4y-6"), read("x+2y+3")) is False
    assert proportional(read("0x"), read("x")) is None
