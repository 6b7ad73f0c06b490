"""Recipes: TOML in, frozen and checked configuration out.

A stage's configuration is a class of knobs, each with its default and, beside it, a comment that
says what it is, in which unit, and what the report used (`baiwen show STAGE` prints them):

    class Optim(Knobs):
        lr: float = 3e-4                # peak learning rate; report: unknown

    class Config(Knobs):
        out: Path                       # the run folder
        start: Input                    # the model to teach
        steps: Annotated[int, Field(gt=0)] = 100    # of the optimizer
        optim: Optim = Optim(lr=7e-6)

    config = parse(override(read("sft.toml"), ["optim.lr=1e-5"]), Config, "sft.toml")

A table of a recipe changes only the knobs it names: with `[optim]` holding nothing but
`weight_decay`, the learning rate above stays 7e-6. Types are strict (`"1"` is no number, `true` is
no integer, an integer is a fine float). Every mistake of a recipe is reported in one message, with
its file and line, its value, what was expected and the nearest right name.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from baiwen import mistakes
from baiwen.errors import UserError
from baiwen.mistakes import Key

K = TypeVar("K", bound="Knobs")

Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]

_MUST_EXIST = "must exist when the stage starts"
# A path that a stage reads. It is looked for when the stage starts, not when the recipe is parsed:
# an earlier recipe of the same folder may still write it.
Input = Annotated[Path, _MUST_EXIST]


def _listed(value: object) -> object:
    """One path as a tuple of it; after a validator pydantic takes tuples for tuples alone."""
    if isinstance(value, str | Path):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


# One such path, or a list of them.
Inputs = Annotated[tuple[Input, ...], BeforeValidator(_listed), Field(min_length=1)]


class Knobs(BaseModel):
    """A table of a recipe: typed knobs with defaults, frozen, and none but its own."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )


def read(path: Path | str) -> dict[str, Any]:
    """The tables of a TOML file; a `UserError` where it cannot be read or parsed."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).partition(" (at ")
        line = re.search(r"line (\d+)", place)
        where = f"{path}:{line[1]}" if line else f"{path}, at its end"
        raise UserError(f"{where}: is not valid TOML: {reason}") from error


def override(raw: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """A copy of `raw` with every `key=value` of `assignments` laid over it."""
    changed = json.loads(json.dumps(raw, default=str))
    for assignment in assignments:
        names, value = mistakes.split(assignment)
        table = changed
        for depth, name in enumerate(names[:-1]):
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise UserError(f"{assignment}: {'.'.join(names[: depth + 1])} is not a table")
        table[names[-1]] = value
    return changed


def parse(
    raw: Mapping[str, Any], into: type[K], source: Path | str, overrides: Sequence[str] = ()
) -> K:
    """`raw` as an `into`; a `UserError` that names every mistake in it.

    source: the file that `raw` was read from, for line numbers.
    overrides: those that were laid over it, so that a mistake in one is not sought in the file.
    """
    # JSON is the strict mode in which a string may still become a path and a list a tuple.
    text = json.dumps(_filled(raw, into), default=str)
    try:
        return into.model_validate_json(text, strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        told = mistakes.explain(details, raw, lambda key: _names(into, key), source, overrides)
        raise UserError(told) from error


def resolved(config: Knobs) -> dict[str, Any]:
    """The whole configuration, defaults included, as plain JSON values."""
    return config.model_dump(mode="json")


def inputs(config: Knobs) -> list[tuple[str, Path]]:
    """Every `Input` of `config` and its tables that is set: its key, as in `optim.lr`, its path."""
    return [(mistakes.dotted(key), path) for key, path in _inputs(config)]


def require(config: Knobs, source: Path | str, unless_below: Sequence[Path] = ()) -> None:
    """Stop with a `UserError` unless every `Input` of `config` exists.

    unless_below: folders that are yet to be written; what lies in them is not looked for.
    """
    absent = [
        (key, path)
        for key, path in _inputs(config)
        if not any(path.is_relative_to(folder) for folder in unless_below)
        and not os.path.exists(path)  # False, too, where one may not look
    ]
    if absent:
        raise UserError(mistakes.absent(absent, source))


def has(table: type[Knobs], names: Sequence[str]) -> bool:
    """Whether the dotted key `names` is a knob of `table` or of a table within it."""
    first, *rest = names
    if first not in table.model_fields:
        return False
    hint = _hints(table)[first]
    below = _below(hint, rest)
    return not below or any(has(inner, below) for inner in _tables(hint))


# Types: what a table holds.


def _hints(table: type[Knobs]) -> dict[str, object]:
    hints = get_type_hints(table, include_extras=True)
    return {name: hints[name] for name in table.model_fields}


def _tables(hint: object) -> list[type[Knobs]]:
    """The tables that a value of type `hint` may be or hold."""
    if isinstance(hint, type) and issubclass(hint, Knobs):
        return [hint]
    return [table for part in get_args(hint) for table in _tables(part)]


def _below(hint: object, names: Sequence[str]) -> Sequence[str]:
    """`names` without the first where that is the user's own, as web in a `dict[str, Source]`."""
    parts = [hint, *get_args(hint)]
    return names[1:] if any(get_origin(part) is dict for part in parts) else names


def _inputs(config: Knobs) -> list[tuple[Key, Path]]:
    found = _paths(config, type(config), ())
    return list(dict.fromkeys(found))  # two types of a union may both hold a path


def _paths(value: object, hint: object, key: Key) -> Iterator[tuple[Key, Path]]:
    marked = get_origin(hint) is Annotated and _MUST_EXIST in get_args(hint)
    if marked and isinstance(value, Path):
        yield key, value
        return
    for step, item, inner in _within(value, hint):
        yield from _paths(item, inner, key + step)


def _within(value: object, hint: object) -> Iterator[tuple[Key, object, object]]:
    """What lies one step inside `value` of type `hint`: the step, the item, its type."""
    if isinstance(value, Knobs):
        for name, inner in _hints(type(value)).items():
            yield (name,), getattr(value, name), inner
    elif isinstance(value, dict) and get_origin(hint) is dict:
        for name, item in value.items():
            yield (name,), item, get_args(hint)[1]
    elif isinstance(value, list | tuple) and get_origin(hint) in (list, tuple):
        for index, item in enumerate(value):
            yield (index,), item, get_args(hint)[0]
    else:
        for part in get_args(hint):  # of a union or an annotation
            yield (), value, part


def _filled(raw: Mapping[str, Any], into: type[Knobs]) -> dict[str, Any]:
    """`raw`, its tables laid over the defaults that `into` gives them."""
    defaults = {name: field.default for name, field in into.model_fields.items()}
    return {name: _laid_over(defaults.get(name), value) for name, value in raw.items()}


def _laid_over(default: object, value: object) -> object:
    if not isinstance(default, Knobs) or not isinstance(value, dict):
        return value
    inner = {name: _laid_over(getattr(default, name, None), item) for name, item in value.items()}
    return resolved(default) | inner


def _names(table: type[Knobs], key: Key) -> list[str]:
    """The knobs of the tables that may lie at `key` below `table`."""
    names = [name for name in key if isinstance(name, str)]
    if not names:
        return list(table.model_fields)
    hint = _hints(table)[names[0]]
    below = tuple(_below(hint, names[1:]))
    return [name for inner in _tables(hint) for name in _names(inner, below)]
