"""What of JSON Schema (draft 2020-12) structured output enforces, and what it refuses.

    enforced({"type": "string", "format": "date"})   the same, in a form that llguidance enforces
    enforced({"type": "array", "uniqueItems": True}) UserError: schema.uniqueItems is not supported

llguidance refuses most of what it cannot enforce. But it leaves aside names that it does not know
(a misspelt `minLenght`), takes options of its own from the schema (one switches enforcement off),
reads a few regular expressions in its own way, and lets through days and host names that do not
exist. Here every name is enforced, an annotation, or refused with its path, so that what is
generated is valid. It may be less than all that is valid: properties come in the schema's order, a
number of `const` in its own spelling.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from baiwen.engine.keywords import OWN_FORMATS, VALUES, pattern, printable
from baiwen.errors import UserError
from baiwen.mistakes import nearest

DEPTH = 64  # schemas within schemas
SCHEMAS = 1_000  # in one document; the time to compile grows with the square (1,000: 0.1 s)
_ANNOTATIONS = {
    *("$comment", "title", "description", "default", "examples", "deprecated", "readOnly"),
    *("writeOnly", "contentEncoding", "contentMediaType", "contentSchema", "discriminator"),
}

Schema = dict[str, Any]


def enforced(schema: object, where: str = "schema") -> Schema:
    """`schema` in a form that llguidance enforces exactly.

    `UserError` names, by its path under `where`, the first keyword that cannot be enforced or has a
    value of a wrong form; also a document that is too large or too deep.
    """
    walk = _Walk()
    try:
        checked = walk.schema(schema, where, "#")
    except RecursionError:
        raise UserError(f"{where}: a constant in it is nested too deeply") from None
    for path, target in walk.references:
        if target not in walk.pointers:
            raise UserError(
                f"{path} is {target!r}: it must point to a schema of the same document, such as "
                "'#/$defs/name'"
            )
    return checked if isinstance(checked, dict) else {"allOf": [checked]}


def places(schema: object, keyword: str, where: str) -> Iterator[str]:
    """The paths under `where` at which `keyword` stands."""
    if isinstance(schema, Mapping):
        for name, value in schema.items():
            if name == keyword:
                yield f"{where}.{name}"
            yield from places(value, keyword, f"{where}.{name}")
    elif isinstance(schema, list):
        for place, item in enumerate(schema):
            yield from places(item, keyword, f"{where}[{place}]")


class _Walk:
    """One pass over a document: what it defines, what it refers to, how much it is."""

    def __init__(self) -> None:
        self.pointers: set[str] = set()  # of every schema, as `$ref` writes them
        self.references: list[tuple[str, str]] = []  # (path, target)

    def schema(self, schema: object, path: str, pointer: str, depth: int = 0) -> Schema | bool:
        """A copy of `schema`, in which every keyword is one that llguidance enforces."""
        self.pointers.add(pointer)
        if depth > DEPTH or len(self.pointers) > SCHEMAS:
            most = f"{DEPTH} levels" if depth > DEPTH else f"{SCHEMAS:,} schemas"
            raise UserError(f"{path}: the schema is too large: it may have {most}")
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            raise UserError(f"{path} must be a schema (an object), not {schema!r:.60}")
        checked: Schema = {}
        for keyword, value in schema.items():
            where, below = f"{path}.{keyword}", f"{pointer}/{_escaped(str(keyword))}"
            if keyword in _SUBSCHEMAS:
                checked[keyword] = self._below(keyword, value, where, below, depth + 1)
            elif keyword in VALUES:
                checked[keyword] = VALUES[keyword](value, where)
            elif not _annotates(keyword, value, where) and below != "#/$id":
                hint = nearest(str(keyword), [*_SUBSCHEMAS, *VALUES])
                raise UserError(f"{where} is not supported in structured output.{hint}")
            if keyword == "$ref":
                self.references.append((where, unquote(value)))
        _expand_format(checked)
        return checked

    def _below(self, keyword: str, value: object, path: str, pointer: str, depth: int) -> object:
        """The schema, the list of schemas or the schemas by name that are the keyword's value."""
        kind = _SUBSCHEMAS[keyword]
        if kind is None:
            return self.schema(value, path, pointer, depth)
        if not isinstance(value, kind) or isinstance(value, str):
            form = "a list" if kind is list else "an object"
            raise UserError(f"{path} must be {form} of schemas, not {value!r:.60}")
        if isinstance(value, list):
            return [
                self.schema(item, f"{path}[{place}]", f"{pointer}/{place}", depth)
                for place, item in enumerate(value)
            ]
        assert isinstance(value, Mapping)
        check = pattern if keyword == "patternProperties" else printable
        for name in value:
            check(name, path)
        return {
            name: self.schema(item, f"{path}.{name}", f"{pointer}/{_escaped(str(name))}", depth)
            for name, item in value.items()
        }


# The keywords that hold schemas: one, a list, or one by name.
_SUBSCHEMAS: dict[str, type | None] = {
    "additionalProperties": None,
    "items": None,
    "allOf": list,
    "anyOf": list,
    "oneOf": list,
    "prefixItems": list,
    "properties": Mapping,
    "patternProperties": Mapping,
    "$defs": Mapping,
    "definitions": Mapping,
}


def _escaped(name: str) -> str:
    """A name in a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _annotates(keyword: str, value: object, where: str) -> bool:
    """Is it a keyword that says nothing about what is valid?"""
    if keyword == "$schema":
        if not re.match(r"https?://json-schema\.org/", str(value)):
            raise UserError(f"{where} is {value!r:.80}: only JSON Schema itself is supported")
        return True
    extension = str(keyword).startswith("x-") and keyword != "x-guidance"
    return extension or keyword in _ANNOTATIONS


def _expand_format(schema: Schema) -> None:
    """Put our own expression in the place of a format that llguidance reads too widely."""
    own = OWN_FORMATS.get(schema.get("format", ""))
    if own:
        del schema["format"]
        schema["allOf"] = [*schema.get("allOf", []), own]
