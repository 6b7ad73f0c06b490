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

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from baiwen.errors import UserError
from baiwen.mistakes import nearest

DEPTH = 64  # schemas within schemas
SCHEMAS = 1_000  # in one document; the time to compile grows with the square (1,000: 0.1 s)
REPEATS = 4_096  # of an expression; also the characters of a constant text, which cost every token
EXACT = 2**53  # llguidance computes bounds in doubles, where integers up to here are exact

_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_ANNOTATIONS = {
    *("$comment", "title", "description", "default", "examples", "deprecated", "readOnly"),
    *("writeOnly", "contentEncoding", "contentMediaType", "contentSchema", "discriminator"),
}

# RFC 3339, years 0001 to 9999, without leap seconds.
_YEAR = "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
_FOURTH = "(?:0[48]|[2468][048]|[13579][26])"  # two digits that 4 divides, but for 00
_DATE = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    f"|(?:[0-9]{{2}}{_FOURTH}|{_FOURTH}00)-02-29)"
)
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_CLOCK}:[0-5][0-9](?:\.[0-9]+)?(?:[Zz]|[+\-]{_CLOCK})"
# RFC 1123. No two hyphens in a row: that is the mark of labels that encode Unicode.
_LABEL = r"[a-zA-Z0-9](?:-?[a-zA-Z0-9]){0,31}"

OWN_FORMATS: dict[str, dict[str, object]] = {
    "date": {"pattern": f"^{_DATE}$"},
    "time": {"pattern": f"^{_TIME}$"},
    "date-time": {"pattern": f"^{_DATE}[Tt]{_TIME}$"},
    "hostname": {"pattern": rf"^{_LABEL}(?:\.{_LABEL})*$", "maxLength": 253},
}
FORMATS = (*OWN_FORMATS, "duration", "email", "ipv4", "ipv6", "uri", "uuid")

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


def check_pattern(pattern: object, where: str) -> None:
    """Refuse a regular expression that ECMA-262, Python and llguidance read in different ways.

    What llguidance cannot do at all it refuses itself.
    """
    if not isinstance(pattern, str):
        raise UserError(f"{where} must be a regular expression (a text), not {pattern!r:.60}")
    inside = False  # between brackets
    for part in _PART.finditer(pattern):
        text = part[0]
        counts = map(int, re.findall(r"\d+", text)) if text.startswith("{") else ()
        if max(counts, default=0) > REPEATS:
            raise UserError(f"{where} is {pattern!r:.80}: {text} is more than {REPEATS:,} times")
        odd = (_ODD_INSIDE if inside else _ODD_OUTSIDE).fullmatch(text)
        if odd and not (text in ("(?i)", "(?s)") and part.start() == 0):
            raise UserError(f"{where} is {pattern!r:.80}: {text!r} is not supported")
        inside = text.startswith("[") or (inside and text != "]")


_PART = re.compile(
    r"\{\d+(?:,\d*)?\}|\\[pPxu]\{[^}]*\}|\\.?|\(\?.?.?|\[\^?\]?|[*+?}]\+|\{,|&&|--|~~|.", re.DOTALL
)
_ESCAPE = r"\\[^dDwWsSnrtfvpPxu\W]|\\_?"  # of a letter or digit with no agreed meaning
_ODD_INSIDE = re.compile(rf"{_ESCAPE}|\[.*|&&|--|~~", re.DOTALL)
_ODD_OUTSIDE = re.compile(
    rf"{_ESCAPE}|\(\?(?![is]?:|P<|<[A-Za-z_]).*|\[\^?\]|[*+?}}]\+|\{{,", re.DOTALL
)


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
            elif keyword in _VALUES:
                checked[keyword] = _VALUES[keyword](value, where)
            elif not _annotates(keyword, value, where) and below != "#/$id":
                hint = nearest(str(keyword), [*_SUBSCHEMAS, *_VALUES])
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
        check = _pattern if keyword == "patternProperties" else _printable
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


def _count(value: object, where: str) -> int:
    number = _number(value)
    if number is None or number != number // 1 or not 0 <= number <= EXACT:
        raise UserError(f"{where} must be a whole number from 0, not {value!r:.60}")
    return int(number)


def _bound(value: object, where: str) -> int | float:
    number = _number(value)
    if number is None:
        raise UserError(f"{where} must be a number, not {value!r:.60}")
    if abs(number) > EXACT:
        raise UserError(f"{where} is {value!r:.60}: bounds beyond 2^53 are not supported")
    return number


def _number(value: object) -> int | float | None:
    """A JSON number, or nothing: `True` is none, nor is NaN."""
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
        return None
    return value


def _beyond(sign: int) -> Callable[[object, str], object]:
    """The bound that a number must be above (sign 1) or below (-1).

    llguidance lets a whole number through that bounds a range within one unit from below (in size),
    as 3 does 3 < x <= 3.5, so such a bound goes a hair further.
    """

    def bound(value: object, where: str) -> object:
        number = float(_bound(value, where))
        hair = max(1e-9, math.ulp(number))
        lowest = number.is_integer() and number * sign >= 0
        return number + sign * hair if lowest else number

    return bound


def _step(value: object, where: str) -> object:
    if _bound(value, where) <= 0:
        raise UserError(f"{where} must be above 0, not {value!r:.60}")
    return value


def _few(value: object, where: str) -> int:
    count = _count(value, where)
    if count > 1:
        raise UserError(
            f"{where} is {value!r:.60}: more than 1 is not supported, for a key could repeat; name "
            "the properties and make them required"
        )
    return count


def _types(value: object, where: str) -> object:
    types = value if isinstance(value, list) and value else [value]
    for name in types:
        if name not in _TYPES:
            hint = nearest(str(name), _TYPES)
            raise UserError(f"{where} must be {', '.join(_TYPES)}; not {name!r:.60}.{hint}")
    return value


def _names(value: object, where: str) -> object:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise UserError(f"{where} must be a list of names, not {value!r:.60}")
    return _printable(value, where)


def _choices(value: object, where: str) -> object:
    if not isinstance(value, list) or not value:
        raise UserError(f"{where} must be a list of at least one value, not {value!r:.60}")
    return _printable(value, where)


def _pattern(value: object, where: str) -> object:
    check_pattern(value, where)
    if _CONTROL_ESCAPE.search(str(value)):
        raise UserError(f"{where} is {value!r:.80}: control characters are not supported")
    return _printable(value, where)


# llguidance leaves out control characters that have no short escape (\n, \t, ...) in JSON.
_CONTROL = re.compile(r"[\x00-\x07\x0b\x0e-\x1f\x7f]")
_CONTROL_ESCAPE = re.compile(r"\\(?:v|(?:[xu]\{?0*)(?:1?[0-9a-fA-F]|7[fF])(?![0-9a-fA-F]))")


def _printable(value: object, where: str) -> object:
    """`value`, in whose texts and names no control character stands."""
    if isinstance(value, str) and (_CONTROL.search(value) or len(value) > REPEATS):
        raise UserError(
            f"{where} is {value!r:.80}: control characters, and more than {REPEATS:,} characters, "
            "are not supported"
        )
    if isinstance(value, Mapping):
        for name, item in value.items():
            _printable(name, where), _printable(item, where)
    elif isinstance(value, list):
        for item in value:
            _printable(item, where)
    return value


def _format(value: object, where: str) -> object:
    if value not in FORMATS:
        raise UserError(
            f"{where} is {value!r:.60}, which is not supported; supported are {', '.join(FORMATS)}"
        )
    return value


def _reference(value: object, where: str) -> object:
    if not isinstance(value, str):
        raise UserError(f"{where} must be a text such as '#/$defs/name', not {value!r:.60}")
    return value


_VALUES: dict[str, Callable[[object, str], object]] = {
    "$ref": _reference,
    "const": _printable,
    "enum": _choices,
    "exclusiveMaximum": _beyond(-1),
    "exclusiveMinimum": _beyond(1),
    "format": _format,
    "maxItems": _count,
    "maxLength": _count,
    "maxProperties": _count,
    "maximum": _bound,
    "minItems": _count,
    "minLength": _count,
    "minProperties": _few,
    "minimum": _bound,
    "multipleOf": _step,
    "pattern": _pattern,
    "required": _names,
    "type": _types,
}
