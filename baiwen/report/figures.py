"""Figures as inline SVG that takes its colours from the page, so light and dark both fit.

    curves([Curve("training", steps, loss), Curve("held out", steps, loss, dots=True)], lr)
    intervals({"base": {"counting": (0.1, 0.05, 0.2)}, "sft": {...}})
    grids({"base": Grid(["4k", "8k"], ["0 %", "50 %", "100 %"], shares)}, "length", "depth")

Drawn by matplotlib with text kept as text. Colours are drawn as stand-ins that become CSS variables
(with a fallback for a figure that is looked at alone). The same data gives the same bytes.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from baiwen.report.words import printable

INK, RULE, SOFT = "#010101", "#020202", "#030303"
SERIES = ("#a00001", "#a00002", "#a00003", "#a00004")
THEME = {
    INK: "currentColor",
    RULE: "var(--rule, #dfe3e8)",
    SOFT: "var(--soft, #5b6675)",
    SERIES[0]: "var(--one, #1f66ad)",
    SERIES[1]: "var(--two, #c2571a)",
    SERIES[2]: "var(--three, #2c7d4f)",
    SERIES[3]: "var(--four, #8a4fb0)",
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "baiwen",
    "text.parse_math": False,  # a "$" in a name is a dollar
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # the one that matplotlib carries, for measuring
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": RULE,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
WIDTH = 7.6  # inches, of which the page makes its own width
GRIDS_A_ROW = 4
POINTS = 400  # of a curve at most; the rest are averaged
LONGEST_LABEL = 40  # characters


@dataclass(frozen=True)
class Curve:
    """A named series; `dots` marks each point, for what is measured now and then."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dots: bool = False


def curves(losses: Sequence[Curve], rate: Curve) -> str:
    """Loss over steps, and the learning rate in a strip below."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        for curve, colour in zip(losses, cycle(SERIES), strict=False):
            _draw(above, curve, colour)
        _draw(below, rate, SOFT)
        above.set_ylabel("loss, nats a token")
        above.legend(loc="upper right")
        below.set_ylabel(rate.name)
        below.set_xlabel("step")
        below.set_ylim(bottom=0)
        return svg(figure)


def against(drawn: Sequence[Curve], across: str, up: str) -> str:
    """Curves over something else than steps, on a logarithmic axis."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        axes = figure.subplots()
        for curve, colour in zip(drawn, cycle(SERIES), strict=False):
            _draw(axes, curve, colour)
        axes.set_xscale("log")
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.legend(loc="upper right")
        return svg(figure)


def intervals(models: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> str:
    """Accuracy by kind: a dot for the value and a line for its 95 % interval, models beside.

    models: model -> kind -> (value, low, high), all in [0, 1]; every model has the same kinds.
    """
    kinds = list(next(iter(models.values())))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.34 * len(kinds)), layout="constrained")
        axes = figure.subplots()
        for index, (name, by_kind) in enumerate(models.items()):
            colour = SERIES[index % len(SERIES)]
            shift = 0.18 * (index - (len(models) - 1) / 2)
            places = [row + shift for row in range(len(kinds))]
            values, lows, highs = zip(*(by_kind[kind] for kind in kinds), strict=True)
            axes.hlines(places, lows, highs, color=colour, linewidth=2)
            axes.plot(values, places, "o", color=colour, markersize=5.5, label=_label(name))
        axes.set_yticks(range(len(kinds)), list(map(_label, kinds)))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_xlim(-0.02, 1.02)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside upper right", ncols=len(models))
        return svg(figure)


def panels(drawn: Mapping[str, Sequence[Curve]]) -> str:
    """Small panels in two columns, one a title, each with its curves over steps."""
    rows = -(-len(drawn) // 2)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.4 + 1.75 * rows), layout="constrained")
        grid = figure.subplots(rows, 2, squeeze=False).flatten()
        for axes, (title, curves) in zip(grid, drawn.items(), strict=False):
            for curve, colour in zip(curves, cycle(SERIES), strict=False):
                _draw(axes, curve, colour)
            axes.set_title(title, fontsize=9.5, loc="left")
            if len(curves) > 1:
                axes.margins(y=0.3)  # room for the legend
                axes.legend(loc="upper left", fontsize=8, ncols=len(curves))
        for axes in grid[len(drawn) :]:
            axes.set_axis_off()
        return svg(figure)


@dataclass(frozen=True)
class Grid:
    """Shares in rows and columns, each a number from 0 to 1."""

    columns: Sequence[str]
    rows: Sequence[str]
    shares: Sequence[Sequence[float]]  # by row


def grids(drawn: Mapping[str, Grid], across: str, down: str) -> str:
    """Heat maps beside each other, one a title: the fuller a cell, the larger its share.

    across, down: what columns and rows are.
    """
    wide = min(len(drawn), GRIDS_A_ROW)
    rows = -(-len(drawn) // wide)
    most = max(len(grid.rows) for grid in drawn.values())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, rows * (0.8 + 0.19 * most)), layout="constrained")
        plots = figure.subplots(rows, wide, squeeze=False).flatten()
        for index, (axes, (title, grid)) in enumerate(zip(plots, drawn.items(), strict=False)):
            _heat(axes, grid)
            axes.set_title(_label(title), fontsize=9.5, loc="left")
            axes.tick_params(labelleft=index % wide == 0)
        for axes in plots[len(drawn) :]:
            axes.set_axis_off()
        figure.supxlabel(across, fontsize=9.5, color=SOFT)
        figure.supylabel(down, fontsize=9.5, color=SOFT)
        return svg(figure)


def bars(drawn: Mapping[str, Mapping[str, float]], across: str) -> str:
    """Shares as bars beside each other, a row a name, a colour a series.

    drawn: name -> series -> share; every name has the same series.
    """
    series = list(next(iter(drawn.values())))
    thick = 0.8 / len(series)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.34 * len(drawn)), layout="constrained")
        axes = figure.subplots()
        for index, (name, colour) in enumerate(zip(series, cycle(SERIES), strict=False)):
            places = [row + thick * (index - (len(series) - 1) / 2) for row in range(len(drawn))]
            shares = [row[name] for row in drawn.values()]
            axes.barh(places, shares, 0.9 * thick, color=colour, label=_label(name))
        axes.set_yticks(range(len(drawn)), list(map(_label, drawn)))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_xlabel(across)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside upper right", ncols=len(series))
        return svg(figure)


def histograms(drawn: Mapping[str, tuple[Sequence[float], Sequence[float]]], up: str) -> str:
    """Small panels in two columns, one a title, each a histogram: its edges and its counts."""
    rows = -(-len(drawn) // 2)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.4 + 1.5 * rows), layout="constrained")
        grid = figure.subplots(rows, 2, squeeze=False).flatten()
        for axes, (title, (edges, counts)) in zip(grid, drawn.items(), strict=False):
            axes.stairs(counts, edges, fill=True, color=SERIES[0])
            axes.set_title(_label(title), fontsize=9.5, loc="left")
        for axes in grid[len(drawn) :]:
            axes.set_axis_off()
        figure.supylabel(up, fontsize=9.5, color=SOFT)
        return svg(figure)


def calibration(points: Sequence[tuple[float, float, int]]) -> str:
    """Observed against predicted shares, both from a half to one; dots grow with their count.

    points: (predicted, observed, count).
    """
    predicted, observed, counts = zip(*points, strict=True)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        axes = figure.subplots()
        axes.plot([0.5, 1], [0.5, 1], color=SOFT, linewidth=1, linestyle="--")
        axes.plot(predicted, observed, color=SERIES[0], linewidth=1.2)
        sizes = [12 + 60 * n / max(counts) for n in counts]
        axes.scatter(predicted, observed, s=sizes, color=SERIES[0])
        axes.set_xlabel("how sure it is")
        axes.set_ylabel("how often it is right")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:.0%}")
        return svg(figure)


def _heat(axes: Axes, grid: Grid) -> None:
    for row, shares in enumerate(grid.shares):
        for column, share in enumerate(shares):
            cell = Rectangle((column - 0.5, row - 0.5), 1, 1, edgecolor=RULE, linewidth=0.6)
            cell.set_facecolor((SERIES[0], share))
            axes.add_patch(cell)
    axes.set_xticks(range(len(grid.columns)), list(map(_label, grid.columns)))
    axes.set_yticks(range(len(grid.rows)), list(map(_label, grid.rows)))
    axes.tick_params(length=0, labelsize=8)
    axes.set_xlim(-0.5, len(grid.columns) - 0.5)
    axes.set_ylim(len(grid.rows) - 0.5, -0.5)
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)


def _draw(axes: Axes, curve: Curve, colour: str) -> None:
    x, y = _thinned(curve.x), _thinned(curve.y)
    look: dict[str, Any] = {"marker": "o", "markersize": 4} if curve.dots else {}
    axes.plot(x, y, color=colour, linewidth=1.4, label=_label(curve.name), **look)


def _label(name: str) -> str:
    """A name as it fits into a drawing."""
    line = " ".join(printable(name).split())
    return line if len(line) <= LONGEST_LABEL else f"{line[: LONGEST_LABEL - 1]}…"


def _thinned(values: Sequence[float]) -> list[float]:
    """At most POINTS means of neighbours."""
    size = -(-len(values) // POINTS)
    pieces = [values[at : at + size] for at in range(0, len(values), size or 1)]
    return [sum(piece) / len(piece) for piece in pieces]


def svg(figure: Figure) -> str:
    """The figure as an <svg> element with the page's colours and no fixed size."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"#[0-9a-f]{6}\b", lambda found: THEME.get(found[0], found[0]), text)
    text = text.replace("'DejaVu Sans'", "system-ui")
    used = set(re.findall(r"#([\w.-]+)", text))  # ids of clips and markers; the others only collide
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    return text[text.index("<svg") :].strip()
