"""Codes of values (`codes.py`) compared, outside of the sandbox that some of them come from.

    equal(encode([1, 2.0]), encode([1, 2]))      -> True: numbers as Python has them
    equal(encode((1, 2)), encode([1, 2]))        -> False

Nothing here hashes a number from inside, since hashes of numbers collide at will: elements of sets
and keys of dictionaries are compared by their text.
"""

import cmath
import json
from typing import Any

from baiwen.verify.code.codes import decode

Code = Any  # JSON: None, bool, int, str, a list of codes, or an object with one key
RELATIVE = 1e-7  # of `equal`, as numpy.testing.assert_allclose, which EvalPlus calls, has it
ABSOLUTE = 1e-6  # where a float is expected (EvalPlus, `untrusted_check`)


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
        return hex(int(number)) if _whole(number) else repr(number)
    if isinstance(code, list):
        return f"[{','.join(map(key, code))}]"
    if isinstance(code, dict):
        ((tag, content),) = code.items()
        if tag == "set":
            return f"set{{{','.join(sorted(map(key, content)))}}}"
        return f"{tag}{key(content)}"
    return json.dumps(code)


def _number(code: Code) -> Any:  # noqa: ANN401
    if isinstance(code, int | float):
        return code
    if isinstance(code, dict) and next(iter(code), None) in ("int", "float", "complex"):
        return decode(code)
    return None


def _whole(number: complex) -> bool:
    return isinstance(number, int) or (isinstance(number, float) and number.is_integer())


def _close(number: complex, wanted: complex, absolute: float) -> bool:
    if number == wanted or (number != number and wanted != wanted):
        return True
    if isinstance(wanted, int) or not absolute or not cmath.isfinite(wanted):
        return False  # everything is near to infinity, by the formula below
    try:
        return abs(number - wanted) <= absolute + RELATIVE * abs(wanted)
    except OverflowError:
        return False


def _pairwise(found: list, expected: list, absolute: float) -> bool:
    return len(found) == len(expected) and all(
        equal(left, right, absolute) for left, right in zip(found, expected, strict=True)
    )
