"""Relations, and what else they may be: a named value, a gap that vanishes, a set of numbers.

    stripped("x = 3", "5")       -> 3: the name is no part of the answer
    as_union("-1 < x <= 2")      -> Union((Group("(", (-1, 2), "]"),))
    as_union("x != 1")           -> Union((Group("(", (-oo, 1), ")"), Group("(", (1, oo), ")")))
    gap("2x > 6")                -> 6 - 2x, below zero

(Texts stand for what `grammar.read` makes of them.)
"""

from fractions import Fraction
from typing import TypeGuard

from baiwen.verify.math.terms import (
    Expression,
    Group,
    Relation,
    Statement,
    Term,
    Union,
    constant,
    names,
    negated,
    operation,
)

_INFINITY = constant("infinity")
_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!=", "=": "="}


def is_expression(value: Statement) -> TypeGuard[Expression]:
    """A number or a term, not a structure of them."""
    return isinstance(value, Fraction | Term)


def is_name(value: Statement) -> bool:
    """A variable, or variables side by side: `x`, `AB`, `f(x)`."""
    if not isinstance(value, Term):
        return False
    if value.op == "multiply":
        return all(map(is_name, value.args))
    return value.op == "variable"


def stripped(value: Statement, other: Statement) -> Statement:
    """What a name is said to be, where the other side gives none: `x = 3`, `x in S`.

    Of a chain `a = b = c` the ends stay.
    """
    if not isinstance(value, Relation):
        return value
    if value.signs == ("in",):
        return value.sides[1]
    if set(value.signs) != {"="}:
        return value
    first, last = value.sides[0], value.sides[-1]
    if isinstance(other, Relation):
        return Relation((first, last), ("=",))
    if is_name(last) and not is_name(first):
        return first
    closed = is_expression(first) and not names(first)
    return last if is_name(first) or closed or not is_expression(first) else value


def is_equation(relation: Relation) -> bool:
    """Two sides and `=` between them?"""
    return relation.signs == ("=",)


def gap(relation: Relation) -> tuple[Expression, str] | None:
    """Left minus right and the sign that holds against zero: `=`, `<` or `<=`; else None."""
    if len(relation.sides) != 2:
        return None
    (left, right), (sign,) = relation.sides, relation.signs
    if not is_expression(left) or not is_expression(right) or sign not in _MIRRORED:
        return None
    if sign[0] == ">":
        left, right, sign = right, left, _MIRRORED[sign]
    return operation("add", left, negated(right)), sign


def name_of(relation: Relation) -> Statement | None:
    """The side that is a name."""
    return next((side for side in relation.sides if is_name(side)), None)


def as_unions(left: Statement, right: Statement) -> tuple[Union, Union] | None:
    """Both as unions of intervals, where either is one or is an inequality."""
    if not any(isinstance(value, Union) or _inequalities(value) for value in (left, right)):
        return None
    one, other = as_union(left), as_union(right)
    return (one, other) if one and other else None


def as_union(value: Statement) -> Union | None:
    """The union that a set, an inequality or several of them are."""
    if isinstance(value, Union):
        return value
    if found := _inequalities(value):
        return Union(tuple(part for union in found for part in union.parts))
    return Union((value,)) if isinstance(value, Group) and value.open else None


def _inequalities(value: Statement) -> list[Union]:
    """The numbers of an inequality, or of each in a list of them; empty for anything else."""
    items = value.items if isinstance(value, Group) and not value.open else (value,)
    found = [_numbers(item) if isinstance(item, Relation) else None for item in items]
    unions = [union for union in found if union]
    return unions if len(unions) == len(found) else []


def _numbers(relation: Relation) -> Union | None:
    """The numbers for which an inequality between a name and numbers holds."""
    sides, signs = relation.sides, relation.signs
    if len(sides) == 3 and is_name(sides[1]) and signs[0][0] == signs[1][0] in ("<", ">"):
        (low, _, high), (first, last) = sides, signs
        if first[0] == ">":
            low, high, first, last = high, low, last, first
        opening, closing = "[" if "=" in first else "(", "]" if "=" in last else ")"
        return Union((Group(opening, (low, high), closing),))
    if len(sides) != 2 or signs[0] not in _MIRRORED:
        return None
    if is_name(sides[0]):
        return _half_line(sides[1], signs[0])
    return _half_line(sides[0], _MIRRORED[signs[0]]) if is_name(sides[1]) else None


def _half_line(end: Statement, sign: str) -> Union | None:
    below = Group("(", (negated(_INFINITY), end), "]" if sign == "<=" else ")")
    above = Group("[" if sign == ">=" else "(", (end, _INFINITY), ")")
    parts = {"<": (below,), "<=": (below,), ">": (above,), ">=": (above,), "!=": (below, above)}
    return Union(parts[sign]) if sign in parts else None
