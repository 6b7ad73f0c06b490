"""Values of a program as plain JSON, both ways, and compared: what crosses the wall of the sandbox.

    encode((1, {2.5}))                     -> {"tuple": [1, {"set": [{"float": "0x1.4p+1"}]}]}
    equal(encode([1, 2.0]), encode([1, 2]))  -> True: numbers as Python has them

None, booleans, strings, small integers and lists are themselves; anything else is an object with
one key, its type. An instance of a subclass is encoded by the data that its built-in type holds,
never by a method of its own, so no `__eq__` comes along: what arrives outside is data.

The text of this file is taken into the sandbox, so it imports the standard library alone. `equal`
never hashes a number from inside, whose hashes collide at will: elements of sets and keys of
dictionaries are compared by their text.
"""

import json
import math
from typing import Any

Code = Any  # JSON: None, bool, int, str, a list of codes, or an object with one key
EXACT = 2**53  # integers up to here are exact in every reader of JSON
DEEPEST = 200  # levels of nesting
RELATIVE = 1e-7  # of `equal`, as numpy.testing.assert_allclose, which EvalPlus calls, has it
ABSOLUTE = 1e-6  # where a float is expected (EvalPlus, `untrusted_check`)


def encode(value: object, depth: int = 0) -> Code:
    """The code of a value; {"other": the name of its type} for what is no plain data."""
    kind = type(value)
    if depth > DEEPEST:
        return {"other": "nesting"}
    if value is None or kind is bool or kind is str:
        return value
    for base, encoded in _ENCODERS:
        if issubclass(kind, base):
            return encoded(value, depth + 1)
    return {"other": type.__getattribute__(kind, "__name__")}


def _integer(value: int, depth: int) -> Code:
    value = int.__int__(value)
    return value if -EXACT < value < EXACT else {"int": hex(value)}


def _dict(value: dict, depth: int) -> Code:
    return {"dict": [[encode(key, depth), encode(item, depth)] for key, item in dict.items(value)]}


def _items(kind: Any, value: object, depth: int) -> list[Code]:  # noqa: ANN401
    return [encode(item, depth) for item in kind.__iter__(value)]


# The built-in type, and how a value of it is encoded by that type's own methods.
_ENCODERS: tuple[tuple[type, Any], ...] = (
    (int, _integer),
    (str, lambda value, depth: str.__str__(value)),
    (float, lambda value, depth: {"float": float.hex(value)}),
    (list, lambda value, depth: _items(list, value, depth)),
    (tuple, lambda value, depth: {"tuple": _items(tuple, value, depth)}),
    (dict, _dict),
    (set, lambda value, depth: {"set": _items(set, value, depth)}),
    (frozenset, lambda value, depth: {"set": _items(frozenset, value, depth)}),
    (bytes, lambda value, depth: {"bytes": bytes.hex(value)}),
    (bytearray, lambda value, depth: {"bytes": bytearray.hex(value)}),
    (complex, lambda value, depth: {"complex": [value.real.hex(), value.imag.hex()]}),
)


def decode(code: Code) -> object:
    """The value of a code; `ValueError` where it is none, or no plain data."""
    if isinstance(code, list):
        return [decode(item) for item in code]
    if not isinstance(code, dict):
        return code
    try:
        ((tag, content),) = code.items()
        return _DECODERS[tag](content)
    except (KeyError, TypeError, AttributeError, OverflowError):
        raise ValueError("no code of a plain value") from None


_DECODERS: dict[str, Any] = {
    "int": lambda content: int(content, 16),
    "float": float.fromhex,
    "tuple": lambda content: tuple(decode(item) for item in content),
    "dict": lambda content: {decode(key): decode(item) for key, item in content},
    "set": lambda content: {decode(item) for item in content},
    "bytes": bytes.fromhex,
    "complex": lambda content: complex(*map(float.fromhex, content)),
}


def equal(found: Code, expected: Code, absolute: float = ABSOLUTE) -> bool:
    """Whether two codes are equal as Python compares: 1 is 1.0 and True, a list is no tuple.

    A number that is expected as a float may be off by `absolute` + 1e-7 of it; NaN equals NaN.
    What is no plain data equals nothing. `ValueError` for what is no code.
    """
    wanted = _number(expected)
    if wanted is not None:
        number = _number(found)
        return number is not None and _close(number, wanted, absolute)
    if isinstance(expected, list):
        return isinstance(found, list) and _pairwise(found, expected, absolute)
    if not isinstance(expected, dict):
        return type(found) is type(expected) and found == expected
    ((tag, content),) = expected.items()
    if not isinstance(found, dict) or [*found] != [tag]:
        return False
    if tag == "tuple":
        return _pairwise(found[tag], content, absolute)
    if tag == "set":
        return {*map(key, found[tag])} == {*map(key, content)}
    if tag == "dict":
        left, right = ({key(name): item for name, item in rows} for rows in (found[tag], content))
        return left.keys() == right.keys() and all(
            equal(left[name], right[name], absolute) for name in right
        )
    return tag == "bytes" and bool(found[tag] == content)


def key(code: Code) -> str:
    """A text that two codes share if, as elements of a set, they are equal."""
    number = _number(code)
    if number is not None:
        whole = not isinstance(number, complex) and math.isfinite(number) and number == int(number)
        return hex(int(number)) if whole else repr(number)
    if isinstance(code, list):
        return f"[{','.join(map(key, code))}]"
    if isinstance(code, dict):
        ((tag, content),) = code.items()
        if tag == "set":
            return f"set{sorted(map(key, content))}"
        return f"{tag}{key(content)}"
    return json.dumps(code)


def _number(code: Code) -> Any:  # noqa: ANN401
    if isinstance(code, int | float):
        return code
    if isinstance(code, dict) and next(iter(code), None) in ("int", "float", "complex"):
        return decode(code)
    return None


def _close(number: complex, wanted: complex, absolute: float) -> bool:
    if number == wanted or (number != number and wanted != wanted):
        return True
    if isinstance(wanted, int) or not absolute:
        return False
    try:
        return abs(number - wanted) <= absolute + RELATIVE * abs(wanted)
    except OverflowError:
        return False


def _pairwise(found: list, expected: list, absolute: float) -> bool:
    return len(found) == len(expected) and all(
        equal(left, right, absolute) for left, right in zip(found, expected, strict=True)
    )
