"""The section of mixtures of experts: what they gain at equal FLOPs, and how even their load is.

    for block in experts([read("mixture", Path("runs/moe/mixture")), ...]): ...

Runs are compared that start from nothing and measure the same held-out text. The load of experts is
what each training run has left in `experts.jsonl`; that none is dropped needs no figure, since no
expert has a capacity.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from baiwen.report import figures
from baiwen.report.figures import Curve
from baiwen.report.page import Block, Figure, Table, Text
from baiwen.report.runs import Run
from baiwen.report.words import count, percent, short

EXPERTS = "experts.jsonl"
EVEN = 0.5  # how full the cell of an expert is that has as much as the others
LABELS = 16  # columns up to which each has its number
# Figures of a step, by the panel that they share between runs.
PANELS = {
    "largest load / mean - 1, mean of layers": "expert_violation",
    "largest load / mean - 1, worst layer": "expert_violation_worst",
    "experts with less than a tenth of the mean": "idle_experts",
    "entropy of the routers, nats": "router_entropy",
}


def experts(runs: Sequence[Run]) -> Iterator[Block]:
    """Loss over FLOPs of mixtures beside the others, then the load of their experts."""
    mixtures = [run for run in runs if run.metrics and any(run.rows(EXPERTS))]
    if not mixtures:
        return
    yield from _compared([run for run in runs if _from_nothing(run)])
    yield Text(
        "Tokens of one step by layer (down) and expert (across), at the end of each run: a half "
        "full cell has as many as the mean of its layer, a full one twice as many or more. No "
        "token is dropped: an expert takes all that choose it."
    )
    source = ", ".join(run.source(EXPERTS) for run in mixtures)
    alt = "Load of each expert of each layer, a grid a run; the extremes are in the table"
    grids = {run.name: _grid(_last(run)) for run in mixtures}
    yield Figure("experts.svg", figures.grids(grids, "expert", "layer"), alt, source)
    source = ", ".join(run.source("metrics.jsonl") for run in mixtures)
    drawn = {
        title: [Curve(run.name, *run.curve(name)) for run in mixtures]
        for title, name in PANELS.items()
    }
    alt = "Imbalance, idle experts and entropy of the routers over steps; the last are in the table"
    yield Figure("routers.svg", figures.panels(drawn), alt, source)
    head = ["run", "layers", "experts", "largest / mean - 1", "worst layer", "idle", "entropy"]
    yield Table([*head, "of at most"], [_row(run) for run in mixtures], source)


def _compared(runs: Sequence[Run]) -> Iterator[Block]:
    """Held-out loss over training FLOPs; what each reaches with the FLOPs that all have spent."""
    curves = {run.name: _spent(run) for run in runs}
    if len(curves) < 2:
        return
    source = ", ".join(run.source("metrics.jsonl", "device.json") for run in runs)
    drawn = [Curve(name, *curve, dots=True) for name, curve in curves.items()]
    svg = figures.against(drawn, "FLOPs of training", "held-out loss, nats a token")
    yield Figure("flops.svg", svg, "Held-out loss over the FLOPs spent, a curve a run", source)
    budget = min(flops[-1] for flops, _ in curves.values())
    yield Table(["run", f"loss at {short(budget)} FLOPs", "FLOPs in all"], [
        [name, f"{_at(budget, *curve):.3f}", short(curve[0][-1])] for name, curve in curves.items()
    ], source)  # fmt: skip


def _from_nothing(run: Run) -> bool:
    measured = any(run.curve("heldout_loss")) and "flops_per_token" in run.table("device.json")
    return run.stage == "pretrain" and measured and run.recipe.get("start") is None


def _spent(run: Run) -> tuple[list[float], list[float]]:
    """FLOPs of training up to each measurement, and the held-out loss there."""
    each = float(run.table("device.json")["flops_per_token"])
    tokens = list(accumulate(row["tokens"] for row in run.metrics))
    pairs = [
        (total * each, row["heldout_loss"])
        for total, row in zip(tokens, run.metrics, strict=True)
        if row.get("heldout_loss") is not None
    ]
    return [flops for flops, _ in pairs], [loss for _, loss in pairs]


def _at(budget: float, flops: Sequence[float], losses: Sequence[float]) -> float:
    """The loss after so many FLOPs, between two measurements on the line in log FLOPs."""
    after = bisect_left(flops, budget)
    if after == 0 or flops[after] == budget:
        return losses[after]
    low, high = math.log(flops[after - 1]), math.log(flops[after])
    share = (math.log(budget) - low) / (high - low)
    return losses[after - 1] + share * (losses[after] - losses[after - 1])


def _last(run: Run) -> Sequence[Sequence[int]]:
    *_, row = run.rows(EXPERTS)
    found: Sequence[Sequence[int]] = row["counts"]
    return found


def _grid(counts: Sequence[Sequence[int]]) -> figures.Grid:
    wide = len(counts[0])
    step = -(-wide // LABELS)
    columns = [str(number) if number % step == 0 else "" for number in range(wide)]
    shares = [
        [min(1.0, EVEN * load * wide / max(sum(layer), 1)) for load in layer] for layer in counts
    ]
    return figures.Grid(columns, [str(number) for number in range(len(counts))], shares)


def _row(run: Run) -> list[str]:
    # A step that was skipped may have figures that are no numbers.
    last = {name: math.nan if one is None else one for name, one in run.metrics[-1].items()}
    counts = _last(run)
    return [
        run.name,
        count(len(counts)),
        count(len(counts[0])),
        f"{last['expert_violation']:.2f}",
        f"{last['expert_violation_worst']:.2f}",
        percent(last["idle_experts"]),
        f"{last['router_entropy']:.2f}",
        f"{math.log(len(counts[0])):.2f}",
    ]
