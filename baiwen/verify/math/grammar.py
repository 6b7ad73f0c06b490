"""Tokens to what they mean, by recursive descent; depth and length are bounded.

    read("\\\\frac{1}{2}")          -> Fraction(1, 2)
    read("x = 2 \\\\text{ or } 3")  -> Group("", (Relation((x, 2), ("=",)), Fraction(3)), "")
    read("[0, 1) \\\\cup (2, 3]")   -> Union((Group("[", (0, 1), ")"), Group("(", (2, 3), "]")))
    read("5 apples")              -> Fraction(5)

From the outside in: a list of relations between unions of groups and expressions. A comma directly
inside a pair of brackets makes it a group, so no text is read twice and time stays linear.
"""

from fractions import Fraction
from typing import Any

from baiwen.verify.math import units
from baiwen.verify.math.notation import CONNECTIVES, FUNCTIONS, Token, tokens
from baiwen.verify.math.terms import (
    Expression,
    Group,
    Matrix,
    Quantity,
    Relation,
    Term,
    Union,
    Unit,
    Unreadable,
    operation,
)

_DEEPEST = 40  # brackets within brackets
_TOKENS = 600
_LONGEST_UNIT = 8  # words
_POSTFIXES = 4  # signs after one base

_RELATIONS = {"=": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "!=": "!=", "≡": "="}
_RELATION_COMMANDS = {"le": "<=", "ge": ">=", "ne": "!=", "in": "in", "equiv": "="}
_CLOSING = {"(": ")", "[": "]", "{": "}", "\\{": "\\}"}
_SEPARATORS = frozenset({",", ";"})
_CURRENCIES = frozenset("$€£¥₹")
_GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta kappa lambda mu nu xi rho "
    "sigma tau phi varphi chi psi omega Gamma Delta Theta Lambda Sigma Phi Psi Omega ell hbar".split()
)
_END = Token("end", "")


def read(text: str, grouped: bool = True) -> Any:
    """What `text` states; `Unreadable` where this grammar has no place for it."""
    found = tokens(text, grouped)
    if not found or len(found) > _TOKENS:
        raise Unreadable("nothing there, or too much")
    try:
        return _Reader(found).whole()
    except RecursionError:
        raise Unreadable("nested too deeply") from None


class _Reader:
    """A place in a list of tokens."""

    def __init__(self, found: list[Token]) -> None:
        self.tokens = found
        self.at = 0
        self.depth = 0
        self.groups = _groups(found)

    # The place.

    @property
    def token(self) -> Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else _END

    def next(self) -> Token:
        token = self.token
        self.at += 1
        return token

    def sees(self, *texts: str) -> bool:
        return self.token.kind == "symbol" and self.token.text in texts

    def sees_command(self, *names: str) -> bool:
        return self.token.kind == "command" and self.token.text in names

    def take(self, text: str) -> None:
        if not self.sees(text):
            raise Unreadable(f"no {text!r} where one belongs")
        self.at += 1

    # Structures.

    def whole(self) -> Any:
        found = self.listing()
        while self.sees(".", "。", "!", "?", ",") or self.sees_command("newline"):
            self.at += 1
        if self.token is not _END:
            raise Unreadable("more text than was read")
        return found

    def listing(self) -> Any:
        """Relations set apart by commas or "and"; one alone is itself."""
        items = [*self.relation()]
        while self._separator():
            items += self.relation()
        return items[0] if len(items) == 1 else Group("", tuple(items), "")

    def _separator(self) -> bool:
        found = False
        start = self.at
        while self.sees(*_SEPARATORS) or (
            self.token.kind == "word" and self.token.text.lower() in CONNECTIVES
        ):
            self.at += 1
            found = True
        if found and (self.token is _END or self.sees(".", "。")):
            self.at = start
            return False
        return found

    def relation(self) -> list[Any]:
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
        at = self.at
        while at < len(self.tokens) and self.tokens[at].kind == "word":
            at += 1
        if at > self.at and self.tokens[at : at + 1] and self.tokens[at].text in ("=", ":"):
            self.at = at + 1

    def _sign(self) -> str | None:
        token = self.token
        table = {"symbol": _RELATIONS, "command": _RELATION_COMMANDS}.get(token.kind, {})
        sign = table.get(token.text)
        if sign:
            self.at += 1
        return sign

    def union(self) -> Any:
        parts = [self.operand()]
        while self.sees_command("cup") or (
            len(parts) and isinstance(parts[-1], Group) and self._is_letter("U")
        ):
            self.at += 1
            parts.append(self.operand())
        return parts[0] if len(parts) == 1 else Union(tuple(parts))

    def _is_letter(self, letter: str) -> bool:
        return self.token.kind == "letter" and self.token.text == letter

    def operand(self) -> Any:
        """A group, a matrix, a set, or an expression with its unit."""
        if self.at in self.groups or self.sees("\\{"):
            return self.group()
        if self.sees_command("begin"):
            return self.matrix()
        if self.sees_command("emptyset"):
            self.at += 1
            return Group("\\{", (), "\\}")
        if self.sees_command("mathbb"):
            return self.reals()
        return self.quantity()

    def group(self) -> Any:
        """Several things between brackets; `{x | x > 3}` is the relation in it."""
        opening = self.next().text
        self._deeper()
        if opening == "\\{" and self.sees("\\}"):
            items: tuple[Any, ...] = ()
        else:
            inside = self.listing()
            items = inside.items if isinstance(inside, Group) and not inside.open else (inside,)
        if opening == "\\{" and self.sees("|", ":"):
            self.at += 1
            items = tuple(self.relation())
        self.depth -= 1
        closing = self.next()
        if closing.text not in (")", "]", "}", "\\}"):
            raise Unreadable("a bracket that does not close")
        if opening == "\\{" and len(items) == 1 and isinstance(items[0], Relation):
            return items[0]
        return Group("\\{" if opening == "{" else opening, items, closing.text)

    def reals(self) -> Group:
        self.at += 1
        self.take("{")
        if self.next().text != "R":
            raise Unreadable("a set without a name here")
        self.take("}")
        infinity = Term("constant", ("infinity",))
        return Group("(", (_negated(infinity), infinity), ")")

    def matrix(self) -> Matrix:
        """`\\\\begin{pmatrix}a & b \\\\\\\\ c & d\\\\end{pmatrix}`, or an array."""
        self.at += 1
        name = self._braced_name()
        if name not in ("matrix", "pmatrix", "bmatrix", "vmatrix", "Bmatrix", "array"):
            raise Unreadable("an environment without a meaning here")
        if name == "array":
            self._braced_name()
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
        self._braced_name()
        return Matrix(tuple(tuple(row) for row in rows if row))

    def _braced_name(self) -> str:
        self.take("{")
        parts = []
        while not self.sees("}") and self.token is not _END:
            parts.append(self.next().text)
        self.take("}")
        return "".join(parts)

    # Quantities.

    def quantity(self) -> Any:
        """An expression and what it counts; words that measure nothing are passed over."""
        currency = self._currency()
        value = self.expression()
        ratio = [value]
        while self.sees(":"):
            self.at += 1
            ratio.append(self.expression())
        words = self._words()
        if len(ratio) > 1:
            half = "".join(words).lower()
            return Group(":", tuple(ratio), half if half in ("am", "pm") else "")
        for word in [word for word in words if word.lower() in units.MULTIPLES]:
            value = operation("multiply", value, Fraction(units.MULTIPLES[word.lower()]))
        unit = currency or units.unit(words)
        return Quantity(value, unit) if unit else value

    def _currency(self) -> Unit | None:
        minus = self.sees("-") and self.at + 1 < len(self.tokens)
        token = self.tokens[self.at + 1] if minus else self.token
        if token.kind == "symbol" and token.text in _CURRENCIES:
            del self.tokens[self.at + minus]
            self.groups = _groups(self.tokens)
            return units.known(token.text)
        return None

    def _words(self) -> list[str]:
        """The words after a number, with "/" and powers between them."""
        words: list[str] = []
        while len(words) < _LONGEST_UNIT:
            if self.token.kind == "word" and self.token.text.lower() not in CONNECTIVES:
                words.append(self.next().text)
            elif words and self.sees("^"):
                self.at += 1
                words.append(f"^{self._small()}")
            elif words and self.sees("/") and self._word_follows():
                self.at += 1
                words.append("/")
            elif words and self.token.kind == "letter":
                words.append(self.next().text)
            elif words and self.sees(".") and self.at + 1 < len(self.tokens):
                self.at += 1
            else:
                break
        return words

    def _word_follows(self) -> bool:
        following = self.tokens[self.at + 1 : self.at + 2]
        return bool(following) and following[0].kind in ("word", "letter")

    def _small(self) -> int:
        power = self.argument()
        if not isinstance(power, Fraction) or power.denominator > 1 or not 0 < power < 10:
            raise Unreadable("no power of a unit")
        return int(power)

    # Expressions.

    def expression(self) -> Expression:
        """Terms with signs between them."""
        self._deeper()
        found = [self._signed()]
        while self.sees("+", "-") or self.sees_command("pm", "mp"):
            found.append(self._signed())
        self.depth -= 1
        return found[0] if len(found) == 1 else operation("add", *found)

    def _signed(self) -> Expression:
        negative = False
        while self.sees("-", "+"):
            negative ^= self.next().text == "-"
        both = self.next().text if self.sees_command("pm", "mp") else None
        term = self.product()
        term = operation(both, term) if both else term
        return _negated(term) if negative else term

    def product(self) -> Expression:
        """Factors, with a sign between them or side by side."""
        found = [self.factor()]
        while True:
            if self.sees("*"):
                self.at += 1
                found.append(self.factor())
            elif self.sees("/") and not self._unit_follows():
                self.at += 1
                found.append(operation("power", self.factor(), Fraction(-1)))
            elif self._starts_factor():
                found.append(self.factor())
            else:
                return found[0] if len(found) == 1 else operation("multiply", *found)

    def _unit_follows(self) -> bool:
        following = self.tokens[self.at + 1 : self.at + 2]
        return bool(following) and following[0].kind == "word"

    def _starts_factor(self) -> bool:
        """May what stands here multiply what stands before it? A number may not: "7 3"."""
        token = self.token
        if token.kind == "letter":
            return not (token.text == "U" and self._group_follows())
        if token.kind == "command":
            return token.text in _STARTING or token.text in _GREEK
        return (
            token.kind == "symbol" and token.text in ("(", "[", "{") and self.at not in self.groups
        )

    def _group_follows(self) -> bool:
        return self.at + 1 in self.groups

    def factor(self) -> Expression:
        """A base and the powers, percents, degrees and factorials after it."""
        negative = False
        while self.sees("-", "+"):
            negative ^= self.next().text == "-"
        found = self.base()
        for _ in range(_POSTFIXES):
            if not (following := self._postfix(found)):
                return _negated(found) if negative else found
            found = following
        raise Unreadable("too many signs after a number")

    def _postfix(self, found: Expression) -> Expression | None:
        token = self.token
        if token.kind == "word" and token.text.lower() in _POSTFIX:
            self.at += 1
            return operation(_POSTFIX[token.text.lower()], found)
        if self.sees("'") and isinstance(found, Term) and found.op == "variable":
            self.at += 1
            return Term("variable", (f"{found.args[0]}'",))
        if self.sees("^"):
            self.at += 1
            return self._power(found)
        if self.sees("!", "%"):
            return operation("factorial" if self.next().text == "!" else "percent", found)
        return None

    def _power(self, base: Expression) -> Expression:
        start = self.at
        braced = self.sees("{")
        self.at += braced
        if self.sees_command("circ"):
            self.at += 1
            if braced:
                self.take("}")
            if self._is_letter("C") or self._is_letter("F"):
                self.at += 1
                return base
            return operation("degree", base)
        self.at = start
        negative = self.sees("-")
        self.at += negative
        exponent = self.argument()
        if self.sees("^"):  # a^b^c is a^(b^c)
            self.at += 1
            self._deeper()
            exponent = self._power(exponent)
            self.depth -= 1
        return operation("power", base, _negated(exponent) if negative else exponent)

    def base(self) -> Expression:
        token = self.next()
        if token.kind == "number":
            return self._number(token)
        if token.kind == "letter":
            return self._letter(token)
        if token.kind == "command":
            return self._command(token)
        if token.kind == "symbol" and token.text in ("(", "[", "{"):
            return self._bracketed(token.text)
        if token.kind == "symbol" and token.text == "|":
            return self._between("|", "abs")
        raise Unreadable(f"{token.text!r} where a number belongs")

    def _number(self, token: Token) -> Expression:
        """A number, or a mixed one: `3\\\\frac{1}{2}`, `3 1/2`."""
        value = token.value
        if value.denominator > 1 or "." in token.text:
            return value
        if self.sees_command("frac"):
            part = self._mixed_part()
            return value + part if part is not None else value
        above, slash, below = (*self.tokens[self.at : self.at + 3], _END, _END, _END)[:3]
        if above.kind == below.kind == "number" and above.spaced and slash.text == "/":
            if not 0 < above.value < below.value:
                raise Unreadable("two numbers side by side")
            self.at += 3
            return value + above.value / below.value
        return value

    def _mixed_part(self) -> Fraction | None:
        """The proper fraction that stands here; None, and the same place, for any other."""
        start = self.at
        self.at += 1
        above, below = self.argument(single=True), self.argument(single=True)
        if isinstance(above, Fraction) and isinstance(below, Fraction) and 0 < above < below:
            if above.denominator == below.denominator == 1:
                return above / below
        self.at = start
        return None

    def _letter(self, token: Token) -> Expression:
        if token.text in ("e", "i") and not self.sees("_"):
            return Term("constant", (token.text,))
        return Term("variable", (token.text + self._subscript(),))

    def _subscript(self) -> str:
        if not self.sees("_"):
            return ""
        self.at += 1
        if not self.sees("{"):
            return f"_{self.next().text}"
        return f"_{self._braced_name()}"

    def _command(self, token: Token) -> Expression:
        name = token.text
        if name == "frac":
            above, below = self.argument(single=True), self.argument(single=True)
            return operation("multiply", above, operation("power", below, Fraction(-1)))
        if name == "sqrt":
            return self._root()
        if name == "binom":
            return operation("binomial", self.argument(), self.argument())
        if name in ("pi", "infty"):
            return Term("constant", ("infinity" if name == "infty" else name,))
        if name in FUNCTIONS:
            return self._function(name)
        if name == "lfloor":
            return self._between("rfloor", "floor")
        if name == "lceil":
            return self._between("rceil", "ceil")
        if name in _GREEK:
            return Term("variable", (f"\\{name}{self._subscript()}",))
        if name in _DECORATIONS:
            return self.argument()
        raise Unreadable(f"\\{name} has no meaning here")

    def _root(self) -> Expression:
        degree: Expression = Fraction(2)
        if self.sees("["):
            self.at += 1
            degree = self.expression()
            self.take("]")
        return operation("root", self.argument(), degree)

    def _function(self, name: str) -> Expression:
        """`\\\\sin^2 2x`, `\\\\log_2(8)`, `sin x cos x`: the next function ends the argument."""
        base = power = None
        if self.sees("_"):
            self.at += 1
            base = self.argument()
        if self.sees("^"):
            self.at += 1
            power = self._exponent_of_function()
        argument = self.base() if self.sees("(", "[") else self._bare_argument()
        if name == "log" and base is not None:
            value = operation("log", argument, base)
        else:
            value = operation(name, argument)
        return value if power is None else operation("power", value, power)

    def _exponent_of_function(self) -> Expression:
        negative = self.sees("-")
        self.at += negative
        power = self.argument()
        if negative or power == Fraction(-1) or isinstance(power, Term):
            raise Unreadable("an inverse or a power?")
        return power

    def _bare_argument(self) -> Expression:
        argument = self.factor()
        while self._starts_factor() and not self.sees_command(*FUNCTIONS) and not self.sees("("):
            argument = operation("multiply", argument, self.factor())
        return argument

    def argument(self, single: bool = False) -> Expression:
        """`{...}`, or the one sign that LaTeX takes without braces: `\\\\frac12`."""
        if self.sees("{"):
            self.at += 1
            return self._bracketed("{")
        token = self.token
        if single and token.kind == "number" and len(token.text) > 1 and token.text.isdigit():
            first, rest = token.text[0], token.text[1:]
            self.tokens[self.at] = Token("number", rest, value=Fraction(rest))
            return Fraction(first)
        if self.sees("(", "["):
            return self.base()
        if token.kind == "number":
            self.at += 1
            return token.value
        return self.base()

    def _bracketed(self, opening: str) -> Expression:
        inside = self.expression()
        self.take(_CLOSING[opening])
        return inside

    def _between(self, closing: str, op: str) -> Expression:
        inside = self.expression()
        if not (self.sees(closing) or self.sees_command(closing)):
            raise Unreadable("a bar that does not close")
        self.at += 1
        return operation(op, inside)

    def _deeper(self) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise Unreadable("nested too deeply")


_POSTFIX = {"percent": "percent", "degree": "degree", "degrees": "degree", "度": "degree"}
_STARTING = FUNCTIONS | {"frac", "pi", "binom", "lfloor", "lceil", "infty", "overline", "vec"}
_DECORATIONS = frozenset({"overline", "vec", "hat", "bar", "mathcal", "boldsymbol", "underline"})


def _negated(term: Expression) -> Expression:
    return -term if isinstance(term, Fraction) else operation("multiply", Fraction(-1), term)


def _groups(found: list[Token]) -> frozenset[int]:
    """The places of opening brackets that hold a comma or semicolon directly inside."""
    groups, open_at = set(), []
    for at, token in enumerate(found):
        if token.kind != "symbol":
            continue
        if token.text in _CLOSING:
            open_at.append(at)
        elif token.text in _CLOSING.values():
            if open_at:
                open_at.pop()
        elif token.text in _SEPARATORS and open_at:
            groups.add(open_at[-1])
    return frozenset(groups)


def _both(side: Any) -> list[Any]:
    """The side; where it holds "plus or minus", the side with each of the signs."""
    if not isinstance(side, Fraction | Term) or not _ambiguous(side):
        return [side]
    return [_signs(side, True), _signs(side, False)]


def _ambiguous(term: Expression) -> bool:
    if isinstance(term, Fraction) or term.op in ("variable", "constant"):
        return False
    return term.op in ("pm", "mp") or any(map(_ambiguous, term.args))


def _signs(term: Expression, upper: bool) -> Expression:
    if isinstance(term, Fraction) or term.op in ("variable", "constant"):
        return term
    args = [_signs(arg, upper) for arg in term.args]
    if term.op in ("pm", "mp"):
        return args[0] if upper == (term.op == "pm") else _negated(args[0])
    return operation(term.op, *args)
