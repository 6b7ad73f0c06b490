"""What an answer is once it is read: a term, or a structure of terms.

    "2\\sqrt{3}"      Term("multiply", (Fraction(2), Term("root", (Fraction(3), Fraction(2)))))
    "(0, 1]"         Group("(", (Fraction(0), Fraction(1)), "]")
    "x > 3"          Relation((variable x, Fraction(3)), (">",))
    "5 \\text{ cm}"   Quantity(Fraction(5), Unit("length", 1/100))

Numbers are fractions, so nothing is rounded on the way in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias


class UnreadableError(ValueError):
    """The text is no mathematics that this folder reads, or it is larger than it cares to."""


@dataclass(frozen=True, slots=True)
class Term:
    """An operation over expressions, or a leaf: a "variable" or "constant" with its name."""

    op: str
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """What a number counts: a dimension ("length", "length^2", ...), and a factor in it."""

    dimension: str
    factor: Fraction


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and its unit, if it has one."""

    value: "Expression"
    unit: Unit | None


@dataclass(frozen=True, slots=True)
class Group:
    """Several things: between brackets as written, bare ("", a list), or a ratio (":")."""

    open: str
    items: tuple["Statement", ...]
    close: str


@dataclass(frozen=True, slots=True)
class Union:
    """Sets joined by a cup."""

    parts: tuple["Statement", ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """Sides with signs between them, one fewer: `=`, `!=`, `<`, `<=`, `>`, `>=`, `in`."""

    sides: tuple["Statement", ...]
    signs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of expressions."""

    rows: tuple[tuple["Expression", ...], ...]


Expression: TypeAlias = Fraction | Term
Statement: TypeAlias = Expression | Quantity | Group | Union | Relation | Matrix


def operation(op: str, *args: Expression) -> Term:
    """A term of `op` over `args`."""
    return Term(op, args)


def negated(term: Expression) -> Expression:
    """Minus the term."""
    return -term if isinstance(term, Fraction) else operation("multiply", Fraction(-1), term)


def variable(name: str) -> Term:
    """The leaf of a variable."""
    return Term("variable", (name,))


def constant(name: str) -> Term:
    """The leaf of a constant: "pi", "e", "i", "infinity"."""
    return Term("constant", (name,))


def is_leaf(term: Expression) -> bool:
    """Is there nothing below the term?"""
    return isinstance(term, Fraction) or term.op in ("variable", "constant")


def names(term: Expression) -> frozenset[str]:
    """The variables that stand in a term."""
    if isinstance(term, Fraction) or term.op == "constant":
        return frozenset()
    if term.op == "variable":
        return frozenset(term.args)
    return frozenset().union(*map(names, term.args))


def contains(term: Expression, *ops: str) -> bool:
    """Does one of the operations occur in the term?"""
    if isinstance(term, Fraction) or is_leaf(term):
        return False
    return term.op in ops or any(contains(arg, *ops) for arg in term.args)


def rewritten(term: Expression, rule: Callable[[Term], Expression]) -> Expression:
    """The term with `rule` applied to each operation, from the leaves up."""
    if isinstance(term, Fraction) or is_leaf(term):
        return term
    return rule(operation(term.op, *(rewritten(arg, rule) for arg in term.args)))


def renamed(term: Expression, op: str, by: str) -> Expression:
    """The term with every operation `op` called `by`."""
    return rewritten(term, lambda found: Term(by, found.args) if found.op == op else found)
