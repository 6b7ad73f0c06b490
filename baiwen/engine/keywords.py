"""What the values of JSON Schema's keywords may be, so that structured output can hold to them.

    VALUES["maxItems"](3, "schema.maxItems")        3, as llguidance gets it
    VALUES["maxItems"](-1, "schema.maxItems")       UserError: schema.maxItems must be ...
    check_pattern("[a&&b]", "schema.pattern")       UserError: ... is not supported

Each takes a value and its path in the schema.
"""

import math
import re
from collections.abc import Callable, Mapping

from baiwen.errors import UserError
from baiwen.mistakes import nearest

REPEATS = 4_096  # of an expression; also the characters of a constant text, which cost every token
EXACT = 2**53  # llguidance computes bounds in doubles, where integers up to here are exact

_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")

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
    return printable(value, where)


def _choices(value: object, where: str) -> object:
    if not isinstance(value, list) or not value:
        raise UserError(f"{where} must be a list of at least one value, not {value!r:.60}")
    return printable(value, where)


def pattern(value: object, where: str) -> object:
    """A regular expression that llguidance reads as others do, and can write."""
    check_pattern(value, where)
    if _CONTROL_ESCAPE.search(str(value)):
        raise UserError(f"{where} is {value!r:.80}: control characters are not supported")
    return printable(value, where)


# llguidance leaves out control characters that have no short escape (\n, \t, ...) in JSON.
_CONTROL = re.compile(r"[\x00-\x07\x0b\x0e-\x1f\x7f]")
_CONTROL_ESCAPE = re.compile(r"\\(?:v|(?:[xu]\{?0*)(?:1?[0-9a-fA-F]|7[fF])(?![0-9a-fA-F]))")


def printable(value: object, where: str) -> object:
    """`value`, in whose texts and names no control character stands."""
    if isinstance(value, str) and (_CONTROL.search(value) or len(value) > REPEATS):
        raise UserError(
            f"{where} is {value!r:.80}: control characters, and more than {REPEATS:,} characters, "
            "are not supported"
        )
    if isinstance(value, Mapping):
        for name, item in value.items():
            printable(name, where), printable(item, where)
    elif isinstance(value, list):
        for item in value:
            printable(item, where)
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


VALUES: dict[str, Callable[[object, str], object]] = {
    "$ref": _reference,
    "const": printable,
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
    "pattern": pattern,
    "required": _names,
    "type": _types,
}
