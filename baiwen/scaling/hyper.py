"""Which learning rate and batch are best for N parameters and D tokens, from runs that cost little.

    laws = fit(read("runs.csv"))
    laws.lr.exponents                     # (-0.71, 0.31): of N and of D
    laws.lr.predict(parameters=1.1e9, tokens=1e11)    # Predicted(value, low, high, beyond)

Procedure of Step Law (arXiv 2503.04715; spec 4.2): of every cell (N, D) the runs within 0.25 % of
its least loss; least squares in logarithms, log lr on log N and log D, log batch on log D; all
of it repeated on resampled runs for intervals. Of a mixture of experts N are the active parameters,
and lr is also on log x, the total for each active one: more experts want a lower rate (Ludziejewski
et al., 2025, arXiv 2502.05172, finding 4).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from baiwen.errors import UserError
from baiwen.scaling.grid import Runs, near_best
from baiwen.scaling.interval import Array, Predicted, Ranges, beyond, predicted

Variable = Literal["parameters", "tokens", "ratio"]
VARIABLES: tuple[Variable, ...] = get_args(Variable)


@dataclass(frozen=True)
class Power:
    """y = exp(weights[0]) N^weights[1] D^weights[2] x^weights[3], over those of `variables`."""

    variables: tuple[Variable, ...]
    weights: Array  # float64 [1 + variables]
    draws: Array  # float64 [draws, 1 + variables]: the same of resampled runs
    ranges: Ranges  # of the runs it was fitted on

    def __str__(self) -> str:
        """As a formula."""
        names = {"parameters": "N", "tokens": "D", "ratio": "x"}
        powers = zip(self.variables, self.exponents, strict=True)
        return " ".join(
            [f"{self.factor:.4g}", *(f"{names[name]}^{power:.3f}" for name, power in powers)]
        )

    @property
    def factor(self) -> float:
        """What the powers are multiplied by."""
        return float(np.exp(self.weights[0]))

    @property
    def exponents(self) -> tuple[float, ...]:
        """One for each variable."""
        return tuple(self.weights[1:].tolist())

    @property
    def errors(self) -> tuple[float, ...]:
        """Standard errors of the exponents."""
        return tuple(self.draws[:, 1:].std(axis=0).tolist())

    def predict(self, parameters: float, tokens: float, ratio: float = 1.0) -> Predicted:
        """The law's value at N `parameters`, D `tokens` and, of a mixture, their `ratio`."""
        given = {"parameters": parameters, "tokens": tokens, "ratio": ratio}
        row = np.array([1.0, *(math.log(given[name]) for name in self.variables)])
        value = float(np.exp(self.weights @ row))
        return predicted(value, np.exp(self.draws @ row), beyond(self.ranges, given))


@dataclass(frozen=True)
class HyperLaws:
    """Both laws of a table of runs."""

    lr: Power  # of the peak learning rate
    batch: Power  # of the tokens of a step
    runs: int  # that were near the best of their cell
    share: float  # how near


def fit(runs: Runs, share: float = 0.0025, draws: int = 1000, seed: int = 0) -> HyperLaws:
    """The laws of `runs`, of which those within `share` of their cell's least loss count.

    draws: resampled fits. A variable of which all runs have the same value is left out of a law.
    UserError where the runs cannot tell a law.
    """
    if not 0 <= share < math.inf:
        raise UserError(f"share = {share}: a fraction of a loss, 0 or more; 0.0025 is 0.25 %")
    best = runs[near_best(runs, share)]
    lr = _power(best, best.lr, VARIABLES, draws, seed)
    return HyperLaws(lr, _power(best, best.batch, ("tokens",), draws, seed), len(best), share)


def _power(
    runs: Runs, found: np.ndarray, variables: Sequence[Variable], draws: int, seed: int
) -> Power:
    ranges: dict[str, tuple[float, float]] = {
        name: (float(getattr(runs, name).min()), float(getattr(runs, name).max()))
        for name in VARIABLES
    }
    given = {name: getattr(runs, name) for name in variables}
    used, rows = design(given, f"{len(runs)} runs near the best of their cells")
    logs = np.log(found)
    return Power(used, _least_squares(rows, logs), _resampled(rows, logs, draws, seed), ranges)


def design(
    given: Mapping[Variable, np.ndarray], whose: str
) -> tuple[tuple[Variable, ...], np.ndarray]:
    """Those of the variables that vary, and the rows of a law on their logarithms.

    given: float64 [runs] each. UserError where the runs, in the words of `whose`, cannot tell one
    variable from another.
    """
    used = tuple(name for name, values in given.items() if values.min() < values.max())
    ones = np.ones_like(next(iter(given.values())))
    rows = np.column_stack([ones, *(np.log(given[name]) for name in used)])
    if np.linalg.matrix_rank(rows) < rows.shape[1]:
        raise UserError(
            f"{whose} cannot tell {' from '.join(used)}: they rise together. Add a cell that "
            "differs from another in one of them alone."
        )
    return used, rows


def _least_squares(rows: np.ndarray, found: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(rows, found, rcond=None)[0]


def _resampled(rows: np.ndarray, found: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Least squares on `draws` resamplings of the rows; one of too few cells is drawn again."""
    random, fits = np.random.default_rng(seed), list[np.ndarray]()
    while len(fits) < draws:
        chosen = random.integers(len(rows), size=len(rows))
        if np.linalg.matrix_rank(rows[chosen]) == rows.shape[1]:
            fits.append(_least_squares(rows[chosen], found[chosen]))
    return np.array(fits).reshape(draws, rows.shape[1])
