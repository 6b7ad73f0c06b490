"""What an answer is once it is read: a term, or a structure of terms.

    "2\\sqrt{3}"      Term("multiply", (Fraction(2), Term("root", (Fraction(3), Fraction(2)))))
    "(0, 1]"         Group("(", (Fraction(0), Fraction(1)), "]")
    "x > 3"          Relation((variable x, Fraction(3)), (">",))
    "5 \\text{ cm}"   Quantity(Fraction(5), Unit("length", 1/100))

Numbers are fractions, so nothing is rounded on the way in.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias


class Unreadable(ValueError):
    """The text is no mathematics that this folder reads, or it is larger than it cares to."""


@dataclass(frozen=True, slots=True)
class Term:
    """An operation over terms: `op` is a name of `value.py`, or "variable" or "constant"."""

    op: str
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """What a number counts: a dimension ("length", "length^2", ...) and how many of its own."""

    dimension: str
    factor: Fraction


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a unit."""

    value: "Expression"
    unit: Unit


@dataclass(frozen=True, slots=True)
class Group:
    """Several things: between brackets as written, or bare ("", a list without them)."""

    open: str
    items: tuple[Any, ...]
    close: str


@dataclass(frozen=True, slots=True)
class Union:
    """Sets joined by a cup."""

    parts: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """Sides with signs between them, one fewer: `=`, `!=`, `<`, `<=`, `>`, `>=`, `in`."""

    sides: tuple[Any, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of expressions."""

    rows: tuple[tuple["Expression", ...], ...]


Expression: TypeAlias = Fraction | Term


def operation(op: str, *args: Expression) -> Term:
    """A term of `op` over `args`."""
    return Term(op, args)


def names(term: Expression) -> frozenset[str]:
    """The variables that stand in a term."""
    if isinstance(term, Fraction):
        return frozenset()
    if term.op == "variable":
        return frozenset(term.args)
    if term.op == "constant":
        return frozenset()
    return frozenset().union(*map(names, term.args))


def replaced(term: Expression, op: str, by: str) -> Expression:
    """The term with every operation `op` called `by`."""
    if isinstance(term, Fraction) or term.op in ("variable", "constant"):
        return term
    args = tuple(replaced(arg, op, by) for arg in term.args)
    return Term(by if term.op == op else term.op, args)


def contains(term: Expression, op: str) -> bool:
    """Does the operation occur in the term?"""
    if isinstance(term, Fraction) or term.op in ("variable", "constant"):
        return False
    return term.op == op or any(contains(arg, op) for arg in term.args)
