"""What an assertion says about the outputs of a program, computed outside, on codes (`codes.py`).

    condition = ast.parse("math.isclose(output_0, 0.3)", mode="eval").body
    holds(condition, {"output_0": {"float": "0x1.3333333333334p-2"}})       -> True

Comparisons, `and or not`, a little arithmetic, literals, subscripts, and the pure functions of
`PURE`. Raises what Python raises where the outputs do not have the operation, and `Unbounded` where
the operation could cost more than a test is worth: its operands are the program's choice.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from baiwen.verify.code import equality
from baiwen.verify.code.codes import decode, encode
from baiwen.verify.code.equality import Code

LARGEST = 1_000_000  # elements of an output that is worked with, not just compared
HASHED = 500  # what an element of a set counts for: hashes of numbers collide at will


class Unbounded(Exception):  # noqa: N818
    """Work on outputs that are too large, or not plain data."""


def _times(left: Any, right: Any) -> object:  # noqa: ANN401
    """`left * right`: a sequence is repeated a few times at most."""
    for sequence, count in ((left, right), (right, left)):
        if hasattr(sequence, "__len__") and isinstance(count, int):
            _bound(len(str(encode(sequence))) * count)  # with all that is in it
    return left * right


def _bytes(*values: Any) -> bytes:  # noqa: ANN401
    """`bytes`, of which a number makes as many."""
    if values and isinstance(values[0], int):
        _bound(values[0])
    return bytes(*values)


def _round(number: Any, digits: int | None = None) -> object:  # noqa: ANN401
    """`round`, which computes a power of ten as large as `digits` says."""
    _bound(abs(digits or 0))
    return round(number, digits)


def _bound(size: int) -> None:
    if size > LARGEST:
        raise Unbounded(f"work on {size} elements")


PURE: dict[str, Callable[..., object]] = {
    function.__name__: function
    for function in (
        *(abs, all, any, bool, complex, dict, float, frozenset, int, len, list, max, min),
        *(set, sorted, str, sum, tuple),
    )
}
PURE |= {f"math.{name}": getattr(math, name) for name in ("isclose", "isnan", "radians", "sqrt")}
PURE |= {"bytes": _bytes, "round": _round}
HASHING = ("dict", "frozenset", "set", "sum")  # a sum of lists copies as often as a bad hash
CONSTANTS = {f"math.{name}": getattr(math, name) for name in ("e", "inf", "nan", "pi", "tau")}
BINARY: dict[type, Callable[[Any, Any], object]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _times,
    ast.Div: operator.truediv,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
UNARY: dict[type, Callable[[Any], object]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}

Outputs = Mapping[str, Code]  # the codes that the names in a condition stand for


def holds(condition: ast.expr, outputs: Outputs) -> bool:
    """Whether the condition is true of these outputs."""
    return truth(code_of(condition, outputs))


def code_of(node: ast.expr | None, outputs: Outputs) -> Code:
    """The code of an expression; `ValueError` for one of another kind."""
    if type(node) not in _CODES:
        raise ValueError(f"{type(node).__name__} in an assertion")
    return _CODES[type(node)](node, outputs)


def dotted(node: ast.expr) -> str:
    """`math.isclose` of its node; empty where a part is no name."""
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return node.id if isinstance(node, ast.Name) else ""


def truth(code: Code) -> bool:
    """Whether Python takes a value for true; an object that is no plain data is."""
    if not isinstance(code, dict):
        return bool(code)
    ((tag, content),) = code.items()
    return bool(decode(code) if tag in ("int", "float", "complex") else content)


def _value(node: ast.expr | None, outputs: Outputs, weight: int = 1) -> Any:  # noqa: ANN401
    """The value of an expression, if it has few enough elements to be worked with."""
    code = code_of(node, outputs)
    _bound(weight * _size(code))
    return decode(code)


def _size(code: Code) -> int:
    if isinstance(code, list):
        return 1 + sum(map(_size, code))
    if not isinstance(code, dict):
        return 1
    ((tag, content),) = code.items()
    if tag == "other":
        raise Unbounded(f"work on an object of type {content}")
    weight = HASHED if tag in ("set", "dict") else 1
    return 1 + weight * _size(content)


def _items(nodes: list[ast.expr], outputs: Outputs) -> list[Code]:
    return [code_of(node, outputs) for node in nodes]


def _dict(node: ast.Dict, outputs: Outputs) -> Code:
    pairs = zip(node.keys, node.values, strict=True)
    return {"dict": [[code_of(key, outputs), code_of(value, outputs)] for key, value in pairs]}


def _unary(node: ast.UnaryOp, outputs: Outputs) -> Code:
    if isinstance(node.op, ast.Not):
        return not holds(node.operand, outputs)
    return encode(UNARY[type(node.op)](_value(node.operand, outputs)))


def _binary(node: ast.BinOp, outputs: Outputs) -> Code:
    sides = (_value(side, outputs) for side in (node.left, node.right))
    return encode(BINARY[type(node.op)](*sides))


def _boolean(node: ast.BoolOp, outputs: Outputs) -> Code:
    quantifier = all if isinstance(node.op, ast.And) else any
    return quantifier(holds(value, outputs) for value in node.values)


def _call(node: ast.Call, outputs: Outputs) -> Code:
    named = {str(keyword.arg): _value(keyword.value, outputs) for keyword in node.keywords}
    name = dotted(node.func)
    weight = HASHED if name in HASHING else 1
    values = [_value(argument, outputs, weight) for argument in node.args]
    return encode(PURE[name](*values, **named))


def _subscript(node: ast.Subscript, outputs: Outputs) -> Code:
    return encode(_value(node.value, outputs)[_value(node.slice, outputs)])


def _comparison(node: ast.Compare, outputs: Outputs) -> Code:
    sides = (node.left, *node.comparators)
    steps = zip(sides, node.ops, node.comparators, strict=False)
    return all(_compared(left, op, right, outputs) for left, op, right in steps)


def _compared(left: ast.expr, op: ast.cmpop, right: ast.expr, outputs: Outputs) -> bool:
    if type(op) in BINARY:
        return bool(BINARY[type(op)](_value(left, outputs), _value(right, outputs)))
    first, second = code_of(left, outputs), code_of(right, outputs)
    if isinstance(op, ast.In | ast.NotIn):
        return _contains(second, first) is isinstance(op, ast.In)
    # The side without an output is what is expected, whose type decides about a tolerance.
    backwards = any(isinstance(part, ast.Name) for part in ast.walk(right))
    same = equality.equal(second, first) if backwards else equality.equal(first, second)
    if isinstance(op, ast.Is | ast.IsNot):
        same = same and type(first) is type(second)
    return same is isinstance(op, ast.Eq | ast.Is)


def _contains(container: Code, item: Code) -> bool:
    if isinstance(container, str):
        return isinstance(item, str) and item in container
    if isinstance(container, dict):
        ((tag, content),) = container.items()
        container = [key for key, _ in content] if tag == "dict" else content
    return any(equality.equal(item, other) for other in container)


_CODES: dict[type, Callable[[Any, Outputs], Code]] = {
    ast.Constant: lambda node, outputs: encode(node.value),
    ast.Name: lambda node, outputs: outputs[node.id],
    ast.Attribute: lambda node, outputs: encode(CONSTANTS[dotted(node)]),
    ast.List: lambda node, outputs: _items(node.elts, outputs),
    ast.Tuple: lambda node, outputs: {"tuple": _items(node.elts, outputs)},
    ast.Set: lambda node, outputs: {"set": _items(node.elts, outputs)},
    ast.Dict: _dict,
    ast.UnaryOp: _unary,
    ast.BinOp: _binary,
    ast.BoolOp: _boolean,
    ast.Compare: _comparison,
    ast.Call: _call,
    ast.Subscript: _subscript,
}
READ = (*_CODES, *BINARY, *UNARY, ast.Not, ast.boolop, ast.expr_context, ast.keyword)
READ += (ast.Eq, ast.NotEq, ast.In, ast.NotIn, ast.Is, ast.IsNot)
