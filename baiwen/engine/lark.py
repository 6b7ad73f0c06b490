"""Grammars in the words that llguidance reads: Lark, with JSON schemas in it.

    value({"type": "integer"}, "schema")       '%json {"x-guidance": {...}, "type": "integer"}'
    checked('start: "a" | <|im_end|>')         UserError: a grammar names no token
    function(tool, "tools[0]").call            '"{\\"name\\": ..." %json {...} "}"'

Every schema comes in its enforced form (`json_schema.py`), wherever it stands.
"""

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from baiwen.engine import json_schema
from baiwen.errors import UserError

# One blank, or a line break with an indentation: enough to print JSON prettily, not for a model
# that is stuck to write blanks forever. Escapes are those that must be: with \u any character has a
# second spelling, under which llguidance does not know a property again.
JSON_FORM = {"whitespace_pattern": r" |\n[ \t]{0,64}", "json_allowed_escapes": 'nrbtf\\"'}


def quoted(text: str) -> str:
    """A text as Lark writes it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", r"\u007f")


def value(schema: object, where: str) -> str:
    """A JSON value of `schema`, as a part of a grammar; UserError where it cannot be enforced."""
    form = {"x-guidance": JSON_FORM, **json_schema.enforced(schema, where)}
    try:
        return f"%json {json.dumps(form, ensure_ascii=False, allow_nan=False)}"
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{where} cannot be written as JSON: {error}") from error


class Function(NamedTuple):
    """A tool: what its arguments are, and a call of it, both as parts of a grammar."""

    name: str
    where: str
    arguments: str
    call: str


def function(tool: object, where: str) -> Function:
    """A tool in OpenAI's form, which stands at `where`; UserError says what is wrong with it."""
    if isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping):
        tool, where = tool["function"], f"{where}.function"
    if not isinstance(tool, Mapping):
        raise UserError(f"{where} must be an object with name and parameters, not {tool!r:.60}")
    name, schema = tool.get("name"), tool.get("parameters")
    if not isinstance(name, str) or not name or json.dumps(name, ensure_ascii=False) != f'"{name}"':
        raise UserError(f"{where}.name must be a name without quotes and line breaks: {name!r:.60}")
    if schema is None:
        schema = {"type": "object", "additionalProperties": False}
    if isinstance(schema, Mapping):
        schema = {"type": "object", **schema}
        if schema["type"] != "object":
            raise UserError(f"{where}.parameters.type is {schema['type']!r:.60}, must be 'object'")
    where = f"{where}.parameters"
    arguments = value(schema, where)
    head = quoted(f'{{"name": "{name}", "arguments": ')
    return Function(name, where, arguments, f'{head} {arguments} "}}"')


# What a Lark grammar consists of; blanks and whatever else are single characters.
_LARK = re.compile(
    r"""(?P<words>"(?:\\.|[^"\\])*"|(?:\#|//)[^\n]*|/(?:\\.|[^/\\])+/)"""
    r"""|(?P<token><[^<>\s]+>)|(?P<json>%json)|(?P<options>%llguidance)|.""",
    re.DOTALL,
)


def checked(text: str) -> str:
    """`text` with the JSON schemas in it in their enforced form; `UserError` for tokens by name."""
    if not isinstance(text, str):
        raise UserError(f"grammar must be a text, not {type(text).__name__}")
    parts, place = [], 0
    while part := _LARK.match(text, place):
        place = part.end()
        if part["token"] or part["options"]:
            raise UserError(f"grammar: {part[0]} is not supported; write text and rules")
        if part["json"]:
            start = re.compile(r"\s*").match(text, place)
            assert start is not None
            try:
                schema, place = json.JSONDecoder().raw_decode(text, start.end())
            except (ValueError, RecursionError) as error:
                raise UserError(f"grammar: no JSON schema follows %json: {error}") from error
            parts.append(value(schema, "grammar.%json"))
        else:
            parts.append(part[0])
    return "".join(parts)
