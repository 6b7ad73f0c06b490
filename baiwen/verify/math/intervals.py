"""Exact fractions and complex intervals: sums, products, powers, roots, exp and logarithm.

    root([Fraction(2), Fraction(2)], 100)       -> a box around 1.41421356..., of about 100 bits
    root([Fraction(9, 16), Fraction(2)], 100)   -> Fraction(3, 4)

The arithmetic is mpmath's `libmpi`: pure functions with directed rounding and without a global
precision, so threads do not disturb each other. What would cost much raises `UnreadableError`
before it is tried; what has no value raises `ArithmeticError` or `ValueError`.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias

from mpmath.libmp import libmpf, libmpi

from baiwen.verify.math.terms import UnreadableError

Interval: TypeAlias = tuple[Any, Any]  # low and high, as mpmath's raw numbers
Box: TypeAlias = tuple[Interval, Interval]  # real and imaginary part
Value: TypeAlias = Fraction | Box

_EXACT = 24_000  # bits of a fraction that is still computed exactly
_EXPONENT = 2**40  # the largest: beyond, precision would cost too much
_ARGUMENT = 40  # bits before the point of what functions take
DEGREE = 1000  # of a root
ZERO: Interval = libmpi.mpi_zero
ONE: Interval = libmpi.mpi_one


def box(value: Value, precision: int) -> Box:
    """The value as a complex interval."""
    if not isinstance(value, Fraction):
        return value
    low, high = (
        libmpf.from_rational(value.numerator, value.denominator, precision, rounding)
        for rounding in ("f", "c")
    )
    return (low, high), ZERO


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


def bounded(value: Fraction) -> Fraction:
    """The fraction, if it has few enough digits to go on with."""
    if _bits(value) > _EXACT:
        raise UnreadableError("a fraction of too many digits")
    return value


def _bits(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()


# Sums, products, powers, roots.


def add(args: list[Value], precision: int) -> Value:
    """The sum."""
    return _folded(args, precision, Fraction(0), Fraction.__add__, libmpi.mpci_add)


def multiply(args: list[Value], precision: int) -> Value:
    """The product."""
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
            exact = bounded(on_fractions(exact, arg))
        else:
            boxes.append(arg)
    if not boxes:
        return exact
    total = box(exact, precision)
    for arg in boxes:
        total = on_boxes(total, arg, precision)
    return total


def power(args: list[Value], precision: int) -> Value:
    """Base to the exponent; by a real root and a whole power where the exponent is a fraction."""
    base, exponent = args
    if isinstance(exponent, Fraction) and exponent.denominator < DEGREE:
        if exponent.denominator > 1:
            base = root([base, Fraction(exponent.denominator)], precision)
        return _whole_power(base, exponent.numerator, precision)
    log = logarithm(base, precision)
    return exp([multiply([exponent, log], precision)], precision)


def _whole_power(base: Value, exponent: int, precision: int) -> Value:
    if isinstance(base, Fraction) and _bits(base) * abs(exponent) <= _EXACT:
        return base**exponent
    if abs(exponent) > _EXPONENT:
        raise UnreadableError("too large a power")
    if exponent < 0:
        base = inverse(base, precision)
    wide = precision + abs(exponent).bit_length()
    power: Box = libmpi.mpci_pow_int(box(base, wide), abs(exponent), precision)
    return power


def inverse(value: Value, precision: int) -> Value:
    """One by the value."""
    if isinstance(value, Fraction):
        return 1 / value
    if holds_zero(value):
        raise ZeroDivisionError
    inverse: Box = libmpi.mpci_div((ONE, ZERO), value, precision)
    return inverse


def ratio(above: Value, below: Value, precision: int) -> Value:
    """`above` by `below`."""
    return multiply([above, inverse(below, precision)], precision)


def root(args: list[Value], precision: int) -> Value:
    """The real root where there is one, of a negative number the odd one; else the principal."""
    value, degree = args
    if not isinstance(degree, Fraction) or degree.denominator > 1 or not 0 < degree < DEGREE:
        raise UnreadableError("no degree of a root")
    count = degree.numerator
    if isinstance(value, Fraction):
        return _root_of_fraction(value, count, precision)
    (low, high), imaginary = value
    if imaginary == ZERO and libmpf.mpf_ge(low, libmpf.fzero):
        return _real_root(value[0], count, precision), ZERO
    if imaginary == ZERO and libmpf.mpf_lt(high, libmpf.fzero) and count % 2:
        opposite = multiply([Fraction(-1), value], precision)
        return multiply([Fraction(-1), root([opposite, degree], precision)], precision)
    return exp([multiply([1 / degree, logarithm(value, precision)], precision)], precision)


def _root_of_fraction(value: Fraction, count: int, precision: int) -> Value:
    if value < 0:
        if count > 2 and count % 2 == 0:
            raise ValueError("an even root of a negative number")
        sign: Value = Fraction(-1) if count % 2 else (ZERO, ONE)
        return multiply([sign, _root_of_fraction(-value, count, precision)], precision)
    above, below = _whole_root(value.numerator, count), _whole_root(value.denominator, count)
    if above is not None and below is not None:
        return Fraction(above, below)
    return _real_root(box(value, precision + 10)[0], count, precision), ZERO


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


def _small(value: Value, precision: int) -> Box:
    """The value as a box, where it is small enough for its digits to matter."""
    found = box(value, precision)
    for _, man, exp, bits in (end for interval in found for end in interval):
        if (man and exp + bits > _ARGUMENT) or (not man and exp):  # or infinite
            raise UnreadableError("too large an argument")
    return found


def real(value: Value, precision: int) -> Interval:
    """The interval of a real number."""
    real, imaginary = _small(value, precision)
    if imaginary != ZERO:
        raise UnreadableError("complex numbers have no place here")
    return real


def exp(args: list[Value], precision: int) -> Value:
    """e to the argument."""
    found: Box = libmpi.mpci_exp(_small(args[0], precision), precision)
    return found


def logarithm(value: Value, precision: int) -> Box:
    """The natural logarithm; of a complex number the principal one."""
    found = box(value, precision + 10)
    if holds_zero(found):
        raise ValueError("a logarithm of zero, perhaps")
    if found[1] == ZERO:
        if libmpf.mpf_le(found[0][0], libmpf.fzero):
            raise ValueError("a logarithm of no number above zero")
        return libmpi.mpi_log(found[0], precision), ZERO
    log: Box = libmpi.mpci_log(found, precision)
    return log
