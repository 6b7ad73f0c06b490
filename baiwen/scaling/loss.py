"""The loss of N parameters on D tokens: L = E + A / N^alpha + B / D^beta (Chinchilla, approach 3).

    law = fit(parameters, tokens, loss)
    law.at(7e10, 1.4e12)                     # nats a token
    law.best(flops=5.8e23)                   # N and D of the least loss for C = 6 N D
    law.parameters_for(loss=1.9, tokens=1e12)

Procedure: Hoffmann et al., 2022 (arXiv 2203.15556), section 3.3 and appendix D.2: the Huber loss of
the difference in log loss, L-BFGS from a grid of starts, the least of all. The three terms are
summed in logarithms, so no start overflows.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from baiwen.errors import UserError

DELTA = 1e-3  # of the Huber loss: Chinchilla and Step Law
GRID = (  # log E, log A, log B, alpha, beta: Chinchilla's
    (-1.0, -0.5, 0.0, 0.5, 1.0),
    (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    (0.0, 0.5, 1.0, 1.5, 2.0),
    (0.0, 0.5, 1.0, 1.5, 2.0),
)
STARTS = 64  # of the grid, those of the least Huber loss, from which L-BFGS goes on


@dataclass(frozen=True)
class LossLaw:
    """The five numbers of the law; `weights` are log E, log A, log B, alpha, beta."""

    weights: np.ndarray  # float64 [5]
    huber: float = 0.0  # sum over the runs it was fitted on
    draws: np.ndarray | None = None  # float64 [draws, 5]: of resampled runs

    @property
    def named(self) -> dict[str, float]:
        """E, A, B, alpha and beta."""
        return dict(zip(("E", "A", "B", "alpha", "beta"), self._plain(self.weights), strict=True))

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % interval of each number, over the resampled runs."""
        assert self.draws is not None, "fitted without draws"
        low, high = np.percentile([self._plain(draw) for draw in self.draws], (2.5, 97.5), axis=0)
        return {name: (float(low[i]), float(high[i])) for i, name in enumerate(self.named)}

    def at(self, parameters: float, tokens: float) -> float:
        """The loss, in nats a token."""
        return float(np.exp(_log_loss(self.weights, np.log([parameters]), np.log([tokens])))[0])

    def best(self, flops: float) -> tuple[float, float]:
        """N and D of the least loss for `flops` = 6 N D (Hoffmann et al., equation 4)."""
        _, a, b, alpha, beta = self.weights
        log_ratio = (np.log(alpha) + a - np.log(beta) - b) / (alpha + beta)
        log_n = log_ratio + beta / (alpha + beta) * np.log(flops / 6)
        return float(np.exp(log_n)), float(flops / 6 / np.exp(log_n))

    def parameters_for(self, loss: float, tokens: float) -> float:
        """N that reach `loss` on `tokens`; UserError where no size does."""
        e, a, b, alpha, beta = self.weights
        rest = loss - np.exp(e) - np.exp(b - beta * np.log(tokens))
        if rest <= 0:
            raise UserError(
                f"no size reaches a loss of {loss:.4g} on {tokens:.3g} tokens: without any limit "
                f"of size it is {loss - rest:.4g}"
            )
        return float(np.exp((a - np.log(rest)) / alpha))

    @staticmethod
    def _plain(weights: np.ndarray) -> list[float]:
        return [*np.exp(weights[:3]).tolist(), *weights[3:].tolist()]


def fit(
    parameters: np.ndarray, tokens: np.ndarray, loss: np.ndarray, draws: int = 0, seed: int = 0
) -> LossLaw:
    """The law of these runs [runs]; `draws` resampled fits, each from the whole one's numbers.

    UserError for fewer than 6 runs, or runs of one size or of one number of tokens.
    """
    n, d, logs = np.log(parameters), np.log(tokens), np.log(loss)
    if len(logs) < 6 or min(len(np.unique(n)), len(np.unique(d))) < 2:
        raise UserError(
            f"{len(logs)} runs of {len(np.unique(n))} sizes and {len(np.unique(d))} numbers of "
            "tokens cannot tell the five numbers of a loss law: give 6 runs or more, of 2 sizes "
            "and 2 numbers of tokens"
        )
    every = np.array(list(itertools.product(*GRID)))
    starts = every[np.argsort([_huber(start, n, d, logs)[0] for start in every], kind="stable")]
    found = min((_descend(start, n, d, logs) for start in starts[:STARTS]), key=lambda x: x[0])
    random, resampled = np.random.default_rng(seed), []
    for _ in range(draws):
        own = random.integers(len(logs), size=len(logs))
        resampled.append(_descend(found[1], n[own], d[own], logs[own])[1])
    return LossLaw(found[1], found[0], np.array(resampled) if draws else None)


def _descend(
    start: np.ndarray, n: np.ndarray, d: np.ndarray, logs: np.ndarray
) -> tuple[float, np.ndarray]:
    options = {"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-9}
    end = minimize(_huber, start, (n, d, logs), "L-BFGS-B", jac=True, options=options)
    return float(end.fun), end.x


def _terms(weights: np.ndarray, n: np.ndarray, d: np.ndarray) -> np.ndarray:
    """The logarithms of the three terms of the loss, [3, runs]."""
    e, a, b, alpha, beta = weights
    return np.stack([np.full_like(n, e), a - alpha * n, b - beta * d])


def _log_loss(weights: np.ndarray, n: np.ndarray, d: np.ndarray) -> np.ndarray:
    return np.logaddexp.reduce(_terms(weights, n, d), axis=0)


def _huber(
    weights: np.ndarray, n: np.ndarray, d: np.ndarray, logs: np.ndarray
) -> tuple[float, np.ndarray]:
    """The sum of Huber losses of log loss, and its gradient [5]."""
    terms = _terms(weights, n, d)
    predicted = np.logaddexp.reduce(terms, axis=0)
    apart = predicted - logs
    size = np.abs(apart)
    total = np.where(size <= DELTA, size**2 / 2, DELTA * (size - DELTA / 2)).sum()
    pull = np.clip(apart, -DELTA, DELTA) * np.exp(terms - predicted)  # [3, runs]
    slopes = -(pull[1] @ n), -(pull[2] @ d)
    return float(total), np.array([*pull.sum(axis=1), *slopes])
