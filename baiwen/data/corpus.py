"""The corpus that lies on every machine with Python: its standard library's documentation and code.

    topics        the language reference's topics (`help("LAMBDAS")`), a document each: prose
    docstrings    of a module, its functions and classes, with their signatures and the longer
                  comments between them, a document a module: prose
    source        of a module: code

It differs from one version of Python to the next, but not from run to run. Of Python 3.11 it is
about 14 MB. Licence of all: PSF-2.0.
"""

import ast
import importlib
import os
import sysconfig
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from baiwen import log
from baiwen.data.document import CODE, PROSE, Document, document
from baiwen.data.read import Chunk, by_size, text_file
from baiwen.errors import UserError

NAME = "stdlib"
META = {"source": NAME, "license": "PSF-2.0"}
# Tests, other people's packages, and what is made when Python is built.
SKIPPED = {
    "test",
    "tests",
    "idle_test",
    "site-packages",
    "dist-packages",
    "_bundled",
    "pydoc_data",
    "__pycache__",
    "lib-dynload",
}
SKIPPED_PREFIXES = ("_sysconfigdata", "config-", "test_")
TOPICS_A_CHUNK = 20
LONG_COMMENT = 80  # characters from which a comment reads like prose


def chunks() -> Iterator[Chunk]:
    """The whole corpus in a fixed order, as pieces of reading for processes."""
    root, paths = _root(), modules()
    if not paths:
        raise UserError(
            f"{root}: this Python has no sources of its standard library. Give text of your own: "
            "corpus=PATH"
        )
    names = sorted(_topics())
    if not names:
        log.say("this Python has no documentation topics (pydoc_data): the corpus goes without")
    for start in range(0, len(names), TOPICS_A_CHUNK):
        yield Chunk(topics, names[start : start + TOPICS_A_CHUNK], META)
    for part in by_size(paths):
        yield Chunk(sources, [(root, path) for path in part], META)


def modules() -> list[Path]:
    """The library's own modules, sorted."""
    found: list[Path] = []
    for place, folders, names in os.walk(_root()):
        folders[:] = [name for name in folders if not _is_skipped(name)]
        found += [
            Path(place, name) for name in names if name.endswith(".py") and not _is_skipped(name)
        ]
    return sorted(found)


def topics(names: Sequence[str], meta: dict[str, Any]) -> Iterator[Document]:
    """Topics of the language reference as documents."""
    for name in names:
        own = {"domain": PROSE, "language": "en", "path": name, "family": f"topic {name}"}
        yield document(_topics()[name].strip() + "\n", {**meta, **own})


def sources(items: Sequence[tuple[Path, Path]], meta: dict[str, Any]) -> Iterator[Document]:
    """Each module, given with the library's folder, as two documents: source and documentation."""
    for root, path in items:
        name = path.relative_to(root).as_posix()
        shared = {**meta, "path": name, "family": name}
        code = text_file(path, {**shared, "domain": CODE, "language": "python"})
        yield code
        prose = "" if code.flaw else documentation(name, code.text)
        if prose:
            yield document(prose, {**shared, "domain": PROSE, "language": "en"})


def documentation(name: str, source: str) -> str:
    """What a module says about itself, in the order of its source; empty if it says nothing.

    textwrap

    Text wrapping and filling.

    TextWrapper.wrap(self, text)

    Reformat the single paragraph in 'text' so it fits in lines of no more than ...
    """
    tree = ast.parse(source)
    head = [(0, text)] if (text := ast.get_docstring(tree)) else []
    parts = sorted([*head, *_docstrings(tree, ""), *_comments(tree, source)])
    if not parts:
        return ""
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return "\n\n".join([module, *(text for _, text in parts)]) + "\n"


def _docstrings(parent: ast.AST, prefix: str) -> Iterator[tuple[int, str]]:
    """(line, signature and docstring) of the documented functions and classes of `parent`."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.If | ast.Try):
            yield from _docstrings(node, prefix)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        name = prefix + node.name
        if text := ast.get_docstring(node):
            head = f"class {name}" if isinstance(node, ast.ClassDef) else _signature(name, node)
            yield node.lineno, f"{head}\n\n{text}"
        if isinstance(node, ast.ClassDef):
            yield from _docstrings(node, f"{name}.")


def _signature(name: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return f"{name}({ast.unparse(node.args)})"


def _comments(tree: ast.Module, source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of each long comment that stands on lines of its own, outside of strings."""
    lines = source.split("\n")
    quoted = {
        number
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    block: list[str] = []
    for number, line in enumerate([*lines, ""], start=1):
        text = line.strip()
        if text.startswith("#") and number not in quoted:
            block.append(text.lstrip("#!").removeprefix(" ").rstrip())
            continue
        if sum(map(len, block)) >= LONG_COMMENT:
            yield number - len(block), "\n".join(block).strip("\n")
        block = []


def _root() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _is_skipped(name: str) -> bool:
    return name in SKIPPED or name.startswith(SKIPPED_PREFIXES)


@cache
def _topics() -> dict[str, str]:
    """The topics of this Python; some distributions leave them out."""
    try:
        return importlib.import_module("pydoc_data.topics").topics
    except ModuleNotFoundError:
        return {}
