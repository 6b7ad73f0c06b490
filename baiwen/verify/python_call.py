"""The calls in an answer: the protocol's `<tool_call>` form, or Python's, which is never evaluated.

    calls('[area(width=2), geo.name(at=(1, -2.5))]')
        -> [{"name": "area", "arguments": {"width": 2}},
            {"name": "geo.name", "arguments": {"at": [1, -2.5]}}]
    calls("No function fits.")                        -> []
    calls('[area(2)]')                                -> ValueError: a call that cannot be read

Python's form is the whole answer, perhaps in a code fence: one call or a list of calls with keyword
arguments. Values are literals; a name, or a call as a value, is its source text.
"""

import ast
from typing import Any

from baiwen.verify import tool_call

_LONGEST = 20_000  # characters of Python that are still parsed
_NAMES = {"true": True, "false": False, "null": None}


def calls(text: str) -> list[Any]:
    """The calls of `text` as `{"name", "arguments"}`; `ValueError` for one that cannot be read."""
    if "<tool_call>" in text:
        return tool_call.calls(text)
    tree = _tree(_unfenced(text))
    listed = tree.elts if isinstance(tree, ast.List) else [tree]
    found = [node for node in listed if isinstance(node, ast.Call)]
    if len(found) < len(listed):
        return []
    try:
        return [_call(node) for node in found]
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unfenced(text: str) -> str:
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and len(text) > 6:
        text = text[3:-3].removeprefix("python").removeprefix("json").strip()
    return text.strip("`")


def _tree(text: str) -> ast.expr | None:
    """The expression that `text` is, or None."""
    if len(text) > _LONGEST or not text.endswith((")", "]")):
        return None
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def _call(node: ast.Call) -> dict[str, Any]:
    if node.args:
        raise ValueError("only keyword arguments have names")
    arguments = {word.arg: _value(word.value) for word in node.keywords if word.arg}
    if len(arguments) < len(node.keywords):
        raise ValueError("`**` hides the names of arguments")
    return {"name": _name(node.func), "arguments": arguments}


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    if isinstance(node, ast.Name):
        return node.id
    raise ValueError("a function is called by its name")


def _value(node: ast.expr) -> object:
    match node:
        case ast.Constant(value=str() | bool() | int() | float() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            pairs = zip(keys, values, strict=True)
            return {_key(key): _value(value) for key, value in pairs}
        case ast.Name(id=name):
            return _NAMES.get(name, name)
        case ast.Attribute() | ast.Call():
            return ast.unparse(node)
    raise ValueError(f"no literal: {type(node).__name__}")


def _key(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise ValueError("keys are strings")
