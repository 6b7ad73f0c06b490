"""Are two expressions equal? Exactly where they are rational, else by intervals.

    same(read("\\\\frac{2}{4}"), read("0.5"))                       -> True, by fractions
    same(read("\\\\frac{1}{2^{99}}"), read("\\\\frac{1}{2^{98}}"))      -> False, by fractions
    same(read("\\\\frac{1}{\\\\sqrt 2}"), read("\\\\frac{\\\\sqrt 2}{2}"))   -> True, by intervals
    same(read("(x+1)^2"), read("x^2+2x+1"))                       -> True, at generic points
    same(read("9^{9^{9^9}}"), read("1"))                          -> None: too large to tell

Intervals prove that two values differ. That they are equal is proved by the zero bound for algebraic
numbers (Burnikel, Fleischer, Mehlhorn & Schirra, 2000): an expression of known degree and size is
either zero or larger than the bound, so intervals are computed to that many bits. Transcendental
parts enter the bound by their size alone, as if they were algebraic of degree one: no proof, but two
values would have to agree by accident to hundreds of bits.
"""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeAlias

from mpmath.libmp import libmpf, libmpi

from baiwen.verify.math.terms import Expression, Term, Unreadable, names

Box: TypeAlias = tuple[Any, Any]  # a complex interval: real and imaginary part, each (low, high)
Value: TypeAlias = Fraction | Box

_EXACT = 24_000  # bits of a fraction that is still computed exactly
_LARGEST = 2**40  # of an exponent or an argument: beyond, precision would cost too much
_FIRST = 120  # bits of the first attempt
_MOST = 12_000  # bits of the last
_FACTORIAL = 2500
_POINTS = 4
_MISSED = 8  # points at which an expression may be undefined before we give up
# Generic points: ratios of primes, no two variables alike, of both signs.
_PRIMES = (10007, 10037, 10061, 10079, 10103, 10133, 10151, 10163, 10181, 10211, 10243, 10267)
_BELOW = (6421, 6449, 6469, 6521, 6547, 6569, 6577, 6607, 6653, 6673, 6691, 6709, 6737, 6763)


def same(left: Expression, right: Expression) -> bool | None:
    """Are the two equal, as numbers or as functions of their variables? None: cannot tell."""
    if left == right:
        return True
    try:
        if infinite := (_infinite(left), _infinite(right)):
            if any(infinite):
                return infinite[0] == infinite[1]
        variables = sorted(names(left) | names(right))
        if not variables:
            return _same_at(left, right, {})
        return _same_function(left, right, variables)
    except (Unreadable, ArithmeticError, ValueError, RecursionError):
        return None


def proportional(left: Expression, right: Expression) -> bool | None:
    """Is `left` a constant multiple of `right`, not zero: do both vanish together?"""
    variables = sorted(names(left) | names(right))
    if not variables or names(left) != names(right):
        return None
    try:
        first, *others = [point(variables, at) for at in range(_POINTS)]
        for other in others:
            crossed = (
                Term("multiply", (at_point(left, first), at_point(right, other))),
                Term("multiply", (at_point(left, other), at_point(right, first))),
            )
            if not _same_at(*crossed, {}):
                return False
        return True
    except (Unreadable, ArithmeticError, ValueError, RecursionError):
        return None


def at_point(term: Expression, at: Mapping[str, Fraction]) -> Expression:
    """The term with numbers for its variables."""
    if isinstance(term, Fraction) or term.op == "constant":
        return term
    if term.op == "variable":
        return at[term.args[0]]
    return Term(term.op, tuple(at_point(arg, at) for arg in term.args))


def number(term: Expression) -> Fraction | None:
    """The rational value of a closed expression, where it is one that is computed exactly."""
    try:
        value = evaluate(term, {}, _FIRST) if not names(term) else None
    except (Unreadable, ArithmeticError, ValueError, RecursionError):
        return None
    return value if isinstance(value, Fraction) else None


def point(variables: list[str], at: int) -> dict[str, Fraction]:
    """Generic values of the variables; even points are positive, odd ones of mixed sign."""
    return {
        name: Fraction(_PRIMES[(at + place) % 12], _BELOW[(3 * place + 5 * at) % 14])
        * (-1) ** (at * (place + 1))
        + place // 14
        for place, name in enumerate(variables)
    }


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
    """Equality at generic points: one that differs decides, four that agree do."""
    agreed = 0
    for at in range(_POINTS + _MISSED):
        try:
            verdict = _same_at(left, right, point(variables, at))
        except (ArithmeticError, ValueError):
            continue
        if verdict is not True:
            return verdict
        agreed += 1
        if agreed == _POINTS:
            return True
    return None


def _same_at(left: Expression, right: Expression, at: Mapping[str, Fraction]) -> bool | None:
    """Equality of two numbers, with more and more bits until they part or the bound is reached."""
    values = evaluate(left, at, _FIRST), evaluate(right, at, _FIRST)
    if isinstance(values[0], Fraction) and isinstance(values[1], Fraction):
        return values[0] == values[1]
    needed = None
    precision, most = _FIRST, _MOST // (1 + (_count(left) + _count(right)) // 40)
    while True:
        gap = libmpi.mpci_sub(*(box(value, precision) for value in values), precision)
        if not _holds_zero(gap):
            return False
        needed = needed or (_GENERIC if at else _bits_to_tell(left, right))
        if _below(gap, needed):
            return True
        if precision >= most:
            return None
        precision = min(max(4 * precision, needed + _FIRST), most)
        values = evaluate(left, at, precision), evaluate(right, at, precision)


_GENERIC = 300  # bits that two functions have to agree to at a generic point


def _holds_zero(value: Box) -> bool:
    return all(
        libmpf.mpf_le(low, libmpf.fzero) and libmpf.mpf_ge(high, libmpf.fzero)
        for low, high in value
    )


def _below(value: Box, bits: int) -> bool:
    """Is every number of the box smaller than 2^-bits?"""
    limit = libmpf.from_man_exp(1, -bits)
    return all(libmpf.mpf_lt(libmpf.mpf_abs(end), limit) for interval in value for end in interval)


# Values.


def evaluate(term: Expression, at: Mapping[str, Fraction], precision: int) -> Value:
    """The value at a point: a fraction where exact, else a box of about `precision` bits.

    Raises `Unreadable`, `ArithmeticError` or `ValueError` where there is none, or none so cheap.
    """
    if isinstance(term, Fraction):
        return term
    if term.op == "variable":
        return at[term.args[0]]
    if term.op == "constant":
        return _constant(term.args[0], precision)
    args = [evaluate(arg, at, precision) for arg in term.args]
    return _bounded(_OPERATIONS[term.op](args, precision))


def box(value: Value, precision: int) -> Box:
    """The value as a complex interval."""
    if not isinstance(value, Fraction):
        return value
    low, high = (
        libmpf.from_rational(value.numerator, value.denominator, precision, rounding)
        for rounding in ("f", "c")
    )
    return (low, high), libmpi.mpi_zero


def _bounded(value: Value) -> Value:
    """The value; a fraction of too many digits is none."""
    if isinstance(value, Fraction) and _bits(value) > _EXACT:
        raise Unreadable("a fraction of too many digits")
    return value


def _bits(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()


def _constant(name: str, precision: int) -> Box:
    zero, one = libmpi.mpi_zero, libmpi.mpi_one
    if name == "i":
        return zero, one
    if name == "pi":
        return libmpi.mpi_pi(precision), zero
    if name == "e":
        return libmpi.mpi_exp(one, precision), zero
    raise Unreadable("infinity is no number")


def _add(args: list[Value], precision: int) -> Value:
    exact = Fraction(0)
    for arg in args:
        if isinstance(arg, Fraction):
            exact += arg
            _bounded(exact)
    boxes = [arg for arg in args if not isinstance(arg, Fraction)]
    if not boxes:
        return exact
    total = box(exact, precision)
    for arg in boxes:
        total = libmpi.mpci_add(total, arg, precision)
    return total


def _multiply(args: list[Value], precision: int) -> Value:
    exact = Fraction(1)
    for arg in args:
        if isinstance(arg, Fraction):
            exact = exact * arg
            _bounded(exact)
    boxes = [arg for arg in args if not isinstance(arg, Fraction)]
    if not boxes or not exact:
        return exact
    total = box(exact, precision)
    for arg in boxes:
        total = libmpi.mpci_mul(total, arg, precision)
    return total


def _power(args: list[Value], precision: int) -> Value:
    base, exponent = args
    if isinstance(exponent, Fraction):
        if exponent.denominator == 1:
            return _whole_power(base, exponent.numerator, precision)
        if exponent.denominator < 1000:
            root = _root([base, Fraction(exponent.denominator)], precision)
            return _whole_power(root, exponent.numerator, precision)
    if isinstance(base, Fraction) and base <= 0:
        raise ValueError("a power of no number above zero")
    log = libmpi.mpci_log(box(base, precision), precision)
    return _exp([libmpi.mpci_mul(box(exponent, precision), log, precision)], precision)


def _whole_power(base: Value, exponent: int, precision: int) -> Value:
    if abs(exponent) > _LARGEST:
        if isinstance(base, Fraction) and base in (0, 1, -1):
            return base ** (2 - exponent % 2)
        raise Unreadable("too large a power")
    if isinstance(base, Fraction):
        if not base and exponent < 0:
            raise ZeroDivisionError
        if _bits(base) * abs(exponent) <= _EXACT:
            return base**exponent
    if exponent < 0:
        base = _inverse(base, precision)
    wide = precision + abs(exponent).bit_length()
    return libmpi.mpci_pow_int(box(base, wide), abs(exponent), precision)


def _inverse(value: Value, precision: int) -> Value:
    if isinstance(value, Fraction):
        return 1 / value
    if _holds_zero(value):
        raise ZeroDivisionError
    return libmpi.mpci_div((libmpi.mpi_one, libmpi.mpi_zero), value, precision)


def _root(args: list[Value], precision: int) -> Value:
    """The real root where there is one (of a negative number, the odd one); else the principal."""
    value, degree = args
    if not isinstance(degree, Fraction) or degree.denominator > 1 or not 1 <= degree < 1000:
        raise Unreadable("no degree of a root")
    count = degree.numerator
    if isinstance(value, Fraction):
        return _root_of_fraction(value, count, precision)
    (low, _high), imaginary = value
    if imaginary == libmpi.mpi_zero and libmpf.mpf_ge(low, libmpf.fzero):
        return _real_root(value[0], count, precision), imaginary
    log = libmpi.mpci_log(value, precision)
    return _exp([libmpi.mpci_mul(log, box(Fraction(1, count), precision), precision)], precision)


def _root_of_fraction(value: Fraction, count: int, precision: int) -> Value:
    if value < 0:
        if count % 2:
            return _multiply([Fraction(-1), _root_of_fraction(-value, count, precision)], precision)
        if count > 2:
            raise ValueError("an even root of a negative number")
        root = _root_of_fraction(-value, count, precision)
        return _multiply([_constant("i", precision), root], precision)
    above, below = _whole_root(value.numerator, count), _whole_root(value.denominator, count)
    if above is not None and below is not None:
        return Fraction(above, below)
    return _real_root(box(value, precision + 10)[0], count, precision), libmpi.mpi_zero


def _whole_root(value: int, count: int) -> int | None:
    """The whole number whose power `value` is."""
    if count == 2:
        root = math.isqrt(value)
    elif value.bit_length() > 1000:
        return None
    else:
        root = round(math.exp(math.log(value) / count)) if value else 0
    return root if root**count == value else None


def _real_root(interval: Any, count: int, precision: int) -> Any:
    if count == 2:
        return libmpi.mpi_sqrt(interval, precision)
    return tuple(
        libmpf.from_int(0)
        if end == libmpf.fzero
        else libmpi.mpi_exp(
            libmpi.mpi_div(
                libmpi.mpi_log((end, end), precision + 10),
                (libmpf.from_int(count), libmpf.from_int(count)),
                precision + 10,
            ),
            precision,
        )[at]
        for at, end in enumerate(interval)
    )


def _exp(args: list[Value], precision: int) -> Value:
    value = _small(args[0], precision)
    return libmpi.mpci_exp(value, precision)


def _small(value: Value, precision: int) -> Box:
    """The value as a box; `Unreadable` where it is so large that its digits would be lost."""
    found = box(value, precision)
    for interval in found:
        for sign, man, exp, bits in interval:
            if man and exp + bits > 40:
                raise Unreadable("too large an argument")
            if not man and exp:
                raise Unreadable("no bound at all")
            assert sign in (0, 1)
    return found


def _log(args: list[Value], precision: int) -> Value:
    logs = [_logarithm(arg, precision) for arg in args]
    if len(logs) == 1:
        return logs[0]
    exact = _exact_log(*args)
    return (
        exact
        if exact is not None
        else _multiply([logs[0], _inverse(logs[1], precision)], precision)
    )


def _exact_log(value: Value, base: Value) -> Fraction | None:
    """The whole power of `base` that `value` is, as log_2(8) = 3; None where it is none."""
    if not (isinstance(value, Fraction) and isinstance(base, Fraction)) or base <= 0 or base == 1:
        return None
    guess = round(math.log(value) / math.log(base))
    return Fraction(guess) if abs(guess) < 1000 and base**guess == value else None


def _logarithm(value: Value, precision: int) -> Box:
    if isinstance(value, Fraction) and value <= 0:
        raise ValueError("a logarithm of no number above zero")
    found = box(value, precision + 10)
    if _holds_zero(found):
        raise ValueError("a logarithm of zero, perhaps")
    if found[1] == libmpi.mpi_zero and libmpf.mpf_gt(found[0][0], libmpf.fzero):
        return libmpi.mpi_log(found[0], precision), libmpi.mpi_zero
    return libmpi.mpci_log(found, precision)


def _real(value: Value, precision: int) -> Any:
    """The interval of a real number."""
    real, imaginary = _small(value, precision)
    if imaginary != libmpi.mpi_zero:
        raise Unreadable("not for complex numbers here")
    return real


def _trigonometric(parts: Callable[[Any, Any, int], Any]) -> Callable[[list[Value], int], Value]:
    def apply(args: list[Value], precision: int) -> Value:
        cos, sin = libmpi.mpi_cos_sin(_real(args[0], precision + 20), precision)
        return parts((sin, libmpi.mpi_zero), (cos, libmpi.mpi_zero), precision)

    return apply


def _ratio(above: Value, below: Value, precision: int) -> Value:
    return _multiply([above, _inverse(below, precision)], precision)


def _hyperbolic(parts: Callable[[Any, Any, int], Any]) -> Callable[[list[Value], int], Value]:
    def apply(args: list[Value], precision: int) -> Value:
        up = _exp(args, precision + 10)
        down = _inverse(up, precision + 10)
        half = Fraction(1, 2)
        sinh = _multiply(
            [half, _add([up, _multiply([Fraction(-1), down], precision)], precision)], precision
        )
        cosh = _multiply([half, _add([up, down], precision)], precision)
        return parts(sinh, cosh, precision)

    return apply


def _arctan(args: list[Value], precision: int) -> Value:
    return libmpi.mpi_atan(_real(args[0], precision + 10), precision), libmpi.mpi_zero


def _arcsin(args: list[Value], precision: int) -> Value:
    """By arctan(x / sqrt(1 - x^2)); at 1 and -1 by its value."""
    value = args[0]
    if isinstance(value, Fraction) and abs(value) >= 1:
        if abs(value) > 1:
            raise ValueError("an arcsine of no sine")
        return _multiply([value / 2, _constant("pi", precision)], precision)
    square = _whole_power(value, 2, precision)
    rest = _add([Fraction(1), _multiply([Fraction(-1), square], precision)], precision)
    return _arctan([_ratio(value, _root([rest, Fraction(2)], precision), precision)], precision)


def _arccos(args: list[Value], precision: int) -> Value:
    quarter = _multiply([Fraction(1, 2), _constant("pi", precision)], precision)
    return _add(
        [quarter, _multiply([Fraction(-1), _arcsin(args, precision)], precision)], precision
    )


def _abs(args: list[Value], precision: int) -> Value:
    if isinstance(args[0], Fraction):
        return abs(args[0])
    return libmpi.mpci_abs(args[0], precision), libmpi.mpi_zero


def _whole(value: Value, most: int) -> int:
    if not isinstance(value, Fraction) or value.denominator > 1 or not 0 <= value <= most:
        raise Unreadable("no whole number of a size for this")
    return value.numerator


def _floor(args: list[Value], _precision: int) -> Value:
    if not isinstance(args[0], Fraction):
        raise Unreadable("a floor of no fraction")
    return Fraction(math.floor(args[0]))


def _ceil(args: list[Value], precision: int) -> Value:
    return -Fraction(_floor([_multiply([Fraction(-1), args[0]], precision)], precision))  # type: ignore[arg-type]


_OPERATIONS: dict[str, Callable[[list[Value], int], Value]] = {
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
    "floor": _floor,
    "ceil": _ceil,
    "plain": lambda args, _: args[0],
    "percent": lambda args, precision: _multiply([args[0], Fraction(1, 100)], precision),
    "degree": lambda args, precision: _multiply(
        [args[0], Fraction(1, 180), _constant("pi", precision)], precision
    ),
    "factorial": lambda args, _: Fraction(math.factorial(_whole(args[0], _FACTORIAL))),
    "binomial": lambda args, _: Fraction(
        math.comb(_whole(args[0], _FACTORIAL), _whole(args[1], _FACTORIAL))
    ),
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


# How many bits tell a value from zero.


def _bits_to_tell(left: Expression, right: Expression) -> int:
    """Bits at which two numbers that still agree are equal, by the zero bound of their difference."""
    above, below, degree = _size(Term("add", (left, Term("multiply", (Fraction(-1), right)))))
    return max(_FIRST, math.ceil((degree - 1) * above + below)) + 8


def _count(term: Expression) -> int:
    """Operations in a term, itself among them."""
    if isinstance(term, Fraction) or term.op in ("variable", "constant"):
        return 1
    return 1 + sum(map(_count, term.args))


def _size(term: Expression) -> tuple[float, float, float]:
    """(log2 u, log2 l, degree): u / l bounds the conjugates of a term with divisions."""
    if isinstance(term, Fraction):
        return math.log2(abs(term.numerator) or 1), math.log2(term.denominator), 1.0
    if term.op in ("variable", "constant"):
        return 2.0, 0.0, 1.0
    sizes = [_size(arg) for arg in term.args]
    degree = math.prod(size[2] for size in sizes)
    if term.op == "add":
        below = sum(size[1] for size in sizes)
        above = max(size[0] - size[1] for size in sizes) + below + math.log2(len(sizes))
        return above, below, degree
    if term.op == "power" and isinstance(term.args[1], Fraction):
        return _size_of_power(sizes[0], term.args[1])
    if term.op in ("root", "sqrt"):
        count = term.args[1] if term.op == "root" else Fraction(2)
        return _size_of_power(sizes[0], 1 / count if isinstance(count, Fraction) else Fraction(1))
    return sum(size[0] for size in sizes) + 8, sum(size[1] for size in sizes) + 8, degree


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
