"""Do two final answers say the same? True, False, or None where these rules cannot tell.

    equal("x=3", "3")                             -> True: a name is no part of the answer
    equal("10\\\\%", "0.1"), equal("10\\\\%", "10")     -> True: a percent sign counts, or is the unit
    equal("5 cm", "5"), equal("50 mm", "5 cm")    -> True: the unit may be left out, or another
    equal("5 cm", "5 m")                          -> False
    equal("[0,1)", "[0,1]"), equal("(1,2)", "(2,1)")     -> False
    equal("2, 1", "1, 2"), equal("\\\\{2,1\\\\}", "1,2")     -> True: lists and sets have no order
    equal("x > 3", "(3, \\\\infty)")                -> True
    equal("1234_5", "1234")                       -> False: the base is part of the answer

The readings of a text come from `grammar.py`; whether two numbers are equal, from `value.py`.
"""

import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

from baiwen.verify.math import units, words
from baiwen.verify.math.grammar import read
from baiwen.verify.math.notation import maybe_grouped, tokens
from baiwen.verify.math.terms import (
    Expression,
    Group,
    Matrix,
    Quantity,
    Relation,
    Term,
    Union,
    Unreadable,
    contains,
    names,
    operation,
    replaced,
)
from baiwen.verify.math.value import proportional, same

_MOST = 60  # items of a list that are still matched with another
_INFINITY = Term("constant", ("infinity",))
_BELOW_ALL = operation("multiply", Fraction(-1), _INFINITY)
_BASED = re.compile(r"(-?)(?:\\(?:text(?:bf|rm)?|mathrm|mathbf))?([0-9A-Z]+)_(\d{1,2})")


def equal(answer: str, truth: str) -> bool | None:
    """Does `answer` say what `truth` says?"""
    if _flat(answer) == _flat(truth):
        return True
    bases = based(answer), based(truth)
    if any(bases):
        return None not in bases and bases[0] == bases[1]
    left, right = reading(answer), reading(truth)
    if left is None or right is None:
        return words.equal(answer, truth, left is not None, right is not None)
    verdict = alike(left, right)
    if verdict is not True and (maybe_grouped(answer) or maybe_grouped(truth)):
        others = reading(answer, grouped=False), reading(truth, grouped=False)
        if None not in others and alike(*others):
            return True
    return verdict


def reading(text: str, grouped: bool = True) -> Any | None:
    """What the text states; None where the grammar has no place for it."""
    try:
        return read(text, grouped)
    except Unreadable:
        return None


def based(text: str) -> int | None:
    """The value of a whole number with its base, `1234_5`; None for any other text."""
    match = _BASED.fullmatch(re.sub(r"[\s{}()$]", "", text[:200]).rstrip("."))
    if not match or not 2 <= int(match[3]) <= 36:
        return None
    try:
        return int(match[1] + match[2], int(match[3]))
    except ValueError:
        return None


def _flat(text: str) -> list[str]:
    """The text without its layout."""
    try:
        return [token.text for token in tokens(text)]
    except Unreadable:
        return text.split()


def alike(left: Any, right: Any) -> bool | None:
    """Are two readings the same?"""
    left, right = _unnamed(left, right), _unnamed(right, left)
    if _is_scalar(left) and _is_scalar(right):
        return _scalars(left, right)
    if isinstance(left, Relation) and isinstance(right, Relation):
        return _relations(left, right)
    if isinstance(left, Matrix) or isinstance(right, Matrix):
        return _matrices(left, right)
    if sets := _as_sets(left, right):
        return _unordered(sets[0].parts, sets[1].parts)
    if isinstance(left, Group) and isinstance(right, Group):
        return _groups(left, right)
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Group) and _is_scalar(other):
            return _group_and_scalar(one, other)
    return False


def _is_scalar(value: Any) -> bool:
    return isinstance(value, Fraction | Term | Quantity)


# Scalars.


def _scalars(left: Any, right: Any) -> bool | None:
    left, right = _measured(left, right), _measured(right, left)
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        if left.unit.dimension != right.unit.dimension:
            return False
        if left.unit != right.unit:
            return _numbers(_in_base_units(left), _in_base_units(right))
    return _numbers(_value(left), _value(right))


def _value(scalar: Any) -> Expression:
    return scalar.value if isinstance(scalar, Quantity) else scalar


def _in_base_units(quantity: Quantity) -> Expression:
    return operation("multiply", quantity.unit.factor, quantity.value)


def _measured(scalar: Any, other: Any) -> Any:
    """`5 m` as five metres, where the other side is a number or has a unit: no variable is meant."""
    if not isinstance(scalar, Term) or scalar.op != "multiply" or names(_value(other)):
        return scalar
    *rest, last = scalar.args
    unit = units.known(last.args[0]) if isinstance(last, Term) and last.op == "variable" else None
    value = rest[0] if len(rest) == 1 else operation("multiply", *rest)
    return Quantity(value, unit) if unit and not names(value) else scalar


def _numbers(left: Expression, right: Expression) -> bool | None:
    verdict = same(left, right)
    for sign in ("percent", "degree"):
        if verdict is not True and contains(left, sign) != contains(right, sign):
            bare = replaced(left, sign, "plain"), replaced(right, sign, "plain")
            verdict = same(*bare) or verdict
    if verdict is False and (contains(left, "log") or contains(right, "log")):  # of base 10?
        return same(replaced(left, "log", "lg"), replaced(right, "log", "lg"))
    return verdict


# Relations.


def _unnamed(value: Any, other: Any) -> Any:
    """The value that a name is said to have, where the other side gives none: `x = 3`, `x in S`."""
    if not isinstance(value, Relation):
        return value
    if value.signs == ("in",):
        return value.sides[1]
    if set(value.signs) != {"="}:
        return value
    if len(value.sides) > 2:
        value = Relation((value.sides[0], value.sides[-1]), ("=",))
    if isinstance(other, Relation):
        return value
    first, last = value.sides
    if is_name(last) and not is_name(first):
        return first
    return last if is_name(first) or not _variables(first) else value


def _variables(side: Any) -> bool:
    return bool(names(side)) if isinstance(side, Fraction | Term) else False


def is_name(side: Any) -> bool:
    """A variable, or variables side by side: `x`, `AB`, `f(x)`."""
    if not isinstance(side, Term):
        return False
    if side.op == "multiply":
        return all(map(is_name, side.args))
    return side.op == "variable"


def _relations(left: Relation, right: Relation) -> bool | None:
    if left.signs == right.signs == ("=",):
        return _equations(left, right)
    if sets := _as_sets(left, right):
        return _named(left) == _named(right) and _unordered(sets[0].parts, sets[1].parts)
    return False if (left.signs == ("=",)) != (right.signs == ("=",)) else None


def _equations(left: Relation, right: Relation) -> bool | None:
    if is_name(left.sides[0]) and is_name(right.sides[0]):
        if left.sides[0] == right.sides[0]:
            return alike(left.sides[1], right.sides[1])
    gaps = [_gap(relation) for relation in (left, right)]
    if None in gaps:
        return None
    if not names(gaps[0]) and not names(gaps[1]):
        return alike(left.sides[1], right.sides[1])
    if names(gaps[0]) != names(gaps[1]):
        return False
    return proportional(*gaps)


def _gap(relation: Relation) -> Any:
    left, right = relation.sides
    if not isinstance(left, Fraction | Term) or not isinstance(right, Fraction | Term):
        return None
    return operation("add", left, operation("multiply", Fraction(-1), right))


# Sets.


def _as_sets(left: Any, right: Any) -> tuple[Union, Union] | None:
    """Both as unions, where either is one or is an inequality."""
    if not any(isinstance(value, Union) or _inequalities(value) for value in (left, right)):
        return None
    sets = _as_set(left), _as_set(right)
    return None if None in sets else sets  # type: ignore[return-value]


def _inequalities(value: Any) -> bool:
    parts = value.items if isinstance(value, Group) and not value.open else (value,)
    return bool(parts) and all(isinstance(part, Relation) and _interval(part) for part in parts)


def _as_set(value: Any) -> Union | None:
    if isinstance(value, Union):
        return value
    if isinstance(value, Relation):
        return _interval(value)
    if isinstance(value, Group) and not value.open and _inequalities(value):
        return Union(tuple(part for item in value.items for part in _interval(item).parts))  # type: ignore[union-attr]
    return Union((value,)) if isinstance(value, Group) and value.open else None


def _interval(relation: Relation) -> Union | None:
    """The numbers for which an inequality between a name and numbers holds."""
    sides, signs = relation.sides, relation.signs
    if len(sides) == 2 and is_name(sides[1]) and not is_name(sides[0]):
        sides, signs = sides[::-1], tuple(_MIRRORED.get(sign, "") for sign in signs)
    if len(sides) == 2 and is_name(sides[0]):
        return _half_line(sides[1], signs[0])
    if len(sides) == 3 and is_name(sides[1]) and signs[0][:1] == signs[1][:1] in ("<", ">"):
        low, high = (0, 2) if signs[0][0] == "<" else (2, 0)
        first, last = (0, 1) if signs[0][0] == "<" else (1, 0)
        opening = "[" if "=" in signs[first] else "("
        return Union(
            (Group(opening, (sides[low], sides[high]), "]" if "=" in signs[last] else ")"),)
        )
    return None


_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!="}


def _half_line(end: Any, sign: str) -> Union | None:
    below = Group("(", (_BELOW_ALL, end), "]" if sign == "<=" else ")")
    above = Group("[" if sign == ">=" else "(", (end, _INFINITY), ")")
    parts = {"<": (below,), "<=": (below,), ">": (above,), ">=": (above,), "!=": (below, above)}
    return Union(parts[sign]) if sign in parts else None


def _named(relation: Relation) -> Any:
    return next((side for side in relation.sides if is_name(side)), None)


# Several things.


def _groups(left: Group, right: Group) -> bool | None:
    if ":" in (left.open, right.open):
        return _ratios(left, right)
    if {left.open, right.open} <= {"(", "["} and len(left.items) == len(right.items) == 2:
        if (left.open, left.close) != (right.open, right.close):
            return False
    kinds = {left.open, right.open}
    if kinds & {"(", "["}:
        return "\\{" not in kinds and _ordered(left.items, right.items)
    return _unordered(left.items, right.items)


def _ratios(left: Group, right: Group) -> bool | None:
    """3:4 is 6:8; not 4:3, nor 3, 4."""
    if left.open != right.open or len(left.items) != len(right.items):
        return False
    if left.close and right.close and left.close != right.close:  # a.m. and p.m.
        return False
    first, last = left.items[0], right.items[0]
    return _all(
        same(operation("multiply", one, last), operation("multiply", other, first))
        for one, other in zip(left.items[1:], right.items[1:], strict=True)
    )


def _group_and_scalar(group: Group, scalar: Any) -> bool | None:
    if group.open == ":" and len(group.items) == 2:
        quotient = operation("power", group.items[1], Fraction(-1))
        return _scalars(operation("multiply", group.items[0], quotient), scalar)
    if not group.open or len(group.items) == 1:  # one number, or one in several forms
        return _all(alike(item, scalar) for item in group.items)
    return False


def _matrices(left: Any, right: Any) -> bool | None:
    if isinstance(left, Matrix) and isinstance(right, Matrix):
        if [len(row) for row in left.rows] != [len(row) for row in right.rows]:
            return False
        return _all(
            map(same, *([entry for row in side.rows for entry in row] for side in (left, right)))
        )
    matrix, other = (left, right) if isinstance(left, Matrix) else (right, left)
    entries = [entry for row in matrix.rows for entry in row]
    if isinstance(other, Group) and other.open in ("(", "["):
        if len(other.items) == 1:  # brackets around a matrix
            return alike(matrix, other.items[0])
        vector = len(matrix.rows) == 1 or all(len(row) == 1 for row in matrix.rows)
        return vector and _ordered(tuple(entries), other.items)
    return False


def _ordered(left: tuple[Any, ...], right: tuple[Any, ...]) -> bool | None:
    if len(left) != len(right):
        return False
    return _all(alike(one, other) for one, other in zip(left, right, strict=True))


def _unordered(left: tuple[Any, ...], right: tuple[Any, ...]) -> bool | None:
    """Is each of the one, one of the other?"""
    if len(left) != len(right):
        return False
    if len(left) > _MOST:
        return None
    rest = list(right)
    unsure = False
    for item in left:
        verdicts = [alike(item, other) for other in rest]
        if True in verdicts:
            del rest[verdicts.index(True)]
        elif None in verdicts:
            unsure = True
        else:
            return False
    return None if unsure else True


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    """False where any is, else None where any is, else True."""
    found = list(verdicts)
    if False in found:
        return False
    return None if None in found else True
