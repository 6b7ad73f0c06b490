"""Runs of a sweep over learning rate and batch, in cells of one size and one number of tokens.

    runs = read("steplaw.csv.gz")               # Step Law's columns: N D lr bs "smooth loss"
    best = runs[near_best(runs, share=0.0025)]  # within 0.25 % of their cell's least loss

The columns are those of the table that Step Law (arXiv 2503.04715) published; `bs` counts sequences
there, of `SEQUENCE` tokens where no column `sequence` says otherwise, and `batch` tokens here. N
leaves the embeddings and the output matrix out. Of a mixture of experts N counts every expert, and
a column `active N` what one token passes through (Step Law's `Na`); of a dense run both are the
same number.
"""

import csv
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from baiwen import files
from baiwen.errors import UserError

SEQUENCE = 2048  # tokens of a sequence, in Step Law's runs
ACTIVE = ("active N", "Na")  # a column of mixtures of experts: by its name here, or Step Law's
FINISHED = "finished"  # the state of a run that counts
COLUMNS = {"N": "parameters", "D": "tokens", "lr": "lr", "bs": "batch", "smooth loss": "loss"}


@dataclass(frozen=True)
class Runs:
    """A row for each run; float64 [runs] each."""

    parameters: np.ndarray  # N, without the embeddings; of a mixture of experts the active ones
    tokens: np.ndarray  # D, trained on
    lr: np.ndarray  # peak learning rate
    batch: np.ndarray  # tokens of a step
    loss: np.ndarray  # nats a token, smoothed at the end of the run
    total: np.ndarray | None = None  # N with every expert; none: all runs are dense

    @property
    def ratio(self) -> np.ndarray:
        """Parameters for each active one: 1 of a dense run."""
        return np.ones(len(self)) if self.total is None else self.total / self.parameters

    def __len__(self) -> int:
        return len(self.loss)

    def __getitem__(self, chosen: np.ndarray) -> "Runs":
        columns = {name: x[chosen] for name, x in vars(self).items() if x is not None}
        return Runs(**columns)


def read(path: Path | str) -> Runs:
    """The runs of a CSV file (plain, .gz, .zst); UserError where a column or a number is not.

    With a column `state` (of a sweep of one's own) only those that finished.
    """
    table = csv.DictReader(io.StringIO(files.read_text(path)))
    rows = dict(enumerate(table, 1))
    names = table.fieldnames or ()
    if not rows:
        raise UserError(f"{path}: holds no runs")
    if missing := [name for name in COLUMNS if name not in names]:
        raise UserError(f"{path}: has no column {missing[0]!r}; it has: {', '.join(names)}")
    rows = {n: row for n, row in rows.items() if row.get("state", FINISHED) == FINISHED}
    if not rows:
        raise UserError(f"{path}: not one of its runs has finished")
    columns = {new: _numbers(path, rows, old) for old, new in COLUMNS.items()}
    length = _numbers(path, rows, "sequence") if "sequence" in names else SEQUENCE
    columns["batch"] = columns["batch"] * length
    for name in [name for name in ACTIVE if name in names][:1]:
        columns |= {"parameters": _numbers(path, rows, name), "total": columns["parameters"]}
        for place in np.flatnonzero(columns["parameters"] > columns["total"])[:1]:
            raise UserError(f"{path}: run {[*rows][place]}: {name} is more than N")
    return Runs(**columns)


def cells(runs: Runs) -> Iterator[np.ndarray]:
    """The places of the runs of each (active N, N, D), by size and then tokens."""
    total = runs.parameters if runs.total is None else runs.total
    sizes = np.stack([runs.parameters, total, runs.tokens])
    found, cell = np.unique(sizes, axis=1, return_inverse=True)
    for number in range(found.shape[1]):
        yield np.flatnonzero(cell.reshape(-1) == number)


def near_best(runs: Runs, share: float = 0.0025) -> np.ndarray:
    """Places of the runs whose loss is at most `share` above the least of their cell.

    0.25 %: DeepSeek LLM (arXiv 2401.02954), section 3.1, and Step Law.
    """
    kept = [own[runs.loss[own] <= (1 + share) * runs.loss[own].min()] for own in cells(runs)]
    return np.concatenate(kept) if kept else np.empty(0, np.int64)


def doubts(runs: Runs) -> Iterator[str]:
    """Why the best runs of the cells may not be the best there are, a line each.

    A run alone in its cell is its best whatever its rate. Where the best has the least or most
    rate or batch that was tried, a better one lies outside, and a law fitted on it bends towards
    the sweep's own bounds.
    """
    every = list(cells(runs))
    if alone := sum(len(own) == 1 for own in every):
        yield (
            f"{alone} of {len(every)} cells have a single run, so nothing says that it is the "
            "best; runs of one cell have the very same N and D"
        )
    for own in every:
        cell = runs[own]
        best = cell.loss.argmin()
        for name, tried in (("learning rate", cell.lr), ("batch", cell.batch)):
            for end, value in (("least", tried.min()), ("most", tried.max())):
                if tried.min() < tried.max() and tried[best] == value:
                    yield (
                        f"N {cell.parameters[0]:.3g}, D {cell.tokens[0]:.3g}: the best {name}, "
                        f"{value:.3g}, is the {end} that was tried; widen the sweep there"
                    )


def _numbers(path: Path | str, rows: Mapping[int, dict[str, str]], column: str) -> np.ndarray:
    found = np.empty(len(rows))
    for place, (number, row) in enumerate(rows.items()):
        try:
            found[place] = float(row[column])
        except (TypeError, ValueError):
            found[place] = math.nan
        if not 0 < found[place] < math.inf:
            lost = "; leave out a run that did not finish" if column == "smooth loss" else ""
            told = f"{column} is {row[column] or ''!r}, not a number above 0{lost}"
            raise UserError(f"{path}: run {number}: {told}")
    return found
