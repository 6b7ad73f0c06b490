"""Do two final answers say the same? True, False, or None where these rules cannot tell.

    equal("x=3", "3")                                  -> True: a name is no part of the answer
    equal("10%", "0.1"), equal("10%", "10")            -> True: the sign counts, or is the unit
    equal("5 cm", "5"), equal("50 mm", "5 cm")         -> True: no unit, or another
    equal("5 cm", "5 m")                               -> False
    equal("[0,1)", "[0,1]"), equal("(1,2)", "(2,1)")   -> False
    equal("2, 1", "1, 2"), equal("\\{2,1\\}", "1, 2")   -> True: lists and sets have no order
    equal("x > 3", "(3, \\infty)")                     -> True
    equal("1234_5", "1234")                            -> False: the base is part of the answer

How a text is read says `grammar.py`; whether two numbers are equal, `value.py`.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction

from baiwen.verify.math import units, words
from baiwen.verify.math.extract import unwrapped
from baiwen.verify.math.notation import maybe_grouped
from baiwen.verify.math.reading import based, flat, reading
from baiwen.verify.math.relations import (
    as_unions,
    gap,
    is_equation,
    is_expression,
    is_name,
    name_of,
    stripped,
)
from baiwen.verify.math.terms import (
    Expression,
    Group,
    Matrix,
    Quantity,
    Relation,
    Statement,
    Term,
    Unit,
    contains,
    names,
    operation,
    renamed,
)
from baiwen.verify.math.value import proportional, same

_MOST = 60  # items of a list that are still matched with another
_POWERS = frozenset({-3, -2, -1, 1, 2, 3})  # of a unit
_ORDERED = frozenset({"(", "["})
_SIGNS = ("percent", "degree")


def equal(answer: str, truth: str) -> bool | None:
    """Does `answer` say what `truth` says?"""
    answer, truth = unwrapped(answer.strip()), unwrapped(truth.strip())
    if answer == truth:
        return True
    bases = based(answer), based(truth)
    if any(base is not None for base in bases):
        return bases[0] == bases[1]
    left, right = reading(answer), reading(truth)
    if left is None or right is None:
        if flat(answer) == flat(truth):
            return True
        return words.equal(answer, truth, left is not None, right is not None)
    verdict = alike(left, right)
    if verdict is not True and (maybe_grouped(answer) or maybe_grouped(truth)):
        left, right = reading(answer, grouped=False), reading(truth, grouped=False)
        if left is not None and right is not None and alike(left, right):
            return True
    return verdict


def alike(left: Statement, right: Statement) -> bool | None:
    """Are two readings the same?"""
    left, right = stripped(left, right), stripped(right, left)
    if _is_scalar(left) and _is_scalar(right):
        return _scalars(left, right)
    if isinstance(left, Relation) and isinstance(right, Relation):
        return _relations(left, right)
    if unions := as_unions(left, right):
        return _unordered(unions[0].parts, unions[1].parts)
    if isinstance(left, Group) and isinstance(right, Group):
        return _groups(left, right)
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Matrix):
            return _matrix_and(one, other)
        if isinstance(one, Group) and _is_scalar(other):
            return _group_and_scalar(one, other)
    return False


# Numbers and what they count.


def _is_scalar(value: Statement) -> bool:
    return is_expression(value) or isinstance(value, Quantity)


def _scalars(left: Statement, right: Statement) -> bool | None:
    one, other = _measured(left, right), _measured(right, left)
    if one.unit and other.unit and one.unit != other.unit:
        if one.unit.dimension != other.unit.dimension:
            return False
        return _numbers(
            operation("multiply", one.unit.factor, one.value),
            operation("multiply", other.unit.factor, other.value),
        )
    measured, bare = (one, other) if one.unit else (other, one)
    if measured.unit and not bare.unit and _signed(bare.value) and not _signed(measured.value):
        return False  # 5% is not 5 cm
    return _numbers(one.value, other.value)


def _signed(value: Expression) -> bool:
    return contains(value, *_SIGNS)


def _measured(scalar: Statement, other: Statement) -> Quantity:
    """With its unit, or none; `5 m` is five metres where the other side has no variable."""
    if isinstance(scalar, Quantity):
        return scalar
    assert is_expression(scalar)
    against = other.value if isinstance(other, Quantity) else other
    if isinstance(scalar, Term) and scalar.op == "multiply" and is_expression(against):
        closed = [factor for factor in scalar.args if not names(factor)]
        letters = [factor for factor in scalar.args if names(factor)]
        unit = _unit_of(letters) if letters and closed and not names(against) else None
        if unit:
            return Quantity(operation("multiply", *closed), unit)
    return Quantity(scalar, None)


def _unit_of(factors: Sequence[Expression]) -> Unit | None:
    """The unit that letters and their powers are, `m/s^2`; None where one of them is none."""
    found = units.NONE
    for factor in factors:
        power = Fraction(1)
        while isinstance(factor, Term) and factor.op == "power":
            factor, exponent = factor.args
            power *= exponent if isinstance(exponent, Fraction) else 0
        letter = factor.args[0] if isinstance(factor, Term) and factor.op == "variable" else ""
        unit = units.known(letter)
        if unit is None or power not in _POWERS:
            return None
        found = units.times(found, unit, int(power))
    return found


def _numbers(left: Expression, right: Expression) -> bool | None:
    verdict = same(left, right)
    for sign in _SIGNS:
        if verdict is not True and contains(left, sign) != contains(right, sign):
            verdict = same(renamed(left, sign, "plain"), renamed(right, sign, "plain")) or verdict
    if verdict is False and contains(operation("add", left, right), "log"):  # of base 10?
        return same(renamed(left, "log", "lg"), renamed(right, "log", "lg"))
    return verdict


# Relations.


def _relations(left: Relation, right: Relation) -> bool | None:
    if is_equation(left) and is_equation(right):
        return _equations(left, right)
    if is_equation(left) or is_equation(right):
        return False
    if unions := as_unions(left, right):
        if name_of(left) != name_of(right):
            return False
        return _unordered(unions[0].parts, unions[1].parts)
    gaps = gap(left), gap(right)
    if gaps[0] and gaps[1] and gaps[0][1] == gaps[1][1]:
        return proportional(gaps[0][0], gaps[1][0], positive=True) or None
    return None


def _equations(left: Relation, right: Relation) -> bool | None:
    """The same value of one name, or the same curve: the one is a multiple of the other."""
    if is_name(left.sides[0]) and left.sides[0] == right.sides[0]:
        return alike(left.sides[1], right.sides[1])
    gaps = gap(left), gap(right)
    if not gaps[0] or not gaps[1]:
        return None
    variables = names(gaps[0][0]), names(gaps[1][0])
    if not any(variables):
        return alike(left.sides[1], right.sides[1])
    return proportional(gaps[0][0], gaps[1][0]) if variables[0] == variables[1] else False


# Several things.


def _groups(left: Group, right: Group) -> bool | None:
    kinds = {left.open, right.open}
    if ":" in kinds:
        return _ratios(left, right)
    if not kinds & _ORDERED:
        sides = (_distinct(side.items) if "\\{" in kinds else side.items for side in (left, right))
        return _unordered(*sides)
    if "\\{" in kinds:
        return False
    pairs = kinds <= _ORDERED and len(left.items) == len(right.items) == 2
    if pairs and (left.open, left.close) != (right.open, right.close):
        return False  # intervals
    return _ordered(left.items, right.items)


def _ratios(left: Group, right: Group) -> bool | None:
    """3:4 is 6:8, not 4:3 nor 3, 4; 4:30 p.m. is not 4:30 a.m."""
    if left.open != right.open or len(left.items) != len(right.items):
        return False
    if left.close and right.close and left.close != right.close:
        return False
    one, other = _expressions(left.items), _expressions(right.items)
    return _all(
        same(operation("multiply", one[at], other[0]), operation("multiply", other[at], one[0]))
        for at in range(1, len(one))
    )


def _expressions(items: Sequence[Statement]) -> list[Expression]:
    return [item for item in items if is_expression(item)]


def _group_and_scalar(group: Group, scalar: Statement) -> bool | None:
    if group.open == ":":
        first, *rest = _expressions(group.items)
        inverses = [operation("power", item, Fraction(-1)) for item in rest]
        return alike(operation("multiply", first, *inverses), scalar)
    if total := _total(group):
        return alike(total, scalar)
    if not group.open or len(group.items) == 1:  # one number, or one in several forms
        return _all(alike(item, scalar) for item in group.items)
    return False


def _total(group: Group) -> Quantity | None:
    """Of `2 hours 30 minutes`, all of it; None where the parts are not of several units."""
    parts = [item for item in group.items if isinstance(item, Quantity) and item.unit]
    found = [part.unit for part in parts if part.unit]
    if len(parts) < max(len(group.items), 2) or len({unit.dimension for unit in found}) > 1:
        return None
    if len(set(found)) < len(found):
        return None
    terms = [
        operation("multiply", unit.factor, part.value)
        for unit, part in zip(found, parts, strict=True)
    ]
    return Quantity(operation("add", *terms), Unit(found[0].dimension, Fraction(1)))


def _matrix_and(matrix: Matrix, other: Statement) -> bool | None:
    """A matrix by its entries; one of a single row or column is a vector, `(1, 2)` too."""
    entries = [entry for row in matrix.rows for entry in row]
    if isinstance(other, Matrix):
        shapes = [[len(row) for row in side.rows] for side in (matrix, other)]
        others = [entry for row in other.rows for entry in row]
        return shapes[0] == shapes[1] and _all(map(same, entries, others))
    vector = len(matrix.rows) == 1 or all(len(row) == 1 for row in matrix.rows)
    if vector and isinstance(other, Group) and other.open in _ORDERED:
        return _ordered(entries, other.items)
    return False


def _ordered(left: Sequence[Statement], right: Sequence[Statement]) -> bool | None:
    if len(left) != len(right):
        return False
    return _all(map(alike, left, right))


def _unordered(left: Sequence[Statement], right: Sequence[Statement]) -> bool | None:
    """Is each of the one, one of the other?"""
    if len(left) != len(right):
        return False
    if len(left) > _MOST:
        return None
    rest, unsure = list(right), False
    for item in left:
        verdicts = [alike(item, other) for other in rest]
        if True in verdicts:
            del rest[verdicts.index(True)]
        elif None in verdicts:
            unsure = True
        else:
            return False
    return None if unsure else True


def _distinct(items: Sequence[Statement]) -> Sequence[Statement]:
    """The items of a set, each once; of many, which are not compared, all."""
    found: list[Statement] = []
    for item in items if len(items) <= _MOST else ():
        if not any(alike(item, other) for other in found):
            found.append(item)
    return found or items


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    """False where any is, else None where any is, else True."""
    found = list(verdicts)
    if False in found:
        return False
    return None if None in found else True
