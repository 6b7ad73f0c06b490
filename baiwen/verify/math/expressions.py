"""Expressions: sums of products of powers, with the functions of school and their LaTeX.

    Expressions(tokens("2\\sqrt{3} + 1")).expression()
    Expressions(tokens("3 1/2")).expression()               -> Fraction(7, 2), a mixed number

Powers bind to the right, "1/2x" is a half of x, and a whole number before a proper fraction is a
mixed one.
"""

from fractions import Fraction

from baiwen.verify.math.cursor import CLOSING, Cursor
from baiwen.verify.math.notation import FUNCTIONS, Token
from baiwen.verify.math.terms import (
    Expression,
    Term,
    UnreadableError,
    constant,
    negated,
    operation,
    variable,
)

_POSTFIXES = 4  # signs after one base
_GREEK = frozenset(
    {"alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta"}
    | {"vartheta", "kappa", "lambda", "mu", "nu", "xi", "rho", "sigma", "tau", "phi", "varphi"}
    | {"chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Sigma", "Phi", "Psi"}
    | {"Omega", "ell"}
)
_APPLIED = ("Gamma", "zeta")  # before a bracket, functions that are not read here
_STARTING = FUNCTIONS | {"frac", "pi", "binom", "lfloor", "lceil", "infty", "overline", "vec"}
_DECORATIONS = frozenset({"overline", "vec", "hat", "bar", "mathcal", "boldsymbol", "underline"})
_POSTFIX = {"percent": "percent", "degree": "degree", "degrees": "degree", "度": "degree"}


class Expressions(Cursor):
    """A place in a list of tokens, and the expression that begins there."""

    def expression(self) -> Expression:
        """Terms with signs between them."""
        self.deeper()
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
        return negated(term) if negative else term

    def product(self) -> Expression:
        """Factors, with a sign between them or side by side."""
        found = [self.factor()]
        while True:
            if self.sees("*"):
                self.at += 1
                found.append(self.factor())
            elif self.sees("/") and self.following.kind != "word":
                self.at += 1
                found.append(operation("power", self.factor(), Fraction(-1)))
            elif self._starts_factor():
                found.append(self.factor())
            else:
                return found[0] if len(found) == 1 else operation("multiply", *found)

    def _starts_factor(self) -> bool:
        """May what stands here multiply what stands before it? A number may not: "7 3"."""
        token = self.token
        if token.kind == "letter":
            return not (token.text == "U" and self.at + 1 in self.groups)
        if token.kind == "command":
            return token.text in _STARTING or token.text in _GREEK
        return self.sees("(", "[", "{") and self.at not in self.groups

    def factor(self) -> Expression:
        """A base and the powers, percents, degrees and factorials after it."""
        negative = False
        while self.sees("-", "+"):
            negative ^= self.next().text == "-"
        found = self.base()
        for _ in range(_POSTFIXES):
            if not (following := self._postfix(found)):
                return negated(found) if negative else found
            found = following
        raise UnreadableError("too many signs after a number")

    def _postfix(self, found: Expression) -> Expression | None:
        token = self.token
        if token.kind == "word" and token.text.lower() in _POSTFIX:
            self.at += 1
            return operation(_POSTFIX[token.text.lower()], found)
        if self.sees("'") and isinstance(found, Term) and found.op == "variable":
            self.at += 1
            return variable(f"{found.args[0]}'")
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
            if self.is_letter("C", "F"):  # a temperature
                self.at += 1
                return base
            return operation("degree", base)
        self.at = start
        negative = self.sees("-")
        self.at += negative
        exponent = self.argument()
        if self.sees("^"):  # a^b^c is a^(b^c)
            self.at += 1
            self.deeper()
            exponent = self._power(exponent)
            self.depth -= 1
        return operation("power", base, negated(exponent) if negative else exponent)

    def base(self) -> Expression:
        """A number, a variable, a function of something, or what stands in brackets."""
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
        raise UnreadableError(f"{token.text!r} where a number belongs")

    def _number(self, token: Token) -> Expression:
        """A number, or a mixed one: `3\\frac{1}{2}`, `3 1/2`."""
        value = token.value
        if value.denominator > 1 or "." in token.text:
            return value
        if self.sees_command("frac"):
            return _mixed(value, self._command(self.next()))
        if self.token.kind == "number" and self.token.spaced and self.following.text == "/":
            above = self.next().value
            self.take("/")
            below = self.next().value
            if 0 < above < below:
                return value + above / below
            raise UnreadableError("two numbers side by side")
        return value

    def _letter(self, token: Token) -> Expression:
        if token.text in ("e", "i") and not self.sees("_"):
            return constant(token.text)
        return variable(token.text + self._subscript())

    def _subscript(self) -> str:
        if not self.sees("_"):
            return ""
        self.at += 1
        if not self.sees("{"):
            return f"_{self.next().text}"
        return f"_{self.braced_name()}"

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
            return constant("infinity" if name == "infty" else name)
        if name in FUNCTIONS:
            return self._function(name)
        if name == "lfloor":
            return self._between("rfloor", "floor")
        if name == "lceil":
            return self._between("rceil", "ceil")
        if name in _GREEK and not (name in _APPLIED and self.sees("(")):
            return variable(f"\\{name}{self._subscript()}")
        if name in _DECORATIONS:
            return self.argument()
        raise UnreadableError(f"\\{name} has no meaning here")

    def _root(self) -> Expression:
        degree: Expression = Fraction(2)
        if self.sees("["):
            self.at += 1
            degree = self.expression()
            self.take("]")
        return operation("root", self.argument(), degree)

    def _function(self, name: str) -> Expression:
        """`\\sin^2 2x`, `\\log_2(8)`, `sin x cos x`: the next function ends the argument."""
        base = power = None
        if name == "log" and self.sees("_"):
            self.at += 1
            base = self.argument()
        if self.sees("^"):
            self.at += 1
            power = self._exponent_of_function()
        argument = self.base() if self.sees("(", "[") else self._bare_argument()
        args = (argument,) if base is None else (argument, base)
        value = Term(name, args)
        return value if power is None else operation("power", value, power)

    def _exponent_of_function(self) -> Expression:
        negative = self.sees("-")
        self.at += negative
        power = self.argument()
        if negative or power == Fraction(-1) or isinstance(power, Term):
            raise UnreadableError("an inverse or a power?")
        return power

    def _bare_argument(self) -> Expression:
        argument = self.factor()
        while self._starts_factor() and not self.sees_command(*FUNCTIONS) and not self.sees("("):
            argument = operation("multiply", argument, self.factor())
        return argument

    def argument(self, single: bool = False) -> Expression:
        """`{...}`, or the one sign that LaTeX takes without braces: `\\frac12`."""
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
        self.take(CLOSING[opening])
        return inside

    def _between(self, closing: str, op: str) -> Expression:
        inside = self.expression()
        if not (self.sees(closing) or self.sees_command(closing)):
            raise UnreadableError("a bar that does not close")
        self.at += 1
        return operation(op, inside)


def _mixed(whole: Fraction, part: Expression) -> Expression:
    """Whole and part: their sum where the part is a proper fraction, else their product."""
    if isinstance(part, Term) and part.op == "multiply":
        above, inverse = part.args
        below = inverse.args[0]
        if isinstance(above, Fraction) and isinstance(below, Fraction) and 0 < above < below:
            return whole + above / below
    return operation("multiply", whole, part)
