"""JSON that is valid under a JSON Schema, and perhaps equal to a value.

    check('{"age": 31}', {"type": "object", "required": ["age"]})                  -> right
    check('{"age": "31"}', {"properties": {"age": {"type": "integer"}}})           -> wrong
    check("[3]", {"schema": {"items": {"type": "integer"}}, "value": [3]})         -> right
    check('"1. May"', {"schema": {"format": "date"}, "formats": True})             -> wrong

The truth is a schema (drafts 4 to 2020-12, by its `$schema`; else the last), or a dict of `schema`
and, where asked for, `value` (equal as `json_value` compares) and `formats` (assert `format` too,
which the standard leaves to the reader). The answer is parsed as `json_value` parses it.

`jsonschema-rs` decides: its patterns match in linear time (in bounded time where they look around
themselves), it looks at a value under a subschema once however often they recur, and it reads no
reference from outside. What it does not bound are chains of references that double at each step,
so a schema that is too large written out is refused here. One that cannot be read is
`Verdict.error`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs

from baiwen.verify import json_value
from baiwen.verify.verdict import Verdict

_LARGEST = 100_000  # subschemas of a schema whose references are written out
_STEPS = 100_000  # of a pattern that looks around itself; one without does not step back
_FIELDS = {"schema", "value", "formats"}


def check(answer: str, truth: object) -> Verdict:
    """Is `answer` JSON that is valid under the schema, and equal to the value if there is one?"""
    asked = _asked(truth)
    validator = _validator(asked["schema"], asked.get("formats") is True)
    if validator is None:
        return Verdict.error
    try:
        value = json_value.parse(answer)
        valid = validator.is_valid(value)
    except ValueError:  # no JSON, or none that Unicode can hold: "\ud800"
        return Verdict.wrong
    return Verdict.of(valid and ("value" not in asked or json_value.equal(value, asked["value"])))


def _asked(truth: object) -> Mapping[str, Any]:
    if isinstance(truth, Mapping) and "schema" in truth and truth.keys() <= _FIELDS:
        return truth
    return {"schema": truth}


def _validator(schema: object, formats: bool) -> jsonschema_rs.Validator | None:
    """The compiled schema, or None where it is none, or too large."""
    try:
        if not isinstance(schema, dict | bool) or _size(schema) > _LARGEST:
            return None
        return jsonschema_rs.validator_for(
            schema,
            validate_formats=formats,
            offline=True,
            pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_STEPS),
        )
    except (ValueError, RecursionError, jsonschema_rs.ReferencingError):
        return None


def _size(schema: object) -> float:
    """How many subschemas `schema` has when each reference stands for what it names.

    A reference back to where one stands counts once. One that is no pointer counts as the largest
    subschema with a name.
    """
    sizes: dict[int, float] = {}
    named = [each for each in _parts(schema) if each.keys() & {"$id", "$anchor", "$dynamicAnchor"}]

    def size(part: object) -> float:
        if not isinstance(part, dict | list):
            return 0
        if id(part) not in sizes:
            sizes[id(part)] = 1  # while it is counted: a circle
            inner = part.values() if isinstance(part, dict) else part
            sizes[id(part)] = 1 + sum(map(size, inner)) + sum(map(referred, _references(part)))
        return sizes[id(part)]

    def referred(reference: str) -> float:
        target = _pointed(schema, reference)
        return max(map(size, named), default=1) if target is None else size(target)

    return size(schema)


def _parts(schema: object) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
    if isinstance(schema, dict | list):
        for inner in schema.values() if isinstance(schema, dict) else schema:
            yield from _parts(inner)


def _references(part: object) -> list[str]:
    keys = ("$ref", "$dynamicRef", "$recursiveRef")
    found = [part.get(key) for key in keys] if isinstance(part, dict) else []
    return [reference for reference in found if isinstance(reference, str)]


def _pointed(schema: object, reference: str) -> object:
    """What a JSON Pointer `#/$defs/a` names in `schema`; None for any other reference."""
    if not (reference == "#" or reference.startswith("#/")):
        return None
    for step in reference.split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list) and step.isdigit() and int(step) < len(schema):
            schema = schema[int(step)]
        elif isinstance(schema, dict):
            schema = schema.get(step)
        else:
            return None
    return schema
