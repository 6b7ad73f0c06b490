"""Are two expressions equal? Exactly where they are rational, else by

    same(read("\\frac{2}{4}"), read("0.5"))                       -> True, by fractions
    same(read("\\frac{1}{2^{99}}"), read("\\frac{1}{2^{98}}"))      -> False, by fractions
    same(read("\\frac{1}{\\sqrt 2}"), read("\\frac{\\sqrt 2}{2}"))   -> True, by intervals
    same(read("(x+1)^2"), read("x^2+2x+1"))                       -> True, at generic points
    same(read("9^{9^{9^9}}"), read("1"))                          -> None: too large to tell

Intervals prove that two values differ. That they are equal is proved by the zero bound for
algebraic numbers (Burnikel, Fleischer, Mehlhorn & Schirra, 2000): an expression of known degree and
size is zero or larger than the bound, so intervals are computed to that many bits. Transcendental
parts enter the bound by their size alone, as if they were algebraic of degree one: no proof, but
two values would have to agree by accident to hundreds of bits.
"""

import math
from collections.abc import Mapping
from fractions import Fraction

from baiwen.verify.math.evaluate import evaluate
from baiwen.verify.math.intervals import Box, Value, box, holds_zero, is_below, subtract
from baiwen.verify.math.terms import Expression, Term, UnreadableError, is_leaf, names, operation

_FIRST = 120  # bits of the first attempt
_MOST = 12_000  # bits of the last, for a short expression
_SHORT = 40  # operations
_GENERIC = 300  # bits to which two functions have to agree at a generic point
_POINTS = 4  # at which they have to
_MISSED = 16  # points at which an expression may be undefined before we give up
_FAR = 101  # times as large is a far point
# Generic points: ratios of primes.
_ABOVE = (10007, 10037, 10061, 10079, 10103, 10133, 10151, 10163, 10181, 10211, 10243, 10267)
_BELOW = (6421, 6449, 6469, 6521, 6547, 6569, 6577, 6607, 6653, 6673, 6691, 6709, 6737, 6763)
_NO_VALUE = (UnreadableError, ArithmeticError, ValueError, RecursionError)


def same(left: Expression, right: Expression) -> bool | None:
    """Are the two equal, as numbers or as functions of their variables? None: cannot tell."""
    if left == right:
        return True
    infinite = _infinite(left), _infinite(right)
    if any(infinite):
        return infinite[0] == infinite[1]
    variables = sorted(names(left) | names(right))
    try:
        if variables:
            return _same_function(left, right, variables)
        return _same_at(left, right, {})
    except _NO_VALUE:
        return None


def proportional(left: Expression, right: Expression, *, positive: bool = False) -> bool | None:
    """Is `left` a constant multiple of `right`, not by zero (or `positive`: by more than zero)?"""
    variables = sorted(names(left))
    if not variables or names(left) != names(right):
        return None
    first, *others = [_point(variables, at) for at in range(_POINTS)]
    try:
        here = _at_point(left, first), _at_point(right, first)
        if any(_same_at(value, Fraction(0), {}) is not False for value in here):
            return None
        for other in others:
            there = _at_point(left, other), _at_point(right, other)
            one, two = (operation("multiply", here[at], there[1 - at]) for at in range(2))
            if (verdict := _same_at(one, two, {})) is not True:
                return verdict
        return not positive or _same_sign(*here)
    except _NO_VALUE:
        return None


def _same_sign(left: Expression, right: Expression) -> bool | None:
    """Are two numbers on one side of zero? None where they are no fractions."""
    values = evaluate(left, {}, _FIRST), evaluate(right, {}, _FIRST)
    if isinstance(values[0], Fraction) and isinstance(values[1], Fraction):
        return values[0] * values[1] > 0
    return None


def _at_point(term: Expression, at: Mapping[str, Fraction]) -> Expression:
    """The term with numbers for its variables."""
    if isinstance(term, Fraction) or term.op == "constant":
        return term
    if term.op == "variable":
        return at[term.args[0]]
    return Term(term.op, tuple(_at_point(arg, at) for arg in term.args))


def _point(variables: list[str], at: int) -> dict[str, Fraction]:
    """Values of the variables: at even points all positive, at odd ones of mixed sign; two in
    four are far from zero, beyond what an absolute value turns at."""
    return {
        name: Fraction(_ABOVE[(at + place) % 12], _BELOW[(3 * place + 5 * at) % 14])
        * (-1) ** (at * (place + 1))
        * (_FAR if _is_far(at) else 1)
        + place // 14
        for place, name in enumerate(variables)
    }


def _is_far(at: int) -> bool:
    return at % 4 >= 2


def _infinite(term: Expression) -> int:
    """1 or -1 where the term is infinity with that sign; else 0."""
    if isinstance(term, Fraction):
        return 0
    if term.op == "constant":
        return int(term.args[0] == "infinity")
    if term.op == "multiply" and len(term.args) == 2 and isinstance(term.args[0], Fraction):
        return _infinite(term.args[1]) * (-1 if term.args[0] < 0 else 1)
    return 0


def _same_function(left: Expression, right: Expression, variables: list[str]) -> bool | None:
    """Equality at generic points: one that differs decides, four that agree do. A far one, where
    powers may grow beyond all bits, need not tell; then no other is tried."""
    agreed, too_far = 0, False
    for at in range(_POINTS + _MISSED):
        if too_far and _is_far(at):
            continue
        try:
            verdict = _same_at(left, right, _point(variables, at))
        except (ArithmeticError, ValueError):
            continue
        if verdict is None and _is_far(at):
            too_far = True
            continue
        if verdict is not True:
            return verdict
        agreed += 1
        if agreed == _POINTS:
            return True
    return None


def _same_at(left: Expression, right: Expression, at: Mapping[str, Fraction]) -> bool | None:
    """Equality of two numbers, with more bits until they part or the bound is reached."""
    most = _MOST // (1 + (_count(left) + _count(right)) // _SHORT)
    precision, needed = _FIRST, 0
    while True:
        values = evaluate(left, at, precision), evaluate(right, at, precision)
        if isinstance(values[0], Fraction) and isinstance(values[1], Fraction):
            return values[0] == values[1]
        gap = _gap(*values, precision)
        if not holds_zero(gap):
            return False
        needed = needed or (_GENERIC if at else _bits_to_tell(left, right))
        if is_below(gap, needed):
            return True
        if precision >= most:
            return None
        precision = min(max(4 * precision, needed + _FIRST), most)


def _gap(left: Value, right: Value, precision: int) -> Box:
    return subtract(box(left, precision), box(right, precision), precision)


def _count(term: Expression) -> int:
    """Operations in a term, itself among them."""
    if isinstance(term, Fraction) or is_leaf(term):
        return 1
    return 1 + sum(_count(arg) for arg in term.args)


# How many bits tell a value from zero.


def _bits_to_tell(left: Expression, right: Expression) -> int:
    """Bits at which two numbers that still agree are equal: the zero bound of the difference."""
    above, below, degree = _size(operation("add", left, right))
    return max(_FIRST, math.ceil(min((degree - 1) * above + below, 2 * _MOST))) + 8


def _size(term: Expression) -> tuple[float, float, float]:
    """(log2 u, log2 l, degree) of a term: u bounds its conjugates where it has no divisions,
    u / l where it has."""
    if isinstance(term, Fraction):
        return math.log2(abs(term.numerator) or 1), math.log2(term.denominator), 1.0
    if term.op in ("variable", "constant"):
        return 2.0, 0.0, 1.0
    sizes = [_size(arg) for arg in term.args]
    if term.op == "power" and isinstance(term.args[1], Fraction):
        return _size_of_power(sizes[0], term.args[1])
    if term.op in ("root", "sqrt"):
        count = term.args[1] if term.op == "root" else Fraction(2)
        return _size_of_power(sizes[0], 1 / count if isinstance(count, Fraction) else Fraction(1))
    degree = math.prod(size[2] for size in sizes)
    below = sum(size[1] for size in sizes)
    if term.op == "add":
        above = max(size[0] - size[1] for size in sizes) + below + math.log2(len(sizes))
        return above, below, degree
    return sum(size[0] for size in sizes) + 8, below + 8, degree


def _size_of_power(size: tuple[float, float, float], power: Fraction) -> tuple[float, float, float]:
    above, below, degree = size
    if power < 0:
        above, below = below, above
    count, whole = power.denominator, abs(power.numerator)
    above, below = above * whole, below * whole
    if count > 1:
        if above >= below:
            above = (above + (count - 1) * below) / count
        else:
            below = ((count - 1) * above + below) / count
    return above, below, degree * count
