"""`baiwen scaling predict|fit|parity`: learning rate, batch, loss and size by law.

    $ baiwen scaling predict --params 1.5B --tokens 30B
    $ baiwen scaling predict --flops 1e21 --laws laws.json
    $ baiwen scaling fit runs.csv --out laws.json --params 1.5B --tokens 30B
    $ baiwen scaling parity --model 57b-a14b --tokens 4.5T

`predict` prints what the published laws say, side by side (baiwen/scaling/presets.py). `fit` fits
the laws of a table of runs in Step Law's columns, writes them for `predict`, `parity` and
`lr = "law"`, and with a target prints what they say of it. `parity` says which dense model a
mixture of experts equals in loss, or which mixtures a dense model.
"""

import argparse
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table

from baiwen.errors import UserError
from baiwen.mistakes import nearest
from baiwen.model import count
from baiwen.model.sizes import SIZES
from baiwen.scaling import grid, interval, laws, moe
from baiwen.scaling.hyper import Variable
from baiwen.scaling.interval import Predicted
from baiwen.scaling.laws import Laws
from baiwen.scaling.loss import LossLaw
from baiwen.scaling.moe import PUBLISHED, Mixture, MoeLaw, Published
from baiwen.scaling.presets import KAPLAN, LOSSES, Kaplan, Target
from baiwen.scaling.presets import hyper as published

UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
PLAIN_WIDTH = 140  # of a table where there is no terminal
SEQUENCE = 4096  # tokens of a row, for the FLOPs of attention
EMBEDDED = ", N with embeddings"  # after the name of a law that counts them
WANTING = {"loss": "the loss", "moe": "mixtures of experts"}  # laws that runs may not tell
SIZE = ("model", "params", "active", "total", "tokens")  # options of a target
RATIOS = (2, 4, 8, 16)  # total parameters for each active one, of mixtures that equal a dense model


def main(options: argparse.Namespace) -> None:
    """Print what the laws say."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    console = Console(highlight=False, markup=False, width=width)
    if options.what == "parity":
        _parity(options, console)
        return
    flops = None if options.flops is None else number(options.flops)
    targeted = any(getattr(options, name) is not None for name in SIZE)
    given = target(options) if targeted or (options.what == "predict" and not flops) else None
    own = _fit(options, console) if options.what == "fit" else _own(options)
    if given is not None:
        _predict(options, given, own, console)
    if flops is not None:
        _optimum(flops, own, console)


# The command line: what is asked.


def number(text: str) -> float:
    """`1.5B`, `300M` or `3e10` as a number."""
    match = re.fullmatch(r"([\d.]+(?:e[+-]?\d+)?)([kmbt]?)", text.strip().lower())
    try:
        value = float(match[1]) * UNITS[match[2]] if match else 0.0
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise UserError(f"{text!r} is not a number above 0, such as 1.5B, 300M or 3e10")
    return value


def target(options: argparse.Namespace) -> Target:
    """What `--model` or `--params`, and `--tokens`, describe."""
    size = _size(options)
    tokens = number(options.tokens)
    if options.model is None:
        return Target(size.active, tokens, ratio=size.ratio, experts=size.expansion)
    return Target.of(SIZES[options.model], tokens, SEQUENCE)


def _size(options: argparse.Namespace) -> Mixture:
    """The size that the options name, dense or a mixture of experts."""
    given = [options.model, options.params, options.active]
    if sum(one is not None for one in given) != 1 or options.tokens is None:
        raise UserError(
            "give --tokens, and one of --params (of a dense model, without the embeddings), "
            "--active with --total (of a mixture of experts) and --model (a size by name)"
        )
    if options.params is not None:
        return moe.dense(number(options.params))
    if options.model is not None:
        if options.model not in SIZES:
            hint = nearest(options.model, list(SIZES))
            raise UserError(f"there is no size {options.model}.{hint} There are {', '.join(SIZES)}")
        return Mixture.of(SIZES[options.model])
    if options.total is None or number(options.total) < number(options.active):
        raise UserError("--active needs --total, all parameters of the mixture, which are more")
    return Mixture(number(options.active), number(options.total))


def _own(options: argparse.Namespace) -> Laws | None:
    return laws.read(Path(options.laws)) if options.laws else None


# What is printed.


def _fit(options: argparse.Namespace, console: Console) -> Laws:
    own = laws.fit(options.runs, options.share, options.draws)
    near, share = own.hyper.runs, own.hyper.share
    console.print(f"{own.runs} runs in {own.cells} cells; {near} within {share:.2%} of their best")
    table = _table("law", "factor", "exponent of N", "of D", "of total / active")
    for name, law in (("peak lr", own.hyper.lr), ("tokens a step", own.hyper.batch)):
        powers = zip(law.variables, law.exponents, law.errors, strict=True)
        told = {variable: f"{exponent:.3f} +- {error:.3f}" for variable, exponent, error in powers}
        columns = (told.get(variable, "-") for variable in get_args(Variable))
        table.add_row(name, f"{law.factor:.4g}", *columns)
    console.print(table)
    for line in [*laws.told(own)][2:]:
        console.print(line)
    if own.loss is not None:
        ends = (f"{name} {a:.4g} to {b:.4g}" for name, (a, b) in own.loss.intervals.items())
        console.print(f"  95 %: {', '.join(ends)}")
    if own.moe is not None:
        console.print("  95 %: kappa {:.3f} to {:.3f}".format(*own.moe.interval))
    for name, why in own.missing.items():
        console.print(f"no law of {WANTING[name]}: {why}")
    for line in grid.doubts(grid.read(options.runs)):
        console.print(f"warning: {line}", style="yellow")
    if options.out is not None:
        laws.write(options.out, own)
        console.print(f"written: {options.out}")
    return own


def _predict(
    options: argparse.Namespace, given: Target, own: Laws | None, console: Console
) -> None:
    shape = _size(options)
    console.print(_described(options, given, shape))
    rates = _table("law", "peak lr", "tokens a step", "beyond its runs")
    presets = [*published(given)]
    for found in presets:
        lr = "-" if found.lr is None else f"{found.lr:.3g}"
        batch = "-" if found.tokens_per_step is None else f"{found.tokens_per_step:,.0f}"
        rates.add_row(f"{found.law}: {found.source}", lr, batch, found.beyond or "")
    if own is not None:
        size = given.parameters, given.tokens, given.ratio
        rate, step = own.hyper.lr.predict(*size), own.hyper.batch.predict(*size)
        far = interval.told(rate.beyond)
        rates.add_row("your runs", _ends(rate, ".3g"), _ends(step, ",.0f"), far)
    console.print(rates)
    for found in presets:
        console.print(f"  {found.law}: {found.scope}", style="dim")
    losses = _table("loss law", "loss, nats a token", "beyond its runs")
    for name, loss in _losses(given, shape, own):
        losses.add_row(name, _ends(loss, ".3f"), interval.told(loss.beyond))
    console.print(losses)
    _say_missing(own, "loss" if shape.ratio == 1 else "moe", console)


def _losses(given: Target, size: Mixture, own: Laws | None) -> Iterator[tuple[str, Predicted]]:
    """Of a dense model the laws of N and D, of a mixture of experts those of mixtures."""
    if size.ratio == 1:
        for name, law in _dense_laws(own).items():
            n = given.counted if name.endswith(EMBEDDED) else given.parameters
            yield name, law.predict(n, given.tokens)
    else:
        for name, mixed in _mixture_laws(own).items():
            yield name, mixed.predict(size, given.tokens)


def _dense_laws(own: Laws | None) -> dict[str, LossLaw | Kaplan]:
    mine = {"your runs": own.loss} if own and own.loss else {}
    counted = {name + EMBEDDED: law for name, law in LOSSES.items()}
    return {**counted, "kaplan": KAPLAN, **mine}


def _mixture_laws(own: Laws | None) -> dict[str, Published | MoeLaw]:
    mine = {"your runs": own.moe} if own and own.moe else {}
    return {law.source: law for law in PUBLISHED.values()} | mine


def _described(options: argparse.Namespace, given: Target, size: Mixture) -> str:
    whole = "" if size.ratio == 1 else f" active of {size.total:.4g}"
    told = f"N {size.active:.4g}{whole} without embeddings, D {given.tokens:.4g} tokens"
    flops = 6 * given.parameters * given.tokens
    if options.model is None:
        return f"{told}, 6 N D = {flops:.3g} FLOPs"
    counted = given.tokens * count.flops_per_token(SIZES[options.model], SEQUENCE)
    return (
        f"{options.model}: {told}, 6 N D = {flops:.3g} FLOPs; with attention on rows of "
        f"{SEQUENCE:,} tokens and the head it is {counted / flops:.3g} times that"
    )


def _optimum(flops: float, own: Laws | None, console: Console) -> None:
    """N and D of the least loss for a budget."""
    table = _table(f"least loss for {flops:.3g} FLOPs", "N", "D", "beyond its runs")
    for name, law in _dense_laws(own).items():
        size, data = law.optimum(flops)
        far = interval.told({**size.beyond, **data.beyond})
        table.add_row(name, _ends(size, ".3g"), _ends(data, ".3g"), far)
    console.print(table)


def _parity(options: argparse.Namespace, console: Console) -> None:
    size, own = _size(options), _own(options)
    tokens = number(options.tokens)
    _say_missing(own, "moe", console)
    if size.ratio == 1:
        _mixtures(size, tokens, own, console)
        return
    console.print(f"a mixture of experts, {size.active:.4g} of {size.total:.4g} parameters active")
    table = _table("law", "dense N of equal loss", "of active N", "beyond its runs")
    for name, law in _mixture_laws(own).items():
        equal = law.parity(size, tokens)
        far = interval.told(equal.beyond)
        table.add_row(name, _ends(equal, ".3g"), f"{equal.value / size.active:.2f}x", far)
    console.print(table)


def _mixtures(size: Mixture, tokens: float, own: Laws | None, console: Console) -> None:
    """Mixtures of several ratios that equal a dense model."""
    console.print(f"a dense model of {size.active:.4g} parameters")
    table = _table("law", "total for each active", "active N", "total N", "beyond its runs")
    for name, law in _mixture_laws(own).items():
        for ratio in RATIOS:
            found = moe.mixture_for(law.at, size.active, ratio, tokens)
            far = interval.told(law.parity(found, tokens).beyond)
            table.add_row(name, f"{ratio}", f"{found.active:.3g}", f"{found.total:.3g}", far)
    console.print(table)


def _say_missing(own: Laws | None, name: str, console: Console) -> None:
    """Why the law of own runs that a table would have had is not in it."""
    if own is not None and getattr(own, name) is None:
        why = own.missing.get(name, "none of them is one")
        console.print(f"your runs tell no law of {WANTING[name]}: {why}")


def _ends(found: Predicted, form: str) -> str:
    """A value with its interval, where it has one."""
    if found.low is None:
        return f"{found.value:{form}}"
    return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}})"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for place, column in enumerate(columns):
        right = 0 < place < len(columns) - 1
        last = place == len(columns) - 1
        table.add_column(column, justify="right" if right else "left", no_wrap=not last)
    return table
