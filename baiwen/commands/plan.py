"""`baiwen plan RECIPE|FOLDER [key=value ...]`: what a run would take, with nothing run or written.

Of each recipe: every knob as it would be used, those that differ from their default marked with the
default beside them; the inputs that are not there yet; and, where the stage has a function
`plan(config) -> {name: figure}`, its figures (parameters, FLOPs, tokens, memory, time, disk).
"""

import argparse
import json
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from baiwen import config, stages
from baiwen.config import Knobs
from baiwen.stages import Recipe


def main(options: argparse.Namespace) -> None:
    """Print the plan of every recipe."""
    console = Console(highlight=False, soft_wrap=True)
    for recipe in stages.load(options.recipe, options.overrides):
        console.print(_table(recipe))
        for key, path in config.inputs(recipe.config):
            if not path.exists():
                console.print(f"[yellow]{key}: {path} is not there yet[/yellow]")
        console.print()


def _table(recipe: Recipe) -> Table:
    table = Table("knob", "value", "default", title=f"{recipe.path}: {recipe.stage}", box=None)
    table.title_justify = "left"
    for key, value, default in knobs(recipe.config):
        changed = value != default
        style = "bold" if changed else "dim"
        table.add_row(f"{'*' if changed else ' '} {key}", value, default * changed, style=style)
    figures = recipe.module.plan(recipe.config) if hasattr(recipe.module, "plan") else {}
    if figures:
        table.add_section()
    for name, figure in figures.items():
        table.add_row(f"  {name}", figure if isinstance(figure, str) else f"{figure:,}", "")
    return table


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
            needed = above is None and field.is_required()
            yield f"{key}{name}", _toml(values[name]), "required" if needed else _toml(default)


def _toml(value: object) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False, default=str)
