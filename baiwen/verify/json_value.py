"""A JSON value, equal in type and content; the order of keys does not matter.

    check('{"age": 31, "name": "Ann"}', {"name": "Ann", "age": 31})     -> right
    check('```json\\n[1, 2]\\n```', [1, 2])                               -> right
    check('{"age": "31"}', {"age": 31})                                 -> wrong: a string
    check('{"age": 31, "age": 32}', {"age": 32})                        -> wrong: a key stands twice

Strict, as RFC 8259 is: no NaN, no trailing comma, no text around the value save one code fence.
"""

import json
from typing import NoReturn

from baiwen.verify.verdict import Verdict

_FENCE = "```"


def check(answer: str, truth: object) -> Verdict:
    """Is `answer` a JSON value equal to `truth`?"""
    try:
        value = parse(answer)
    except ValueError:
        return Verdict.wrong
    return Verdict.of(equal(value, truth))


def parse(text: str) -> object:
    """The value of a JSON text, perhaps in a code fence; `ValueError` for anything else."""
    text = text.strip()
    if text.startswith(_FENCE) and text.endswith(_FENCE):
        text = text.removesuffix(_FENCE).partition("\n")[2]
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def value_at(text: str, start: int) -> tuple[object, int]:
    """The value that begins at `start` of a text, and where it ends; or `ValueError`."""
    try:
        return _DECODER.raw_decode(text, start)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def equal(left: object, right: object) -> bool:
    """Equal as JSON: 1 is 1.0, but neither `true` nor "1"."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left == right
    return type(left) is type(right) and bool(left == right)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
