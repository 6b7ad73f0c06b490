"""The value of an expression at a point: a fraction where it is one, else a complex interval.

    evaluate(read("1/2+1/3"), {}, 100)       -> Fraction(5, 6)
    evaluate(read("\\sin x"), {"x": Fraction(1)}, 100)       -> a box around 0.84147...

One function for each operation of `terms.py`: a list of values and a precision in, a value out.
"""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TypeAlias

from mpmath.libmp import libmpi

from baiwen.verify.math.intervals import (
    DEGREE,
    ONE,
    ZERO,
    Box,
    Value,
    add,
    bounded,
    exp,
    inverse,
    logarithm,
    multiply,
    power,
    ratio,
    real,
    root,
)
from baiwen.verify.math.terms import Expression, UnreadableError

Operation: TypeAlias = Callable[[list[Value], int], Value]

_FACTORIAL = 2500


def evaluate(term: Expression, at: Mapping[str, Fraction], precision: int) -> Value:
    """The value at a point, a box of about `precision` bits where it is no fraction."""
    if isinstance(term, Fraction):
        return term
    if term.op == "variable":
        return at[term.args[0]]
    if term.op == "constant":
        return _constant(term.args[0], precision)
    value = _OPERATIONS[term.op]([evaluate(arg, at, precision) for arg in term.args], precision)
    return bounded(value) if isinstance(value, Fraction) else value


def _constant(name: str, precision: int) -> Box:
    if name == "i":
        return ZERO, ONE
    if name == "pi":
        return libmpi.mpi_pi(precision), ZERO
    if name == "e":
        return libmpi.mpi_exp(ONE, precision), ZERO
    raise UnreadableError("infinity is no number")


def _log(args: list[Value], precision: int) -> Value:
    """Of the first argument, to the base of the second; exact where it is a whole number."""
    if len(args) == 1:
        return logarithm(args[0], precision)
    exact = _exact_log(*args)
    logs = [logarithm(arg, precision) for arg in args]
    return exact if exact is not None else ratio(logs[0], logs[1], precision)


def _exact_log(value: Value, base: Value) -> Fraction | None:
    if not isinstance(value, Fraction) or not isinstance(base, Fraction):
        return None
    if value <= 0 or base <= 0 or base == 1:
        raise ValueError("a logarithm of no number above zero")
    guess = round(_log2(value) / _log2(base))
    return Fraction(guess) if abs(guess) < DEGREE and base**guess == value else None


def _log2(value: Fraction) -> float:
    return math.log2(value.numerator) - math.log2(value.denominator)


def _trigonometric(parts: Callable[[Value, Value, int], Value]) -> Operation:
    def apply(args: list[Value], precision: int) -> Value:
        cos, sin = libmpi.mpi_cos_sin(real(args[0], precision + 20), precision)
        return parts((sin, ZERO), (cos, ZERO), precision)

    return apply


def _hyperbolic(parts: Callable[[Value, Value, int], Value]) -> Operation:
    def apply(args: list[Value], precision: int) -> Value:
        half = Fraction(1, 2)
        up = multiply([half, exp(args, precision + 10)], precision + 10)
        down = multiply([half / 2, inverse(up, precision + 10)], precision + 10)
        minus = multiply([Fraction(-1), down], precision)
        return parts(add([up, minus], precision), add([up, down], precision), precision)

    return apply


def _arctan(args: list[Value], precision: int) -> Value:
    return libmpi.mpi_atan(real(args[0], precision + 10), precision), ZERO


def _arcsin(args: list[Value], precision: int) -> Value:
    """By arctan(x / sqrt(1 - x^2)); at 1 and -1 by its value."""
    value = args[0]
    if isinstance(value, Fraction) and abs(value) >= 1:
        if abs(value) > 1:
            raise ValueError("an arcsine of no sine")
        return multiply([value / 2, _constant("pi", precision)], precision)
    square = multiply([Fraction(-1), value, value], precision)
    rest = root([add([Fraction(1), square], precision), Fraction(2)], precision)
    return _arctan([ratio(value, rest, precision)], precision)


def _arccos(args: list[Value], precision: int) -> Value:
    quarter = multiply([Fraction(1, 2), _constant("pi", precision)], precision)
    angle = multiply([Fraction(-1), _arcsin(args, precision)], precision)
    return add([quarter, angle], precision)


def _abs(args: list[Value], precision: int) -> Value:
    if isinstance(args[0], Fraction):
        return abs(args[0])
    return libmpi.mpci_abs(args[0], precision), ZERO


def _fraction(value: Value) -> Fraction:
    if not isinstance(value, Fraction):
        raise UnreadableError("only of fractions")
    return value


def _whole(value: Value) -> int:
    number = _fraction(value)
    if number.denominator > 1 or not 0 <= number <= _FACTORIAL:
        raise UnreadableError("no whole number of a size for this")
    return number.numerator


_OPERATIONS: dict[str, Operation] = {
    "add": add,
    "multiply": multiply,
    "power": power,
    "root": root,
    "sqrt": lambda args, precision: root([args[0], Fraction(2)], precision),
    "exp": exp,
    "ln": _log,
    "log": _log,
    "lg": lambda args, precision: _log([args[0], Fraction(10)], precision),
    "abs": _abs,
    "floor": lambda args, _: Fraction(math.floor(_fraction(args[0]))),
    "ceil": lambda args, _: Fraction(math.ceil(_fraction(args[0]))),
    "plain": lambda args, _: args[0],
    "percent": lambda args, precision: multiply([args[0], Fraction(1, 100)], precision),
    "degree": lambda args, precision: multiply(
        [args[0], Fraction(1, 180), _constant("pi", precision)], precision
    ),
    "factorial": lambda args, _: Fraction(math.factorial(_whole(args[0]))),
    "binomial": lambda args, _: Fraction(math.comb(_whole(args[0]), _whole(args[1]))),
    "sin": _trigonometric(lambda sin, cos, precision: sin),
    "cos": _trigonometric(lambda sin, cos, precision: cos),
    "tan": _trigonometric(ratio),
    "cot": _trigonometric(lambda sin, cos, precision: ratio(cos, sin, precision)),
    "sec": _trigonometric(lambda sin, cos, precision: inverse(cos, precision)),
    "csc": _trigonometric(lambda sin, cos, precision: inverse(sin, precision)),
    "sinh": _hyperbolic(lambda sinh, cosh, precision: sinh),
    "cosh": _hyperbolic(lambda sinh, cosh, precision: cosh),
    "tanh": _hyperbolic(ratio),
    "arcsin": _arcsin,
    "arccos": _arccos,
    "arctan": _arctan,
}
