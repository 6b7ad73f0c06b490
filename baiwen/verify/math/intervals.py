"""The value of an expression: a fraction where it is one, else a complex interval.

    evaluate(read("1/2+1/3"), {}, 100)       -> Fraction(5, 6)
    evaluate(read("\\\\sqrt 2"), {}, 100)       -> a box around 1.41421356..., of about 100 bits

The arithmetic is mpmath's `libmpi`: pure functions with directed rounding and without a global
precision, so threads do not disturb each other. What would cost much (`(10^9)!`, `9^9^9^9`) raises
`UnreadableError` before it is tried; what has no value raises `ArithmeticError` or `ValueError`.
"""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeAlias

from mpmath.libmp import libmpf, libmpi

from baiwen.verify.math.terms import Expression, UnreadableError

Interval: TypeAlias = tuple[Any, Any]  # low and high, as mpmath's raw numbers
Box: TypeAlias = tuple[Interval, Interval]  # real and imaginary part
Value: TypeAlias = Fraction | Box
Operation: TypeAlias = Callable[[list[Value], int], Value]

_EXACT = 24_000  # bits of a fraction that is still computed exactly
_EXPONENT = 2**40  # the largest: beyond, precision would cost too much
_ARGUMENT = 40  # bits before the point of what functions take
_FACTORIAL = 2500
_DEGREE = 1000  # of a root
_ZERO, _ONE = libmpi.mpi_zero, libmpi.mpi_one


def evaluate(term: Expression, at: Mapping[str, Fraction], precision: int) -> Value:
    """The value at a point, a box of about `precision` bits where it is no fraction."""
    if isinstance(term, Fraction):
        return term
    if term.op == "variable":
        return at[term.args[0]]
    if term.op == "constant":
        return _constant(term.args[0], precision)
    value = _OPERATIONS[term.op]([evaluate(arg, at, precision) for arg in term.args], precision)
    return _bounded(value) if isinstance(value, Fraction) else value


def box(value: Value, precision: int) -> Box:
    """The value as a complex interval."""
    if not isinstance(value, Fraction):
        return value
    low, high = (
        libmpf.from_rational(value.numerator, value.denominator, precision, rounding)
        for rounding in ("f", "c")
    )
    return (low, high), _ZERO


def subtract(left: Box, right: Box, precision: int) -> Box:
    """The difference of two boxes."""
    difference: Box = libmpi.mpci_sub(left, right, precision)
    return difference


def holds_zero(value: Box) -> bool:
    """May the number be zero?"""
    return all(
        libmpf.mpf_le(low, libmpf.fzero) and libmpf.mpf_ge(high, libmpf.fzero)
        for low, high in value
    )


def is_below(value: Box, bits: int) -> bool:
    """Is every number of the box smaller than 2^-bits?"""
    limit = libmpf.from_man_exp(1, -bits)
    ends = (end for interval in value for end in interval)
    return all(libmpf.mpf_lt(libmpf.mpf_abs(end), limit) for end in ends)


def _bounded(value: Fraction) -> Fraction:
    if _bits(value) > _EXACT:
        raise UnreadableError("a fraction of too many digits")
    return value


def _bits(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()


def _constant(name: str, precision: int) -> Box:
    if name == "i":
        return _ZERO, _ONE
    if name == "pi":
        return libmpi.mpi_pi(precision), _ZERO
    if name == "e":
        return libmpi.mpi_exp(_ONE, precision), _ZERO
    raise UnreadableError("infinity is no number")


# Sums, products, powers, roots.


def _add(args: list[Value], precision: int) -> Value:
    return _folded(args, precision, Fraction(0), Fraction.__add__, libmpi.mpci_add)


def _multiply(args: list[Value], precision: int) -> Value:
    return _folded(args, precision, Fraction(1), Fraction.__mul__, libmpi.mpci_mul)


def _folded(
    args: list[Value],
    precision: int,
    exact: Fraction,
    on_fractions: Callable[[Fraction, Fraction], Fraction],
    on_boxes: Callable[[Box, Box, int], Box],
) -> Value:
    """The fractions among the arguments together, then the boxes with them."""
    boxes = []
    for arg in args:
        if isinstance(arg, Fraction):
            exact = _bounded(on_fractions(exact, arg))
        else:
            boxes.append(arg)
    if not boxes:
        return exact
    total = box(exact, precision)
    for arg in boxes:
        total = on_boxes(total, arg, precision)
    return total


def _power(args: list[Value], precision: int) -> Value:
    base, exponent = args
    if isinstance(exponent, Fraction) and exponent.denominator < _DEGREE:
        if exponent.denominator > 1:
            base = _root([base, Fraction(exponent.denominator)], precision)
        return _whole_power(base, exponent.numerator, precision)
    log = _logarithm(base, precision)
    return _exp([_multiply([exponent, log], precision)], precision)


def _whole_power(base: Value, exponent: int, precision: int) -> Value:
    if isinstance(base, Fraction) and _bits(base) * abs(exponent) <= _EXACT:
        return base**exponent
    if abs(exponent) > _EXPONENT:
        raise UnreadableError("too large a power")
    if exponent < 0:
        base = _inverse(base, precision)
    wide = precision + abs(exponent).bit_length()
    power: Box = libmpi.mpci_pow_int(box(base, wide), abs(exponent), precision)
    return power


def _inverse(value: Value, precision: int) -> Value:
    if isinstance(value, Fraction):
        return 1 / value
    if holds_zero(value):
        raise ZeroDivisionError
    inverse: Box = libmpi.mpci_div((_ONE, _ZERO), value, precision)
    return inverse


def _ratio(above: Value, below: Value, precision: int) -> Value:
    return _multiply([above, _inverse(below, precision)], precision)


def _root(args: list[Value], precision: int) -> Value:
    """The real root where there is one, of a negative number the odd one; else the principal."""
    value, degree = args
    if not isinstance(degree, Fraction) or degree.denominator > 1 or not 0 < degree < _DEGREE:
        raise UnreadableError("no degree of a root")
    count = degree.numerator
    if isinstance(value, Fraction):
        return _root_of_fraction(value, count, precision)
    (low, high), imaginary = value
    if imaginary == _ZERO and libmpf.mpf_ge(low, libmpf.fzero):
        return _real_root(value[0], count, precision), _ZERO
    if imaginary == _ZERO and libmpf.mpf_lt(high, libmpf.fzero) and count % 2:
        opposite = _multiply([Fraction(-1), value], precision)
        return _multiply([Fraction(-1), _root([opposite, degree], precision)], precision)
    return _exp([_multiply([1 / degree, _logarithm(value, precision)], precision)], precision)


def _root_of_fraction(value: Fraction, count: int, precision: int) -> Value:
    if value < 0:
        if count > 2 and count % 2 == 0:
            raise ValueError("an even root of a negative number")
        sign: Value = Fraction(-1) if count % 2 else _constant("i", precision)
        return _multiply([sign, _root_of_fraction(-value, count, precision)], precision)
    above, below = _whole_root(value.numerator, count), _whole_root(value.denominator, count)
    if above is not None and below is not None:
        return Fraction(above, below)
    return _real_root(box(value, precision + 10)[0], count, precision), _ZERO


def _whole_root(value: int, count: int) -> int | None:
    """The whole number whose power `value` is; None where there is none (or it is very large)."""
    if count == 2:
        root = math.isqrt(value)
    elif value.bit_length() > 1000:
        return None
    else:
        root = round(math.exp(math.log(value) / count)) if value else 0
    return root if root**count == value else None


def _real_root(interval: Interval, count: int, precision: int) -> Interval:
    """Of an interval from zero on: both ends, since roots grow with their argument."""
    if count == 2:
        root: Interval = libmpi.mpi_sqrt(interval, precision)
        return root
    ends = [_root_of_end(end, count, precision) for end in interval]
    return ends[0][0], ends[1][1]


def _root_of_end(end: object, count: int, precision: int) -> Interval:
    if end == libmpf.fzero:
        return end, end
    degree = libmpf.from_int(count)
    log = libmpi.mpi_log((end, end), precision + 10)
    root: Interval = libmpi.mpi_exp(
        libmpi.mpi_div(log, (degree, degree), precision + 10), precision
    )
    return root


# Functions.


def _small(value: Value, precision: int) -> Box:
    """The value as a box, where it is small enough for its digits to matter."""
    found = box(value, precision)
    for _, man, exp, bits in (end for interval in found for end in interval):
        if (man and exp + bits > _ARGUMENT) or (not man and exp):  # or infinite
            raise UnreadableError("too large an argument")
    return found


def _real(value: Value, precision: int) -> Interval:
    """The interval of a real number."""
    real, imaginary = _small(value, precision)
    if imaginary != _ZERO:
        raise UnreadableError("complex numbers have no place here")
    return real


def _exp(args: list[Value], precision: int) -> Value:
    found: Box = libmpi.mpci_exp(_small(args[0], precision), precision)
    return found


def _logarithm(value: Value, precision: int) -> Box:
    found = box(value, precision + 10)
    if holds_zero(found):
        raise ValueError("a logarithm of zero, perhaps")
    if found[1] == _ZERO:
        if libmpf.mpf_le(found[0][0], libmpf.fzero):
            raise ValueError("a logarithm of no number above zero")
        return libmpi.mpi_log(found[0], precision), _ZERO
    log: Box = libmpi.mpci_log(found, precision)
    return log


def _log(args: list[Value], precision: int) -> Value:
    """Of the first argument, to the base of the second; exact where it is a whole number."""
    if len(args) == 1:
        return _logarithm(args[0], precision)
    exact = _exact_log(*args)
    logs = [_logarithm(arg, precision) for arg in args]
    return exact if exact is not None else _ratio(logs[0], logs[1], precision)


def _exact_log(value: Value, base: Value) -> Fraction | None:
    if not isinstance(value, Fraction) or not isinstance(base, Fraction):
        return None
    if value <= 0 or base <= 0 or base == 1:
        raise ValueError("a logarithm of no number above zero")
    guess = round(_log2(value) / _log2(base))
    return Fraction(guess) if abs(guess) < _DEGREE and base**guess == value else None


def _log2(value: Fraction) -> float:
    return math.log2(value.numerator) - math.log2(value.denominator)


def _trigonometric(parts: Callable[[Value, Value, int], Value]) -> Operation:
    def apply(args: list[Value], precision: int) -> Value:
        cos, sin = libmpi.mpi_cos_sin(_real(args[0], precision + 20), precision)
        return parts((sin, _ZERO), (cos, _ZERO), precision)

    return apply


def _hyperbolic(parts: Callable[[Value, Value, int], Value]) -> Operation:
    def apply(args: list[Value], precision: int) -> Value:
        half = Fraction(1, 2)
        up = _multiply([half, _exp(args, precision + 10)], precision + 10)
        down = _multiply([half / 2, _inverse(up, precision + 10)], precision + 10)
        minus = _multiply([Fraction(-1), down], precision)
        return parts(_add([up, minus], precision), _add([up, down], precision), precision)

    return apply


def _arctan(args: list[Value], precision: int) -> Value:
    return libmpi.mpi_atan(_real(args[0], precision + 10), precision), _ZERO


def _arcsin(args: list[Value], precision: int) -> Value:
    """By arctan(x / sqrt(1 - x^2)); at 1 and -1 by its value."""
    value = args[0]
    if isinstance(value, Fraction) and abs(value) >= 1:
        if abs(value) > 1:
            raise ValueError("an arcsine of no sine")
        return _multiply([value / 2, _constant("pi", precision)], precision)
    square = _multiply([Fraction(-1), value, value], precision)
    rest = _root([_add([Fraction(1), square], precision), Fraction(2)], precision)
    return _arctan([_ratio(value, rest, precision)], precision)


def _arccos(args: list[Value], precision: int) -> Value:
    quarter = _multiply([Fraction(1, 2), _constant("pi", precision)], precision)
    angle = _multiply([Fraction(-1), _arcsin(args, precision)], precision)
    return _add([quarter, angle], precision)


def _abs(args: list[Value], precision: int) -> Value:
    if isinstance(args[0], Fraction):
        return abs(args[0])
    return libmpi.mpci_abs(args[0], precision), _ZERO


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
    "add": _add,
    "multiply": _multiply,
    "power": _power,
    "root": _root,
    "sqrt": lambda args, precision: _root([args[0], Fraction(2)], precision),
    "exp": _exp,
    "ln": _log,
    "log": _log,
    "lg": lambda args, precision: _log([args[0], Fraction(10)], precision),
    "abs": _abs,
    "floor": lambda args, _: Fraction(math.floor(_fraction(args[0]))),
    "ceil": lambda args, _: Fraction(math.ceil(_fraction(args[0]))),
    "plain": lambda args, _: args[0],
    "percent": lambda args, precision: _multiply([args[0], Fraction(1, 100)], precision),
    "degree": lambda args, precision: _multiply(
        [args[0], Fraction(1, 180), _constant("pi", precision)], precision
    ),
    "factorial": lambda args, _: Fraction(math.factorial(_whole(args[0]))),
    "binomial": lambda args, _: Fraction(math.comb(_whole(args[0]), _whole(args[1]))),
    "sin": _trigonometric(lambda sin, cos, precision: sin),
    "cos": _trigonometric(lambda sin, cos, precision: cos),
    "tan": _trigonometric(_ratio),
    "cot": _trigonometric(lambda sin, cos, precision: _ratio(cos, sin, precision)),
    "sec": _trigonometric(lambda sin, cos, precision: _inverse(cos, precision)),
    "csc": _trigonometric(lambda sin, cos, precision: _inverse(sin, precision)),
    "sinh": _hyperbolic(lambda sinh, cosh, precision: sinh),
    "cosh": _hyperbolic(lambda sinh, cosh, precision: cosh),
    "tanh": _hyperbolic(_ratio),
    "arcsin": _arcsin,
    "arccos": _arccos,
    "arctan": _arctan,
}
