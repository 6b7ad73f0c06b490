"""`baiwen show [STAGE]`: every knob, its type, default and comment, read from the source.

Nothing of a stage is imported (that would import torch): `ast` gives the fields, `tokenize` the
comments beside them, and a table such as `optim: Optim = Optim(lr=7e-6)` is followed through the
`from baiwen.train.optim import Optim` of its module, the keywords being its defaults.

    steps      int > 0      100      steps of the optimizer
    optim.lr   float        7e-6     peak learning rate; report: 7e-6
"""

import argparse
import ast
import io
import shutil
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import zip_longest
from pathlib import Path

from baiwen.errors import UserError
from baiwen.mistakes import nearest

PACKAGE = Path(__file__).parents[1]
STAGES = sorted(path.stem for path in (PACKAGE / "stages").glob("[a-z]*.py"))
DEFAULT = 28  # characters of a line of a default
BOUNDS = {"gt": "> ", "ge": ">= ", "lt": "< ", "le": "<= ", "min_length": "of length >= "}


@dataclass(frozen=True)
class Knob:
    """One line of a table: its key within the recipe, and what its source says of it."""

    key: str
    type: str
    default: str  # as the source has it; empty where the recipe must set it
    comment: str


@dataclass(frozen=True, eq=False)
class Module:
    """A source file: its lines as the UTF-8 that `ast` counts columns in, its tree, its names."""

    lines: list[bytes]
    tree: ast.Module
    names: dict[str, ast.stmt]  # where each is defined, or imported from us


@dataclass(frozen=True, eq=False)
class Table:
    """A class of knobs, the module it stands in, and the comments of its lines."""

    node: ast.ClassDef
    module: Module
    beside: dict[int, str]  # comments after code
    alone: dict[int, tuple[int, str]]  # comments on a line of their own, with their columns


def main(options: argparse.Namespace) -> None:
    """Print the stages, or the knobs of one."""
    if options.stage is None:
        width = max(map(len, STAGES))
        print("\n".join(f"{stage:{width}}  {headline(stage)}" for stage in STAGES))
    elif options.stage in STAGES:
        print(f"{options.stage}: {headline(options.stage)}\n")
        print("\n".join(_columns(knobs(options.stage))))
    else:
        hint = nearest(options.stage, STAGES)
        raise UserError(
            f"there is no stage {options.stage}.{hint}\n    stages: {', '.join(STAGES)}"
        )


def headline(stage: str) -> str:
    """The first line of a stage's docstring."""
    return (ast.get_docstring(_module(f"baiwen.stages.{stage}").tree) or "").partition("\n")[0]


def knobs(stage: str) -> list[Knob]:
    """Every knob of a stage, those of its tables in place, in the order of the source."""
    found = _find("Config", _module(f"baiwen.stages.{stage}"))
    assert isinstance(found, Table), f"baiwen/stages/{stage}.py has no class Config"
    return _knobs(found)


def _columns(rows: list[Knob]) -> Iterator[str]:
    """The table as lines; defaults and comments are wrapped, these to the width of the terminal."""
    wrapped = [textwrap.wrap(row.default or "required", DEFAULT) for row in rows]
    keys = max((len(row.key) for row in rows), default=0)
    types = max((len(row.type) for row in rows), default=0)
    defaults = max((len(line) for lines in wrapped for line in lines), default=0)
    indent = keys + types + defaults + 6
    width = max(shutil.get_terminal_size((120, 24)).columns - indent, 30)
    for row, default in zip(rows, wrapped, strict=True):
        comment = textwrap.wrap(row.comment, width)
        lines = zip_longest([row.key], [row.type], default, comment, fillvalue="")
        for key, kind, first, told in lines:
            yield f"{key:{keys}}  {kind:{types}}  {first:{defaults}}  {told}".rstrip()


# Fields: from a class to its knobs.


def _knobs(table: Table) -> list[Knob]:
    found: dict[str, Knob] = {}
    for above in table.node.bases:
        inherited = _find(ast.unparse(above), table.module)
        if isinstance(inherited, Table):
            found |= {knob.key: knob for knob in _knobs(inherited)}
    for field in table.node.body:
        if isinstance(field, ast.AnnAssign) and "ClassVar" not in ast.unparse(field.annotation):
            found |= {knob.key: knob for knob in _field(field, table)}
    return list(found.values())


def _field(field: ast.AnnAssign, table: Table) -> list[Knob]:
    name, module = ast.unparse(field.target), table.module
    inner = _find(ast.unparse(field.annotation), module)
    if isinstance(inner, Table):
        given = {}
        if isinstance(field.value, ast.Call):
            given = {word.arg: _default(word.value, module) for word in field.value.keywords}
        return [
            replace(knob, key=f"{name}.{knob.key}", default=given.get(knob.key, knob.default))
            for knob in _knobs(inner)
        ]
    kind = _type(field.annotation, module)
    knob = Knob(name, kind, _default(field.value, module), _comment(field, table))
    return [knob, *_items(name, field.annotation, module)]


def _items(name: str, annotation: ast.expr, module: Module) -> Iterator[Knob]:
    """The knobs of a table that may be absent, of those within a list, or within a dict by name."""
    for step, held in _held(annotation):
        inner = _find(held, module)
        if isinstance(inner, Table):
            for knob in _knobs(inner):
                yield replace(knob, key=f"{name}{step}.{knob.key}")
        elif inner is not None:  # another name for a type
            yield from _items(f"{name}{step}", inner, module)


def _held(annotation: ast.expr) -> Iterator[tuple[str, str]]:
    """The names of an annotation, each with what leads to one of it: nothing, `[N]` or `.NAME`."""
    if isinstance(annotation, ast.Name):
        yield "", annotation.id
    elif isinstance(annotation, ast.BinOp):
        yield from (*_held(annotation.left), *_held(annotation.right))
    elif isinstance(annotation, ast.Subscript):
        many = {"dict": ".NAME", "Annotated": ""}.get(ast.unparse(annotation.value), "[N]")
        inner = annotation.slice
        for part in inner.elts if isinstance(inner, ast.Tuple) else [inner]:
            yield from ((many + step, name) for step, name in _held(part))


def _type(node: ast.expr, module: Module) -> str:
    """The type as a person says it: `Annotated[float, Field(gt=0)]` is `float > 0`."""
    if isinstance(node, ast.BinOp):  # a union
        return f"{_type(node.left, module)} | {_type(node.right, module)}"
    name = ast.unparse(node)
    alias = _find(name, module)
    if isinstance(alias, ast.expr) and name != "Input":
        return _type(alias, module)
    if not name.startswith("Annotated["):
        return name.replace("'", '"')
    assert isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple)
    kind, *marks = node.slice.elts
    words = [word for mark in marks if isinstance(mark, ast.Call) for word in mark.keywords]
    bounds = [
        f"{BOUNDS[word.arg]}{ast.unparse(word.value)}" for word in words if word.arg in BOUNDS
    ]
    return " ".join([_type(kind, module), ", ".join(bounds)]).strip()


def _default(node: ast.expr | None, module: Module) -> str:
    """The default as the source has it; for a constant, what the constant is."""
    if node is None:
        return ""
    constant = _find(ast.unparse(node), module)
    if isinstance(constant, ast.Constant | ast.Tuple):
        return ast.unparse(constant).replace("'", '"')
    lines = module.lines[node.lineno - 1 : node.end_lineno]
    lines[-1] = lines[-1][: node.end_col_offset]
    lines[0] = lines[0][node.col_offset :]
    return " ".join(line.decode().strip() for line in lines)


def _comment(field: ast.AnnAssign, table: Table) -> str:
    """The comment beside a field, with what goes on below it; else the lines above it."""
    last = field.end_lineno or field.lineno
    if last in table.beside:
        told = [table.beside[last]]
        while (below := table.alone.get(last + len(told))) and below[0] > field.col_offset:
            told.append(below[1])
        return " ".join(told)
    told = []
    while (above := table.alone.get(field.lineno - 1 - len(told))) and (
        above[0] == field.col_offset
    ):
        told.append(above[1])
    return " ".join(reversed(told))


# Names: from a word of a source to what it stands for, in that module or one that it imports.


@cache
def _module(name: str) -> Module:
    path = PACKAGE.parent.joinpath(*name.split("."))
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_bytes()
    tree = ast.parse(source, filename=str(path))
    return Module(source.splitlines(), tree, _names(tree))


def _names(tree: ast.Module) -> dict[str, ast.stmt]:
    found: dict[str, ast.stmt] = {}
    for node in tree.body:
        match node:
            case (
                ast.ClassDef(name=name)
                | ast.Assign(targets=[ast.Name(id=name)])
                | ast.AnnAssign(target=ast.Name(id=name))
            ):
                found.setdefault(name, node)
            case ast.ImportFrom(module=str(source)) if source.partition(".")[0] == "baiwen":
                found |= {alias.asname or alias.name: node for alias in node.names}
    return found


@cache
def _table(node: ast.ClassDef, module: Module) -> Table:
    lines = module.lines[node.lineno - 1 : node.end_lineno]
    beside, alone = {}, {}
    for token in tokenize.tokenize(io.BytesIO(b"\n".join(lines)).readline):
        if token.type == tokenize.COMMENT:
            line, column = token.start[0] + node.lineno - 1, token.start[1]
            told = token.string.lstrip("#: ").rstrip()
            if token.line[:column].strip():
                beside[line] = told
            else:
                alone[line] = column, told
    return Table(node, module, beside, alone)


def _find(name: str, module: Module) -> Table | ast.expr | None:
    """The class of knobs, or the expression, that a dotted name stands for, else None."""
    head, _, rest = name.partition(".")
    match module.names.get(head):
        case ast.ClassDef() as node if not rest:
            return _table(node, module)
        case ast.Assign(value=value) if not rest:
            return _listed(value, module)
        case ast.AnnAssign(value=value) if not rest:
            return value
        case ast.ImportFrom(module=str(source), names=aliases):
            real = next(alias.name for alias in aliases if (alias.asname or alias.name) == head)
            return _find(rest or real, _module(f"{source}.{real}" if rest else source))
    return None


def _listed(node: ast.expr, module: Module) -> ast.expr:
    """`tuple(TABLE)` as the tuple of that dict's keys; anything else as it is."""
    match node:
        case ast.Call(func=ast.Name(id="tuple"), args=[ast.Name(id=name)]):
            table = _find(name, module)
            if isinstance(table, ast.Dict):
                return ast.Tuple([key for key in table.keys if key is not None])
    return node
