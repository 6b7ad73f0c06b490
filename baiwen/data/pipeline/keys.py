"""Keys: what findings depend on, as a hash, so that equal keys mean equal findings.

    told(partial(near, knobs=Near(bands=14)))    # ["baiwen...near", [], {"knobs": {...}}]
    key(told(function), digests)                 # "9f3a..."

A function counts by its name, the code of its module and of all modules that this imports of
`PARTS`, and by what `partial` gave it: knobs by their values, files and folders by their content,
other functions in the same way. So a change to one step's code is none to another's, and one of a
comment is none at all. Nothing of it is a time or an order of a set.
"""

import ast
import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from baiwen import config, files
from baiwen.config import Knobs
from baiwen.data import read

PACKAGE = Path(__file__).parents[2]
PARTS = ("data", "tokenizer")  # of the package: what findings depend on
WRITTEN_BY = tuple(f"{__package__}.{name}" for name in ("part", "quarantine"))  # whatever the step
# Whose other versions may find other things, or write them in other bytes.
LIBRARIES = ("numpy", "pyarrow", "py3langid", "resiliparse", "fastwarc", "pypdf", "tiktoken")


def key(*parts: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    """A digest of values of JSON, of libraries, and of the code that stores what is found."""
    return digest(_versions(), [code(module) for module in WRITTEN_BY], *parts)


def digest(*parts: Any) -> str:  # noqa: ANN401
    """A digest of values of JSON alone."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True)
    return xxhash.xxh3_128_hexdigest(text.encode())


def content(path: Path) -> str | None:
    """What tells a file's or folder's content from others, by its bytes where they are few."""
    return files.fingerprint([path])


def stamp(path: Path) -> str | None:
    """The same for a file of a corpus, which is not read for it: its size and time of change."""
    return read.stamp(path) if path.is_file() else None


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
    return [f"{value.__module__}.{value.__qualname__}", code(value.__module__)]


@cache
def code(module: str) -> str:
    """A digest of the code of a module and of all that it imports of `PARTS`."""
    found: dict[str, str] = {}
    left = [module]
    while left:
        name = left.pop()
        if name not in found and (path := _source(name)):
            found[name], imported = _parsed(path)
            left += imported
    return digest(found)


def _source(module: str) -> Path | None:
    """The file of a module of `PARTS`; None for any other name."""
    package, *names = module.split(".")
    if package != PACKAGE.name or not names or names[0] not in PARTS:
        return None
    path = PACKAGE.joinpath(*names)
    both = (path.with_suffix(".py"), path / "__init__.py")
    return next((one for one in both if one.is_file()), None)


@cache
def _parsed(path: Path) -> tuple[str, list[str]]:
    """A digest of a file's code, without comments and docstrings, and what it may import."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            del node.body[0]
    return xxhash.xxh3_128_hexdigest(ast.dump(tree).encode()), list(_imports(tree))


def _imports(tree: ast.AST) -> Iterator[str]:
    """The dotted names of imports: of `from a import b` both a and a.b, which may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)


@cache
def _versions() -> list[str]:
    """Of Python, whose standard library is a corpus, and of `LIBRARIES`."""
    return [platform.python_version(), *map(_version, LIBRARIES)]


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "absent"
