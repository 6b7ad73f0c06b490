"""Assertions about a program, taken apart: calls that run inside, and conditions decided outside.

    checks = parse("assert add(1, 2) == 3\\nassert math.isclose(add(0.1, 0.2), 0.3)")
    checks.calls                      -> (Call("add", (1, 2)), Call("add", (0.1, 0.2)))
    checks.hold([3, {"float": "0x1.3333333333334p-2"}])     -> True

The tests are never run: `ast` reads them, and codes of the program's outputs (`codes.py`) take the
place of the calls. The form of HumanEval, `def check(candidate): assert candidate(1)`, is read too.
All calls are to one function: the program could give any other the meaning it likes. What is more
general (loops, helpers, a call within a call) is `Unsupported`: it would have to run beside the
program, which then had its way with it.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from baiwen.verify.code import conditions
from baiwen.verify.code.codes import decode
from baiwen.verify.code.conditions import CONSTANTS, PURE, READ, Unbounded, dotted
from baiwen.verify.code.equality import Code

HARMLESS = (ast.Import, ast.ImportFrom, ast.Pass)  # statements that assert nothing


class Unsupported(ValueError):  # noqa: N818
    """Tests that cannot be decided outside of the program's process."""


@dataclass(frozen=True)
class Call:
    """A call of the program's function, by values."""

    function: str
    arguments: tuple[object, ...]
    named: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Checks:
    """The calls of some tests, in order, and the conditions over their outputs."""

    calls: tuple[Call, ...]
    conditions: tuple[ast.expr, ...]  # with a name for each call

    def hold(self, outputs: Sequence[Code]) -> bool:
        """Whether every assertion holds for these codes; a call that raised holds none.

        Raises whatever Python raises on operations that the outputs do not have.
        """
        if any(isinstance(output, dict) and "raised" in output for output in outputs):
            return False
        named = {_name(place): output for place, output in enumerate(outputs)}
        return all(conditions.holds(condition, named) for condition in self.conditions)


def parse(tests: str, entry_point: str | None = None) -> Checks:
    """The checks of tests written in Python; `Unsupported` for tests of another kind."""
    try:
        body = ast.parse(tests).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Unsupported(f"Python cannot read them: {error}") from None
    reader = _Reader(entry_point)
    found = tuple(reader.visit(assertion.test) for assertion in _asserted(body, reader))
    if not reader.calls:
        raise Unsupported("there is no call in them")
    return Checks(tuple(reader.calls), found)


def literal(text: str) -> object:
    """The value of an expression of literals and pure functions; `ValueError` for any other."""
    try:
        return _literal(ast.parse(text, mode="eval").body)
    except (Unsupported, Unbounded) as error:
        raise ValueError(f"no literal: {error}") from None


def _asserted(body: Sequence[ast.stmt], reader: "_Reader") -> Iterator[ast.Assert]:
    """The assertions of a module, or of the one `check(candidate)` in it."""
    for statement in body:
        match statement:
            case ast.Assert():
                yield statement
            case ast.FunctionDef(name="check", args=ast.arguments(args=[ast.arg(arg=alias)])):
                reader.alias = alias
                reader.entry_point = reader.entry_point or _checked(body)
                yield from _asserted(statement.body, reader)
            case ast.Expr(value=ast.Constant() | ast.Call(func=ast.Name(id="check"))):
                pass  # a docstring; the call of check
            case ast.Assign(targets=[ast.Name(id="METADATA")]):
                pass
            case _ if not isinstance(statement, HARMLESS):
                raise Unsupported(f"line {statement.lineno} is no plain assertion")


def _checked(body: Sequence[ast.stmt]) -> str | None:
    """The function that `check(NAME)` is called with."""
    for statement in body:
        match statement:
            case ast.Expr(value=ast.Call(func=ast.Name(id="check"), args=[ast.Name(id=name)])):
                return name
    return None


class _Reader(ast.NodeTransformer):
    """Puts a name for each call of the program into an expression, and collects the calls."""

    def __init__(self, entry_point: str | None) -> None:
        self.entry_point, self.alias = entry_point, ""
        self.calls: list[Call] = []

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = dotted(node.func)
        if any(keyword.arg is None for keyword in node.keywords):
            raise Unsupported("** in a call")
        if name in PURE and name != self.entry_point:
            node.args = [self.visit(argument) for argument in node.args]
            node.keywords = [self.visit(keyword) for keyword in node.keywords]
            return node
        if self.entry_point is None or (self.alias and name == self.alias):
            self.entry_point = name = self.entry_point or name
        if not name or name != self.entry_point:
            raise Unsupported(f"a call of {name or 'an expression'} beside {self.entry_point}")
        self.calls.append(_call(name, node))
        return ast.Name(id=_name(len(self.calls) - 1))

    def visit_Name(self, node: ast.Name) -> ast.AST:
        raise Unsupported(f"the name {node.id}, whose value they do not say")

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if dotted(node) not in CONSTANTS:
            raise Unsupported(f"the attribute {node.attr}")
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, READ):
            raise Unsupported(f"{type(node).__name__} in an assertion")
        return super().generic_visit(node)


def _name(place: int) -> str:
    """The name for a call's output: with a blank, so that no test can say it."""
    return f"output {place}"


def _call(name: str, node: ast.Call) -> Call:
    """A call whose arguments are literals, or pure functions of them."""
    try:
        arguments = tuple(_literal(argument) for argument in node.args)
        named = {str(keyword.arg): _literal(keyword.value) for keyword in node.keywords}
    except (ArithmeticError, LookupError, TypeError, ValueError, Unbounded) as error:
        raise Unsupported(f"an argument that is no literal ({error})") from None
    return Call(name, arguments, named)


def _literal(node: ast.expr) -> object:
    return decode(conditions.code_of(_Reader("").visit(node), {}))
