"""The table of a sweep: a row a run, in Step Law's columns and some more.

measured = row(run, metrics, smooth=0.05)      # a dict by column
files.write("runs.csv", text(rows))            # grid.read takes its finished runs

N, active N     parameters without the embeddings, with every expert and as a token meets them
sparsity        share of the routed experts that a token does not meet; 0 of a dense model
D, steps        tokens that the cell asks for, steps that were made
lr, bs          peak learning rate; rows of a step, each of `sequence` tokens
smooth loss     nats a token, the mean over the last tokens of the training
heldout loss    of the same held-out rows for every run, at the end
state           finished; diverged (no loss); stopped (by halving: the loss is that of its stop)
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from baiwen.model import count
from baiwen.scaling.grid import FINISHED
from baiwen.scaling.sweep import Run, smoothed

Rows = Sequence[Mapping[str, Any]]
COLUMNS = (
    *("N", "active N", "sparsity", "D", "lr", "bs", "sequence", "smooth loss", "heldout loss"),
    *("state", "steps", "FLOPs", "seed", "size", "name"),
)


def row(run: Run, metrics: Sequence[Mapping[str, Any]], smooth: float) -> dict[str, Any]:
    """What `metrics`, a row a step so far, tell of `run`; null where there is no finite number.

    smooth: share of the run's tokens that the smoothed loss is the mean of, the last ones.
    """
    loss = smoothed(
        [step["loss"] for step in metrics],
        [step["tokens"] for step in metrics],
        smooth * run.tokens,
    )
    finite, ended = math.isfinite(loss), len(metrics) == run.steps
    flops = run.batch * count.flops_per_token(run.shape, run.length)
    shape = run.shape
    return {
        "N": run.parameters,
        "active N": run.active,
        "sparsity": 1 - shape.num_experts_per_tok / shape.num_experts if shape.is_moe else 0.0,
        "D": run.tokens,
        "lr": run.optim.lr,
        "bs": run.batch // run.length,
        "sequence": run.length,
        "smooth loss": loss if finite else None,
        "heldout loss": metrics[-1].get("heldout_loss") if finite and ended else None,
        "state": (FINISHED if ended else "stopped") if finite else "diverged",
        "steps": len(metrics),
        "FLOPs": flops * len(metrics),
        "seed": run.seed,
        "size": run.size,
        "name": run.name,
        "setting": run.setting,
    }


def text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> str:
    """The rows as CSV; null is an empty field."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
