"""Function calls against accepted values, as BFCL matches them (Patil et al., 2025; gorilla).

    check("[area(width=2, height=3)]", row)        -> right

The truth is a row of BFCL: `function` describes what can be called, `ground_truth` has for each
call its name and, for each parameter, the accepted values; "" among them: it may be left out.

    {"function": [{"name": "area", "parameters": {"type": "dict", "required": ["width"],
                   "properties": {"width": {"type": "integer"}, ...}}}],
     "ground_truth": [{"area": {"width": [2], "height": [3.0], "unit": ["cm", ""]}}]}

The calls come in any order, in the forms that `python_call` reads. Where `ground_truth` is [] (or
absent, in a row whose `id` says irrelevance), words and no call are right, and a call that cannot
be read is one. Strings are equal up to case, blanks and `,./-_*^`, and ' is ". An integer may stand
for a float, not the other way round.

Beyond BFCL's own checker, which looks one level deep: lists and dicts match at any depth, integers
may stand for floats inside them too, and parallel calls are paired as a whole, not one by one. Java
and JavaScript rows are matched on typed values, not on their source text.
"""

import re
from collections.abc import Mapping
from typing import Any

from baiwen.verify.python_call import calls
from baiwen.verify.verdict import Verdict

_IGNORED = re.compile(r"[ ,./\-_*^]")
_FLOATS = ("float", "double", "number")


def check(answer: str, truth: Mapping[str, Any]) -> Verdict:
    """Are the calls of `answer` those of `truth`, each with accepted arguments?"""
    if not _is_row(truth):
        return Verdict.error
    wanted = [pair for call in truth.get("ground_truth") or [] for pair in call.items()]
    try:
        found = calls(answer)
    except ValueError:
        return Verdict.wrong
    if not wanted or len(found) != len(wanted):
        return Verdict.of(not wanted and not found and bool(answer.strip()))
    described = {function["name"]: function["parameters"] for function in truth["function"]}
    fits = [
        [_fits(call, name, accepted, described[name]) for call in found]
        for name, accepted in wanted
    ]
    return Verdict.of(_pair_off(fits))


def _is_row(truth: object) -> bool:
    if not isinstance(truth, Mapping):
        return False
    functions, calls = truth.get("function"), truth.get("ground_truth")
    if calls is None and "irrelevance" in str(truth.get("id")):
        calls = []
    if not isinstance(functions, list) or not all(map(_is_function, functions)):
        return False
    names = {function["name"] for function in functions}
    return isinstance(calls, list) and all(_is_expected(call, names) for call in calls)


def _is_function(function: object) -> bool:
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return False
    parameters = function.get("parameters")
    return (
        isinstance(parameters, Mapping)
        and isinstance(parameters.get("properties"), Mapping)
        and all(isinstance(each, Mapping) for each in parameters["properties"].values())
        and isinstance(parameters.get("required", []), list)
    )


def _is_expected(call: object, names: set[str]) -> bool:
    if not isinstance(call, Mapping) or len(call) != 1:
        return False
    ((name, accepted),) = call.items()
    known = name in names and isinstance(accepted, Mapping)
    return known and all(isinstance(values, list) for values in accepted.values())


def _fits(
    call: dict[str, Any], name: str, accepted: Mapping[str, Any], described: Mapping[str, Any]
) -> bool:
    """Is `call` the one of this name, with no argument missing, too many or not accepted?"""
    given, properties = call["arguments"], described["properties"]
    needed = {parameter for parameter, values in accepted.items() if "" not in values}
    return (
        call["name"] == name
        and needed.union(described.get("required", [])) <= given.keys()
        and given.keys() <= accepted.keys() & properties.keys()
        and all(_is_one_of(given[each], accepted[each], properties[each]) for each in given)
    )


def _is_one_of(value: object, accepted: list[Any], kind: Mapping[str, Any]) -> bool:
    return any(_matches(value, option, kind) for option in accepted)


def _matches(value: object, option: object, kind: Mapping[str, Any]) -> bool:
    """Is `value` this accepted one? Within a dict each key has a list of accepted values again."""
    if isinstance(option, dict):
        return isinstance(value, dict) and _matches_dict(value, option, kind)
    if isinstance(option, list):
        inner = kind.get("items") or {}
        return (
            isinstance(value, list)
            and len(value) == len(option)
            and all(_matches(one, other, inner) for one, other in zip(value, option, strict=True))
        )
    if isinstance(option, str):
        return isinstance(value, str) and _plain(value) == _plain(option)
    if isinstance(option, bool) or isinstance(value, bool) or option is None:
        return value is option
    if not isinstance(value, int | float) or value != option:
        return False
    return isinstance(value, int) or isinstance(option, float) or kind.get("type") in _FLOATS


def _matches_dict(value: dict[str, Any], option: dict[str, Any], kind: Mapping[str, Any]) -> bool:
    inner = kind.get("properties") or {}
    options = {key: each if isinstance(each, list) else [each] for key, each in option.items()}
    return (
        value.keys() <= options.keys()
        and all(key in value for key in options if "" not in options[key])
        and all(_is_one_of(value[key], options[key], inner.get(key) or {}) for key in value)
    )


def _plain(text: str) -> str:
    return _IGNORED.sub("", text).lower().replace("'", '"')


def _pair_off(fits: list[list[bool]]) -> bool:
    """Can each row take a column of its own that fits it (Kuhn's algorithm)?"""
    taken: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column, fit in enumerate(fits[row]):
            if fit and column not in seen:
                seen.add(column)
                if column not in taken or place(taken[column], seen):
                    taken[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(fits)))
