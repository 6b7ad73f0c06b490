"""What a final answer states: expressions with units, groups, relations, lists of them.

    read("\\frac{1}{2}")          -> Fraction(1, 2)
    read("x = 2 \\text{ or } 3")  -> Group("", (Relation((x, 2), ("=",)), Fraction(3)), "")
    read("[0, 1) \\cup (2, 3]")   -> Union((Group("[", (0, 1), ")"), Group("(", (2, 3), "]")))
    read("5 apples")              -> Fraction(5)

From the outside in: a list of relations between unions of groups and expressions. A comma directly
inside a pair of brackets makes it a group, so no text is read twice and time stays linear.
"""

from fractions import Fraction

from baiwen.verify.math import units
from baiwen.verify.math.cursor import CLOSING, END, SEPARATORS
from baiwen.verify.math.expressions import Expressions
from baiwen.verify.math.notation import CONNECTIVES, tokens
from baiwen.verify.math.terms import (
    Expression,
    Group,
    Matrix,
    Quantity,
    Relation,
    Statement,
    Term,
    Union,
    Unit,
    UnreadableError,
    constant,
    contains,
    negated,
    operation,
    rewritten,
)

_TOKENS = 600
_LONGEST_UNIT = 8  # words
_SIGNS = {"=": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "!=": "!=", "≡": "="}
_SIGN_COMMANDS = {"le": "<=", "ge": ">=", "ne": "!=", "in": "in", "equiv": "="}
_CURRENCIES = frozenset("$€£¥₹")
_MATRICES = frozenset({"matrix", "pmatrix", "bmatrix", "Bmatrix", "array"})
_BEFORE_LETTER = frozenset({"/", "per", "square", "cubic", "sq", "cu"})


def read(text: str, grouped: bool = True) -> Statement:
    """What `text` states; `UnreadableError` where this grammar has no place for it."""
    found = tokens(text, grouped)
    if not found or len(found) > _TOKENS:
        raise UnreadableError("nothing there, or too much")
    try:
        return _Statements(found).whole()
    except RecursionError:
        raise UnreadableError("nested too deeply") from None


class _Statements(Expressions):
    """A place in a list of tokens, and the statement that begins there."""

    def whole(self) -> Statement:
        """All of the tokens, up to signs that end a sentence."""
        found = self.listing()
        while self.sees(".", "!", "?", ",") or self.sees_command("newline"):
            self.at += 1
        if self.token is not END:
            raise UnreadableError("more text than was read")
        return found

    def listing(self) -> Statement:
        """Relations set apart by commas or "and"; one alone is itself."""
        items = self.relation()
        while self._separator() or self._goes_on_with_a_part(items[-1]):
            items += self.relation()
        return items[0] if len(items) == 1 else Group("", tuple(items), "")

    def _goes_on_with_a_part(self, last: Statement) -> bool:
        """Is here a number after a number with its unit: `2 hours 30 minutes`?"""
        return isinstance(last, Quantity) and self.token.kind == "number"

    def _separator(self) -> bool:
        """Passes over what stands between two items, unless nothing follows it."""
        start = self.at
        while self.sees(*SEPARATORS) or self._connective():
            self.at += 1
        if self.token is END or self.sees("."):
            self.at = start
        return self.at > start

    def _connective(self) -> bool:
        return self.token.kind == "word" and self.token.text.lower() in CONNECTIVES

    # Relations.

    def relation(self) -> list[Statement]:
        """Sides and the signs between them; where "plus or minus" stands, one for each."""
        self._label()
        self.at += self.sees_command("approx")
        sides, signs = [self.union()], []
        while sign := self._sign():
            signs.append(sign)
            sides.append(self.union())
        if self.sees_command("approx"):  # what stands before is exact
            self.at = len(self.tokens)
        if not signs:
            return _both(sides[0])
        if signs == ["="]:
            return [Relation((sides[0], side), ("=",)) for side in _both(sides[1])]
        return [Relation(tuple(sides), tuple(signs))]

    def _label(self) -> None:
        """Passes over words that name what follows: `Total area = 5`."""
        start = self.at
        while self.token.kind == "word":
            self.at += 1
        if self.at > start and self.sees("=", ":"):
            self.at += 1
        else:
            self.at = start

    def _sign(self) -> str | None:
        table = {"symbol": _SIGNS, "command": _SIGN_COMMANDS}.get(self.token.kind, {})
        sign = table.get(self.token.text)
        self.at += sign is not None
        return sign

    # Groups.

    def union(self) -> Statement:
        """Operands joined by a cup, or by a U between brackets."""
        parts = [self.operand()]
        while self.sees_command("cup") or (isinstance(parts[-1], Group) and self.is_letter("U")):
            self.at += 1
            parts.append(self.operand())
        return parts[0] if len(parts) == 1 else Union(tuple(parts))

    def operand(self) -> Statement:
        """A group, a matrix, a set, or an expression with its unit."""
        if self.at in self.groups or self.sees("\\{"):
            return self._group()
        if self.sees_command("begin"):
            return self._matrix()
        if self.sees("(", "[") and self.following.text == "begin":
            closing = CLOSING[self.next().text]
            matrix = self._matrix()
            self.take(closing)
            return matrix
        if self.sees_command("emptyset"):
            self.at += 1
            return Group("\\{", (), "\\}")
        if self.sees_command("mathbb"):
            return self._reals()
        return self._quantity()

    def _group(self) -> Statement:
        """Several things between brackets; `{x | x > 3}` is the relation in it."""
        self.deeper()
        opening = self.next().text
        items: tuple[Statement, ...] = ()
        if not self.sees("\\}"):
            inside = self.listing()
            items = inside.items if isinstance(inside, Group) and not inside.open else (inside,)
        if opening == "\\{" and self.sees("|", ":"):
            self.at += 1
            items = tuple(self.relation())
        self.depth -= 1
        closing = self.next()
        if closing.text not in CLOSING.values():
            raise UnreadableError("a bracket that does not close")
        if opening == "\\{" and len(items) == 1 and isinstance(items[0], Relation):
            return items[0]
        return Group("\\{" if opening == "{" else opening, items, closing.text)

    def _reals(self) -> Group:
        self.at += 1
        if self.braced_name() != "R":
            raise UnreadableError("a set without a name here")
        infinity = constant("infinity")
        return Group("(", (negated(infinity), infinity), ")")

    def _matrix(self) -> Matrix:
        """`\\begin{pmatrix}a & b \\\\ c & d\\end{pmatrix}`, or an array."""
        self.at += 1
        name = self.braced_name()
        if name not in _MATRICES:
            raise UnreadableError("an environment without a meaning here")
        if name == "array":
            self.braced_name()
        rows: list[list[Expression]] = [[]]
        while not self.sees_command("end"):
            if self.sees_command("newline"):
                self.at += 1
                rows.append([])
            elif self.sees("&"):
                self.at += 1
            else:
                rows[-1].append(self.expression())
        self.at += 1
        self.braced_name()
        return Matrix(tuple(tuple(row) for row in rows if row))

    # Quantities.

    def _quantity(self) -> Statement:
        """An expression, or a ratio, and what it counts.

        Words that measure nothing are passed over: "5 apples" is 5.
        """
        currency = self._currency()
        ratio = [self.expression()]
        while self.sees(":"):
            self.at += 1
            ratio.append(self.expression())
        words = self._words()
        if len(ratio) > 1:
            half = "".join(words).lower()
            return Group(":", tuple(ratio), half if half in ("am", "pm") else "")
        value = ratio[0]
        for word in words:
            if word.lower() in units.MULTIPLES:
                value = operation("multiply", value, units.MULTIPLES[word.lower()])
        unit = currency or units.unit(words)
        return Quantity(value, unit) if unit else value

    def _currency(self) -> Unit | None:
        """The currency whose sign stands here or after a minus; the sign is passed over."""
        at = self.at + self.sees("-")
        sign = self.following if self.sees("-") else self.token
        if sign.kind != "symbol" or sign.text not in _CURRENCIES:
            return None
        self.tokens[at] = sign._replace(text="+")  # a sign that changes nothing
        return units.known(sign.text)

    def _words(self) -> list[str]:
        """The words after a number, with "/" and powers between them."""
        words: list[str] = []
        while len(words) < _LONGEST_UNIT:
            if self._is_word() or (words and self._goes_on(words[-1])):
                words.append(self.next().text)
            elif words and self.sees("^"):
                self.at += 1
                words.append(f"^{self._power_of_unit()}")
            elif words and self.sees(".") and self.following is not END:
                self.at += 1
            else:
                break
        return words

    def _is_word(self) -> bool:
        return self.token.kind == "word" and not self._connective()

    def _goes_on(self, last: str) -> bool:
        """Is here a "/" before another unit, or a letter that has to be one?"""
        if self.sees("/"):
            return self.following.kind in ("word", "letter")
        return self.token.kind == "letter" and last in _BEFORE_LETTER

    def _power_of_unit(self) -> int:
        power = self.argument()
        if not isinstance(power, Fraction) or power.denominator > 1 or not 0 < power < 10:
            raise UnreadableError("no power of a unit")
        return int(power)


def _both(side: Statement) -> list[Statement]:
    """The side; where it holds "plus or minus", the side with each of the signs."""
    if not isinstance(side, Fraction | Term) or not contains(side, "pm", "mp"):
        return [side]
    return [rewritten(side, _upper), rewritten(side, _lower)]


def _upper(term: Term) -> Expression:
    return {"pm": term.args[0], "mp": negated(term.args[0])}.get(term.op, term)


def _lower(term: Term) -> Expression:
    return {"pm": negated(term.args[0]), "mp": term.args[0]}.get(term.op, term)
