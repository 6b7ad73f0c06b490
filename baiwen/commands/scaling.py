"""`baiwen scaling predict|fit`: learning rate, batch, loss and size by law.

    $ baiwen scaling predict --params 1.5B --tokens 30B
    $ baiwen scaling fit runs.csv --params 1.5B --tokens 30B

`predict` prints what the published laws say, side by side (baiwen/scaling/presets.py). `fit` fits
the laws of a table of runs in Step Law's columns, and with a target prints what those say of it.
"""

import argparse
import re

from rich.console import Console
from rich.table import Table

from baiwen.errors import UserError
from baiwen.model import count
from baiwen.model.sizes import SIZES
from baiwen.scaling import grid, hyper, loss
from baiwen.scaling.presets import LOSSES, Target
from baiwen.scaling.presets import hyper as published

UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
SEQUENCE = 4096  # tokens of a row, for the FLOPs of attention


def main(options: argparse.Namespace) -> None:
    """Print what the laws say."""
    if options.what == "predict":
        _predict(target(options))
    else:
        _fit(options)


def target(options: argparse.Namespace) -> Target:
    """What `--model` or `--params`, and `--tokens`, describe."""
    if (options.model is None) == (options.params is None) or options.tokens is None:
        raise UserError(
            "give --tokens, and --params (without the embeddings) or --model (a size by name)"
        )
    tokens = number(options.tokens)
    if options.params is not None:
        return Target(number(options.params), tokens)
    if options.model not in SIZES:
        raise UserError(f"there is no size {options.model}; there are: {', '.join(SIZES)}")
    config = SIZES[options.model]
    flops = count.flops_per_token(config, SEQUENCE) - 6 * config.vocab_size * config.hidden_size
    return Target(count.parameters(config).non_embedding, tokens, flops)


def number(text: str) -> float:
    """`1.5B`, `300M` or `3e10` as a number."""
    match = re.fullmatch(r"([\d.]+(?:e\+?\d+)?)([kmbt]?)", text.strip().lower())
    try:
        value = float(match[1]) * UNITS[match[2]] if match else 0.0
    except ValueError:
        value = 0.0
    if not value > 0:
        raise UserError(f"{text!r} is not a number above 0, such as 1.5B, 300M or 3e10")
    return value


def _predict(given: Target) -> None:
    table = _table("law", "peak lr", "tokens a step", "beyond its runs")
    for found in published(given):
        lr = "-" if found.lr is None else f"{found.lr:.3g}"
        batch = "-" if found.tokens_per_step is None else f"{found.tokens_per_step:,.0f}"
        table.add_row(found.source, lr, batch, found.beyond or "")
    console = Console(soft_wrap=True)
    console.print(table)
    losses = _table("loss law", "loss", "N for the same FLOPs", "D for the same FLOPs")
    for name, law in LOSSES.items():
        best = law.best(6 * given.parameters * given.tokens)
        expected = law.at(given.parameters, given.tokens)
        losses.add_row(name, f"{expected:.3f}", *(f"{value:.3g}" for value in best))
    console.print(losses)


def _fit(options: argparse.Namespace) -> None:
    runs = grid.read(options.runs)
    laws = hyper.fit(runs, options.share, options.draws)
    console = Console(soft_wrap=True)
    console.print(f"{len(runs)} runs; {laws.runs} within {laws.share:.2%} of their cell's best")
    table = _table("law", "factor", "exponent of N", "exponent of D")
    for name, law in (("peak lr", laws.lr), ("tokens a step", laws.batch)):
        told = {
            variable: f"{exponent:.3f} +- {error:.3f}"
            for variable, exponent, error in zip(
                law.variables, law.exponents, law.errors, strict=True
            )
        }
        factor = f"{law.factor:.4g}"
        table.add_row(name, factor, told.get("parameters", "-"), told.get("tokens", "-"))
    console.print(table)
    _fit_loss(runs, console)
    if options.tokens is not None:
        _target(laws, target(options), console)


def _fit_loss(runs: grid.Runs, console: Console) -> None:
    """The loss law of each cell's best run, where there are enough of them."""
    best = [own[runs.loss[own].argmin()] for own in grid.cells(runs)]
    try:
        law = loss.fit(runs.parameters[best], runs.tokens[best], runs.loss[best])
    except UserError as error:
        console.print(f"no loss law: {error}")
        return
    named = law.named
    console.print(
        f"loss = {named['E']:.4g} + {named['A']:.4g} / N^{named['alpha']:.3f} "
        f"+ {named['B']:.4g} / D^{named['beta']:.3f}"
    )


def _target(laws: hyper.HyperLaws, given: Target, console: Console) -> None:
    for name, law in (("peak lr", laws.lr), ("tokens a step", laws.batch)):
        found = law.predict(given.parameters, given.tokens)
        beyond = f"; beyond the runs in {', '.join(found.beyond)}" if found.beyond else ""
        console.print(
            f"{name}: {found.value:.3g} (95 %: {found.low:.3g} to {found.high:.3g}){beyond}"
        )


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for place, column in enumerate(columns):
        right = 0 < place < len(columns) - 1
        table.add_column(column, justify="right" if right else "left", no_wrap=place == 0)
    return table
