"""Keys: what findings depend on, as a hash, so that equal keys mean equal findings.

    told(partial(near, knobs=Near(bands=14)))    # ["baiwen...near", [], {"knobs": {...}}]
    key(told(function), digests)                 # "9f3a..."

A function counts by its name and what `partial` gave it: knobs by their values, files and folders
by their content, other functions in the same way. Nothing of it is a time or an order of a set.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from baiwen import config, files
from baiwen.config import Knobs

SOURCES = Path(__file__).parents[1]


def key(*parts: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    """A digest of values of JSON, and of our own code: another may find other things."""
    text = json.dumps([_code(), *parts], ensure_ascii=False, sort_keys=True)
    return xxhash.xxh3_128_hexdigest(text.encode())


def content(path: Path) -> str | None:
    """What tells a file's or folder's content from others, by its bytes where they are few."""
    return files.fingerprint([path])


def stamp(path: Path) -> str | None:
    """The same for a file of a corpus, which is not read for it: its size and time of change."""
    if not path.is_file():
        return None
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def told(value: Any, of_path: Callable[[Path], str | None] = content) -> Any:  # noqa: ANN401
    """A function, its knobs or an item to read as JSON; what has no name fails an assertion."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return xxhash.xxh3_128_hexdigest(value)
        case Path():
            return [str(value), of_path(value)]
        case Mapping():
            return {str(name): told(item, of_path) for name, item in value.items()}
        case Sequence():
            return [told(item, of_path) for item in value]
    return _told_object(value, of_path)


def _told_object(value: Any, of_path: Callable[[Path], str | None]) -> Any:  # noqa: ANN401
    match value:
        case partial():
            return told((value.func, value.args, value.keywords), of_path)
        case Knobs():
            return [config.resolved(value), told(dict(config.inputs(value)), of_path)]
        case np.ndarray():
            return [str(value.dtype), list(value.shape), told(value.tobytes())]
        case frozenset():
            return sorted(json.dumps(told(item, of_path)) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return told({one.name: getattr(value, one.name) for one in fields(value)}, of_path)
    assert hasattr(value, "__qualname__"), f"a step is given {value!r}, which has no name"
    return f"{value.__module__}.{value.__qualname__}"


@cache
def _code() -> str:
    """A digest of the sources of `baiwen/data`."""
    whole = xxhash.xxh3_128()
    for path in sorted(SOURCES.rglob("*.py")):
        whole.update(path.relative_to(SOURCES).as_posix().encode())
        whole.update(path.read_bytes())
    return whole.hexdigest()
