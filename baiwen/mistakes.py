"""What is wrong in a recipe, in words: place, key, value, expectation, nearest right name.

    recipes/tiny/7-sft.toml:5: step is not a knob. Did you mean steps?
        the recipe may have: out, start, steps, optim
    recipes/tiny/7-sft.toml:8: optim.lr = -1 must be greater than 0

`baiwen.config` finds the mistakes (pydantic's list) and asks for their words here. Lines come from
a scan of the source, not from a second TOML parser: they are a hint for the eye.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baiwen.errors import UserError

if TYPE_CHECKING:  # `baiwen show` asks for `nearest` and must not wait for pydantic
    from pydantic_core import ErrorDetails

Key = tuple[str | int, ...]  # where a knob lies: ("optim", "lr"), ("sources", 0, "path")
_DOT = re.compile(r"""\.(?=(?:[^"']|"[^"]*"|'[^']*')*+\Z)""")  # outside of quotes


def split(assignment: str) -> tuple[tuple[str, ...], Any]:
    """`"optim.lr=1e-3"` -> `(("optim", "lr"), 0.001)`; what is no TOML value is a bare string."""
    key, equals, text = assignment.partition("=")
    names, text = parts(key), text.strip()
    if not equals or not all(names):
        raise UserError(f"{assignment!r} is no override: write key=value, as in optim.lr=1e-3")
    try:
        tables = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return names, text
    return names, tables["value"] if len(tables) == 1 else text


def behind_recipe(assignment: str) -> str:
    """`"sft.optim.lr=1e-3"` -> `"optim.lr=1e-3"`."""
    key, equals, text = assignment.partition("=")
    return _DOT.split(key, maxsplit=1)[1] + equals + text


def parts(key: str) -> tuple[str, ...]:
    """`models."qwen2.5".folder` -> `("models", "qwen2.5", "folder")`."""
    return tuple(part.strip().strip("\"'") for part in _DOT.split(key))


def dotted(key: Key) -> str:
    """`("sources", 0, "path")` -> `sources[0].path`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.removeprefix(".")


def explain(
    mistakes: Sequence["ErrorDetails"],
    raw: object,
    knobs: Callable[[Key], list[str]],
    source: Path | str,
    overrides: Sequence[str],
) -> str:
    """One entry for each key that is wrong, in the order of the file.

    knobs: the names that the table at a key may have.
    """
    expected: dict[Key, list[str]] = {}
    for mistake in mistakes:
        kind, message = mistake["type"], mistake["msg"].removeprefix("Value error, ")
        key, value = _descend(mistake["loc"], raw, kind)
        told = _complaint(kind, message, key, value, knobs)
        expected.setdefault(key or _first_key(message, raw), []).append(told)
    for key in [key for key in expected if any(_is_below(other, key) for other in expected)]:
        if all("must have at least" in told for told in expected[key]):
            del expected[key]  # pydantic counts the items that are right
    text = _text(source)
    return "\n".join(
        f"{_place(source, text, key, overrides)}: {_joined(told)}"
        for key, told in sorted(expected.items(), key=lambda item: _line(text, item[0]) or 0)
    )


def absent(inputs: Sequence[tuple[Key, Path]], source: Path | str) -> str:
    """The complaint about inputs that are not there, with the nearest names that are."""
    text = _text(source)
    return "\n".join(
        f'{_place(source, text, key, ())}: {dotted(key)} = "{path}" does not exist.{_beside(path)}'
        for key, path in inputs
    )


def at(source: Path | str, key: Key) -> str:
    """Where a key stands: the file, and the line if it has one."""
    return _place(source, _text(source), key, ())


def missing(what: str, path: Path) -> str:
    """The complaint about a path of the command line that is not there."""
    return f"there is no {what} at {path}.{_beside(path)}"


def nearest(name: str, names: Sequence[str]) -> str:
    """`" Did you mean lr?"`, or nothing if no name comes near."""
    found = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean {found[0]}?" if found else ""


def _descend(location: Sequence[str | int], raw: Any, kind: str) -> tuple[Key, object]:  # noqa: ANN401
    """Follow pydantic's location through `raw`; names of union branches are no keys of ours."""
    key: Key = ()
    for part in location:
        known = range(len(raw)) if isinstance(raw, list) else raw if isinstance(raw, dict) else ()
        if part in known:
            key, raw = (*key, part), raw[part]
        elif kind == "missing" and part == location[-1]:
            return (*key, part), None
    return key, raw


def _complaint(
    kind: str, message: str, key: Key, value: object, knobs: Callable[[Key], list[str]]
) -> str:
    name = dotted(key)
    if kind == "missing":
        return f"{name} is missing: it has no default, so the recipe must set it"
    if kind == "extra_forbidden":
        names = knobs(key[:-1])
        title = f"[{dotted(key[:-1])}]" if key[:-1] else "the recipe"
        hint = nearest(str(key[-1]), names)
        return f"{name} is not a knob.{hint}\n    {title} may have: {', '.join(names)}"
    if kind == "value_error":
        return f"{name}: {message}" if name else message
    told = re.sub(r"^\w+ should ", "must ", message).replace("an object", "a table")
    told = re.sub(r" after validation, not \d+$", "", told)
    return f"{name} = {_shown(value)} {told[0].lower()}{told[1:]}"


def _joined(complaints: Sequence[str]) -> str:
    """The branches of a union, each of which refused the value, in one sentence."""
    first, *others = dict.fromkeys(complaints)
    return first + "".join(f", or {told.partition(' must be ')[2] or told}" for told in others)


def _beside(path: Path) -> str:
    """What lies where `path` was expected."""
    above = path.parent
    while not os.path.exists(above):
        above = above.parent
    if not above.is_dir():
        return f" {above} is a file, not a folder."
    try:
        names = sorted(entry.name for entry in above.iterdir() if not entry.name.startswith("."))
    except PermissionError:
        return f" You may not read {above}."
    looked = path.relative_to(above).parts[0]
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return nearest(looked, names) or f" The folder {above} holds: {listed or 'nothing'}"


def _shown(value: object, most: int = 60) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _text(source: Path | str) -> str:
    path = Path(source)
    return path.read_text(encoding="utf-8-sig") if path.is_file() else ""


def _first_key(message: str, raw: object) -> Key:
    """The key that a complaint about a whole table begins with, if it is one of the table."""
    found = re.match(r"([\w.]+)(?::| =)", message)
    key = parts(found[1]) if found else ()
    return key if key and isinstance(raw, dict) and key[0] in raw else ()


def _is_below(key: Key, above: Key) -> bool:
    return len(key) > len(above) and key[: len(above)] == above


def _place(source: Path | str, text: str, key: Key, overrides: Sequence[str]) -> str:
    for assignment in reversed(overrides):
        names, _ = split(assignment)
        if key[: len(names)] == names:
            return f"{source}, with {assignment}"
    line = _line(text, key)
    return f"{source}:{line}" if line else str(source)


def _line(text: str, key: Key) -> int | None:
    """Where `key` begins, else the nearest table around it: a line, counted from 1."""
    places = list(_places(text))
    for length in range(len(key), 0, -1):
        for place, number in places:
            if place[:length] == key[:length]:
                return number
    return None


def _places(text: str) -> Iterator[tuple[Key, int]]:
    table: Key = ()
    opened: dict[Key, int] = {}  # the index of the latest [[table]] of each name
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*(\[\[?)([^\[\]]+)\]", line):
            table = parts(header[2])
            if header[1] == "[[":
                opened[table] = opened.get(table, -1) + 1
                table = (*table, opened[table])
            yield table, number
        elif assignment := re.match(r"\s*([\w\-.\"' ]+?)\s*=", line):
            yield (*table, *parts(assignment[1])), number
