"""The loss of N parameters on D tokens: L = E + A / N^alpha + B / D^beta (Chinchilla, approach 3).

    law = fit(parameters, tokens, loss, draws=1000)
    law.at(7e10, 1.4e12)                     # nats a token
    law.predict(7e10, 1.4e12)                # with its 95 % interval, and what lies beyond the runs
    law.best(flops=5.8e23)                   # N and D of the least loss for C = 6 N D
    law.optimum(flops=5.8e23)                # both with intervals
    law.parameters_for(loss=1.9, tokens=1e12)

C = 6 N D leaves out what attention costs beside its matrices, and the head: `count.flops_per_token`
counts both. Source: Hoffmann et al., 2022 (arXiv 2203.15556); the fit itself: powers.py.
"""

from dataclasses import dataclass

import numpy as np

from baiwen.errors import UserError
from baiwen.scaling import powers
from baiwen.scaling.interval import CONFIDENCE, Array, Predicted, Ranges, beyond, predicted

GRID = (  # log E, log A, log B, alpha, beta: Chinchilla's
    (-1.0, -0.5, 0.0, 0.5, 1.0),
    (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    (0.0, 0.5, 1.0, 1.5, 2.0),
    (0.0, 0.5, 1.0, 1.5, 2.0),
)


@dataclass(frozen=True)
class LossLaw:
    """The five numbers of the law; `weights` are log E, log A, log B, alpha, beta."""

    weights: Array  # float64 [5]
    ranges: Ranges  # of the runs it was fitted on
    draws: Array | None = None  # float64 [draws, 5]: of resampled runs; none: published
    residuals: Array | None = None  # float64 [runs]: log loss less the law's
    huber: float = 0.0  # sum over the runs

    @property
    def named(self) -> dict[str, float]:
        """E, A, B, alpha and beta."""
        return dict(
            zip(("E", "A", "B", "alpha", "beta"), _plain(self.weights).tolist(), strict=True)
        )

    def __str__(self) -> str:
        """As a formula."""
        e, a, b, alpha, beta = self.named.values()
        return f"{e:.4g} + {a:.4g} / N^{alpha:.3f} + {b:.4g} / D^{beta:.3f}"

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % interval of each number, over the resampled runs."""
        assert self.draws is not None, "fitted without draws"
        low, high = np.percentile(_plain(self.draws), CONFIDENCE, axis=0)
        return {name: (float(low[i]), float(high[i])) for i, name in enumerate(self.named)}

    def at(self, parameters: float, tokens: float) -> float:
        """The loss, in nats a token."""
        return float(np.exp(powers.log_loss(_design([parameters], [tokens]), self.weights)[0]))

    def predict(self, parameters: float, tokens: float) -> Predicted:
        """The loss of one run: the interval is that of the law and of a run's distance from it."""
        far = beyond(self.ranges, {"parameters": parameters, "tokens": tokens})
        value = self.at(parameters, tokens)
        if self.draws is None or self.residuals is None:
            return Predicted(value, None, None, far)
        design = _design([parameters], [tokens])
        return predicted(value, powers.losses(design, self.draws, self.residuals), far)

    def best(self, flops: float) -> tuple[float, float]:
        """N and D of the least loss for `flops` = 6 N D (Hoffmann et al., equation 4)."""
        parameters = float(_best(self.weights, flops))
        return parameters, flops / 6 / parameters

    def optimum(self, flops: float) -> tuple[Predicted, Predicted]:
        """N and D of `best`, each with its interval."""
        parameters, tokens = self.best(flops)
        best = {"parameters": parameters, "tokens": tokens}
        one, other = (beyond({name: self.ranges[name]}, best) for name in best)
        if self.draws is None:
            return Predicted(parameters, None, None, one), Predicted(tokens, None, None, other)
        sizes = _best(self.draws.T, flops)
        return predicted(parameters, sizes, one), predicted(tokens, flops / 6 / sizes, other)

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


def fit(
    parameters: np.ndarray, tokens: np.ndarray, loss: np.ndarray, draws: int = 0, seed: int = 0
) -> LossLaw:
    """The law of these runs [runs]; `draws` resampled fits, each from the whole one's numbers.

    UserError for fewer than 6 runs or 5 pairs of N and D, for runs of one size or of one number
    of tokens, and where the loss does not fall with both.
    """
    sizes, data = len(np.unique(parameters)), len(np.unique(tokens))
    design = _design(parameters, tokens)
    if len(loss) < 6 or min(sizes, data) < 2 or not powers.tells(design):
        raise UserError(
            f"{len(loss)} runs of {sizes} sizes and {data} numbers of "
            "tokens cannot tell the five numbers of a loss law: give 6 runs or more, of 2 sizes "
            "and 2 numbers of tokens, in 5 pairs of both"
        )
    found = powers.fit(design, np.log(loss), GRID, draws, seed)
    ranges = {
        "parameters": (float(np.min(parameters)), float(np.max(parameters))),
        "tokens": (float(np.min(tokens)), float(np.max(tokens))),
    }
    return LossLaw(
        found.weights, ranges, found.draws if draws else None, found.residuals, found.huber
    )


def _design(parameters: np.typing.ArrayLike, tokens: np.typing.ArrayLike) -> np.ndarray:
    """What the weights are multiplied by in the logarithms of the three terms: [3, runs, 5]."""
    n, d = np.log(parameters), np.log(tokens)
    design = np.zeros((3, len(n), 5))
    design[[0, 1, 2], :, [0, 1, 2]] = 1
    design[1, :, 3], design[2, :, 4] = -n, -d
    return design


def _best(weights: np.ndarray, flops: float) -> np.ndarray:
    """N of the least loss, of weights [5] or of many laws' [5, laws]."""
    _, a, b, *powers_of = weights
    alpha, beta = np.maximum(powers_of, powers.LEAST)
    log_ratio = (np.log(alpha) + a - np.log(beta) - b) / (alpha + beta)
    return np.exp(log_ratio + beta / (alpha + beta) * np.log(flops / 6))


def _plain(weights: np.ndarray) -> np.ndarray:
    """E, A, B in place of their logarithms: [..., 5] -> [..., 5]."""
    return np.concatenate([np.exp(weights[..., :3]), weights[..., 3:]], axis=-1)
