"""Drawings of a sweep: the valley of each cell, the fitted lines, what the law is worth.

    valleys([Valley("N 60.4k, D 240k", lrs, batches, losses, law=(0.013, 420))])
    laws([Panel("batch over D", "D", "tokens a step", dots={"near the best": (x, y)}, lines=...)])
    bars({"law": [3.91, 3.93, 3.90], "default": [5.2, 5.1, 5.2]}, "held-out loss, nats a token")

As in `figures.py`: inline SVG with the page's colours, and the same data gives the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from baiwen.report.figures import INK, SERIES, SOFT, STYLE, WIDTH, svg
from baiwen.report.words import count, short

LEVELS = (0.0025, 0.005, 0.01)  # of the contours, above the least loss of the cell
ACROSS = 3  # panels of a row
Points = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Valley:
    """The runs of one cell, and the point that the law has for it."""

    title: str
    lr: Sequence[float]
    batch: Sequence[float]  # tokens of a step
    loss: Sequence[float]  # finite
    law: tuple[float, float] | None = None  # lr and batch


@dataclass(frozen=True)
class Panel:
    """Dots and lines over logarithmic axes, each under its name."""

    title: str
    across: str
    up: str
    dots: Mapping[str, Points]
    lines: Mapping[str, Points] = field(default_factory=dict)


def valleys(cells: Sequence[Valley]) -> str:
    """Loss over learning rate and batch in each cell: contours, its best run, the law's point."""
    rows = -(-len(cells) // ACROSS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.6 + 2.2 * rows), layout="constrained")
        grid = figure.subplots(rows, ACROSS, squeeze=False).flatten()
        for axes, cell in zip(grid, cells, strict=False):
            _valley(axes, cell)
        for axes in grid[len(cells) :]:
            axes.set_axis_off()
        figure.supxlabel("peak learning rate", fontsize=9.5, color=SOFT)
        figure.supylabel("tokens a step", fontsize=9.5, color=SOFT)
        return svg(figure)


def laws(panels: Sequence[Panel]) -> str:
    """Panels beside each other, over logarithmic axes."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, panel in zip(grid, panels, strict=True):
            _panel(axes, panel)
        return svg(figure)


def bars(settings: Mapping[str, Sequence[float]], across: str) -> str:
    """A bar for the mean of each setting, a dot for each seed; the axis begins near the least."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.8 + 0.36 * len(settings)), layout="constrained")
        axes = figure.subplots()
        every = [value for values in settings.values() for value in values]
        margin = 0.1 * (max(every) - min(every)) or 0.01 * min(every)
        for place, (name, values) in enumerate(settings.items()):
            colour = SERIES[0] if place == 0 else SERIES[1]
            axes.barh(place, fmean(values), 0.6, color=colour, alpha=0.75, label=name)
            axes.plot(values, [place] * len(values), "o", color=INK, markersize=3.5)
        axes.set_yticks(range(len(settings)), list(settings))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_xlim(min(every) - 2 * margin, max(every) + margin)
        axes.set_xlabel(across)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        return svg(figure)


def _panel(axes: Axes, panel: Panel) -> None:
    for place, (name, (x, y)) in enumerate(panel.dots.items()):
        axes.plot(x, y, "o", color=SERIES[place % len(SERIES)], markersize=4, label=name)
    for place, (x, y) in enumerate(panel.lines.values()):
        axes.plot(x, y, color=SERIES[place % len(SERIES)], linewidth=1.2)
    across, up = ([value for points in panel.dots.values() for value in points[i]] for i in (0, 1))
    _logarithmic(axes, across, up)
    axes.set_title(panel.title, fontsize=9.5, loc="left")
    axes.set_xlabel(panel.across)
    axes.set_ylabel(panel.up)
    axes.margins(y=0.35)  # room for the legend
    axes.legend(loc="upper left", fontsize=7.5)


def _valley(axes: Axes, cell: Valley) -> None:
    least = min(cell.loss)
    above = [loss / least - 1 for loss in cell.loss]
    if len(set(cell.lr)) > 1 and len(set(cell.batch)) > 1 and max(above) > LEVELS[0]:
        levels = [level for level in LEVELS if level < max(above)]
        # Triangles between the runs, for a grid may have holes.
        axes.tricontour(cell.lr, cell.batch, above, levels, colors=SERIES[: len(levels)],
                        linewidths=1.1)  # fmt: skip
    axes.plot(cell.lr, cell.batch, "o", color=SOFT, markersize=2.5)
    best = above.index(0.0)
    axes.plot(cell.lr[best], cell.batch[best], "o", color=SERIES[0], markersize=7)
    if cell.law is not None:
        axes.plot(*cell.law, "x", color=SERIES[1], markersize=8, markeredgewidth=2)
    _logarithmic(axes, cell.lr, cell.batch)
    axes.use_sticky_edges = False  # a contour would hold the axes to its own edges
    axes.margins(0.12)
    axes.set_title(f"{cell.title}: {least:.3f}", fontsize=9, loc="left")


def _logarithmic(axes: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    """Both axes in logarithms, with a tick at each value that there is, five at most."""
    for scale, ticks, values in (
        (axes.set_xscale, axes.set_xticks, x),
        (axes.set_yscale, axes.set_yticks, y),
    ):
        scale("log", base=2)
        known = sorted(set(values))
        shown = known[:: -(-len(known) // 5)]
        ticks(shown, [_tick(value) for value in shown])


def _tick(value: float) -> str:
    if value < 10:
        return f"{value:.2g}"
    return count(value) if value < 10_000 else short(value)
