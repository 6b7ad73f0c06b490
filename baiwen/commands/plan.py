"""`baiwen plan RECIPE|FOLDER [key=value ...]`: what a run would take, with nothing run or written.

    $ baiwen plan recipes/tiny
    $ baiwen plan recipes/qwen2.5/open --gpus 64 --gpu h200        # on a cluster: `layouts.py`

Of each recipe: every knob as it would be used, those that differ from their default marked with the
default beside them; where the stage has a function `plan(config) -> {name: figure}`, its figures
(parameters, FLOPs, tokens, memory, time, disk); and the inputs that are not there yet.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from baiwen import config, stages
from baiwen.commands import layouts
from baiwen.config import Knobs
from baiwen.errors import UserError
from baiwen.model.sizes import SIZES
from baiwen.stages import Recipe
from baiwen.train.work import UnplannedError, Work

PLAIN_WIDTH = 130  # of the table where there is no terminal


def main(options: argparse.Namespace) -> None:
    """Print the plan of every recipe, or of every size on a cluster."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    console = Console(highlight=False, markup=False, width=width)
    if layouts.asked(options):
        layouts.show(_works(options, console), options, console)
        return
    if options.recipe is None:
        raise UserError("name a recipe or a folder of them, as in baiwen plan recipes/tiny")
    recipes = stages.load(options.recipe, options.overrides)
    for index, recipe in enumerate(recipes):
        console.print(f"{recipe.path}: {recipe.stage}", style="bold")
        console.print(_table(recipe))
        for line in _awaited(recipe, recipes[:index]):
            console.print(line, style="yellow", soft_wrap=True)
        console.print()


def _works(options: argparse.Namespace, console: Console) -> dict[str, Work]:
    """What the options ask to train, by name: the recipes' work, of each size if there are any."""
    sizes: list[str | None] = [*layouts.sizes(options.size)]
    if options.recipe is None:
        if not sizes:
            raise UserError("name a recipe, or a size: baiwen plan --size 72b --gpus 64 --gpu h200")
        return {size: layouts.reported(size) for size in sizes if size}
    works: dict[str, Work] = {}
    unknown = []
    for recipe in stages.load(options.recipe, options.overrides):
        if not hasattr(recipe.module, "work"):
            continue
        for size in sizes or [None]:
            try:
                work = recipe.module.work(recipe.config, SIZES[size] if size else None)
                works[" ".join(filter(None, (recipe.name, size)))] = work
            except UnplannedError as error:
                unknown.append(f"{recipe.name}: {error}")
    told = "\n".join(dict.fromkeys(unknown))
    if not works:
        raise UserError(
            f"{options.recipe}: nothing to lay out on a cluster. That is planned for stages that "
            "train; where `start` of pretrain or sft is not there yet, give --size.\n" + told
        )
    if told:
        console.print(told, style="yellow", soft_wrap=True)
    return works


def _table(recipe: Recipe) -> Table:
    table = Table("  knob", "value", "default", box=None)
    for column in table.columns:
        column.overflow = "fold"
    for key, value, default in knobs(recipe.config):
        changed = value != default
        style = "bold" if changed else "dim"
        table.add_row(f"{'*' if changed else ' '} {key}", value, default * changed, style=style)
    if hasattr(recipe.module, "plan"):
        table.add_row()
        try:
            for name, figure in recipe.module.plan(recipe.config).items():
                table.add_row(f"  {name}", figure if isinstance(figure, str) else f"{figure:,}")
        except UnplannedError as error:
            table.add_row("  figures", f"none: {error}")
    return table


def _awaited(recipe: Recipe, earlier: Sequence[Recipe]) -> Iterator[str]:
    """A line for each input that is not there yet, and who will write it."""
    for key, path in config.inputs(recipe.config):
        if not path.exists():
            writers = [before.name for before in earlier if path.is_relative_to(before.out)]
            yield f"  {key}: {path} is not there yet; " + (
                f"{writers[-1]} writes it" if writers else "no recipe here writes it"
            )


def knobs(
    table: Knobs, above: Knobs | None = None, key: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Key, value and default of every knob in TOML's words; `above` is a table's default."""
    values = config.resolved(table)
    for name, field in type(table).model_fields.items():
        value = getattr(table, name)
        default = getattr(above, name) if above is not None else field.default
        if isinstance(value, Knobs):
            inner = default if isinstance(default, type(value)) else None
            yield from knobs(value, inner, f"{key}{name}.")
        else:
            text = _toml(values[name])
            needed = above is None and field.is_required()
            same = values[name] == default  # also 1 and 1.0, which read differently
            yield f"{key}{name}", text, "required" if needed else text if same else _toml(default)


def _toml(value: object) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False, default=str)
