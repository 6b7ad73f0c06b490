"""The loss of a mixture of experts, and the dense model that equals it.

    law = fit(active, total, tokens, loss, draws=1000)
    law.at(Mixture(2.07e9, 13.7e9), 4e12)        # nats a token
    law.parity(Mixture(2.07e9, 13.7e9), 4e12)    # N of the dense model of that loss, with interval
    parity(PUBLISHED["joint"].at, Mixture(2.07e9, 13.7e9, 8), 4e12)

Fitted is L = E + A / (N x^kappa)^alpha + B / D^beta, where N are the active parameters and x the
total for each active one: N x^kappa is the size of the equal dense model, and of a dense model x is
1, so dense runs count as they are. It is the joint law of Ludziejewski et al., 2025 (arXiv
2502.05172, equation 6) with the three exponents at 0 (gamma, omega, zeta) that a sweep of some tens
of runs cannot tell; kappa at all sizes alike is the effective parameter count of Clark et al., 2022
(arXiv 2202.01169) without its limits. Both in full, with their constants, are `PUBLISHED`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from math import exp, log, log10
from typing import Any

import numpy as np

from baiwen.errors import UserError
from baiwen.model import count
from baiwen.model.config import ModelConfig
from baiwen.scaling import powers
from baiwen.scaling.interval import CONFIDENCE, Array, Predicted, Ranges, beyond, predicted
from baiwen.scaling.loss import GRID

FEED_FORWARD = 9 / 13  # of a block's weights, in the models of the joint law (its appendix A.1)
KAPPAS = (-1.0, 0.0, 1.0)  # starts of alpha kappa
FAR = 1e4  # times the active parameters that an equal dense model is sought within


@dataclass(frozen=True)
class Mixture:
    """A size: parameters without embeddings."""

    active: float  # that one token passes through
    total: float
    experts: float | None = None  # feed-forward weights for each active one; none: see `expansion`

    @classmethod
    def of(cls, shape: ModelConfig) -> "Mixture":
        """A model of this shape, dense or not; shared experts count as experts."""
        weights = count.parameters(shape)
        active = weights.active - (weights.total - weights.non_embedding)
        if active == weights.non_embedding:
            return dense(active)
        every = shape.num_experts * shape.moe_intermediate_size
        used = shape.num_experts_per_tok * shape.moe_intermediate_size
        shared = shape.shared_expert_intermediate_size
        return cls(active, weights.non_embedding, (every + shared) / (used + shared))

    @property
    def ratio(self) -> float:
        """Parameters for each active one."""
        return self.total / self.active

    @property
    def expansion(self) -> float:
        """Feed-forward weights for each active one, by the shape of the joint law's models."""
        return self.experts or 1 + (self.ratio - 1) / FEED_FORWARD


def dense(parameters: float) -> Mixture:
    """A model without experts, as a mixture of one."""
    return Mixture(parameters, parameters, 1)


@dataclass(frozen=True)
class MoeLaw:
    """The law of own runs; `weights` are log E, log A, log B, alpha, beta, alpha kappa."""

    weights: Array  # float64 [6]
    ranges: Ranges  # of the runs it was fitted on: active, ratio, tokens
    draws: Array  # float64 [draws, 6]: of resampled runs
    residuals: Array  # float64 [runs]: log loss less the law's
    huber: float  # sum over the runs

    @property
    def kappa(self) -> float:
        """Exponent of the ratio in the size of the equal dense model: 0 active counts, 1 total."""
        return float(_kappa(self.weights))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of kappa."""
        low, high = np.percentile(_kappa(self.draws.T), CONFIDENCE)
        return float(low), float(high)

    def __str__(self) -> str:
        """As a formula."""
        e, a, b = np.exp(self.weights[:3])
        alpha, beta = self.weights[3:5]
        size = f"(active N x ratio^{self.kappa:.3f})"
        return f"{e:.4g} + {a:.4g} / {size}^{alpha:.3f} + {b:.4g} / D^{beta:.3f}"

    def at(self, size: Mixture, tokens: float) -> float:
        """The loss, in nats a token."""
        design = _design(*np.array([[size.active], [size.ratio], [tokens]]))
        return float(np.exp(powers.log_loss(design, self.weights)[0]))

    def predict(self, size: Mixture, tokens: float) -> Predicted:
        """The loss of one run: the interval is that of the law and of a run's distance from it."""
        design = _design(*np.array([[size.active], [size.ratio], [tokens]]))
        spread = powers.losses(design, self.draws, self.residuals)
        return predicted(self.at(size, tokens), spread, self._beyond(size, tokens))

    def parity(self, size: Mixture, tokens: float) -> Predicted:
        """Parameters of the dense model that has the same loss on the same tokens."""
        spread = size.active * size.ratio ** _kappa(self.draws.T)
        value = size.active * size.ratio**self.kappa
        return predicted(value, spread, self._beyond(size, tokens))

    def _beyond(self, size: Mixture, tokens: float) -> dict[str, float]:
        return beyond(self.ranges, {"active": size.active, "ratio": size.ratio, "tokens": tokens})


def fit(
    active: np.ndarray,
    total: np.ndarray,
    tokens: np.ndarray,
    loss: np.ndarray,
    draws: int,
    seed: int = 0,
) -> MoeLaw:
    """The law of these runs [runs], dense ones among them; `draws` resampled fits.

    UserError for fewer than 7 runs, runs of one size, one ratio or one number of tokens, sizes
    and ratios that rise together, and where the loss does not fall with size and tokens.
    """
    ratio = total / active
    design = _design(active, ratio, tokens)
    kinds = [len(np.unique(values)) for values in (active, ratio, tokens)]
    if len(loss) < 7 or min(kinds) < 2 or not powers.tells(design):
        raise UserError(
            f"{len(loss)} runs of {kinds[0]} active sizes, {kinds[1]} ratios of total to active "
            f"parameters and {kinds[2]} numbers of tokens cannot tell the six numbers of a law of "
            "mixtures of experts: give 7 runs or more, with 2 of each that do not rise together"
        )
    found = powers.fit(design, np.log(loss), (*GRID, KAPPAS), draws, seed)
    columns = {"active": active, "ratio": ratio, "tokens": tokens}
    ranges = {name: (float(x.min()), float(x.max())) for name, x in columns.items()}
    return MoeLaw(found.weights, ranges, found.draws, found.residuals, found.huber)


def parities(law: MoeLaw, rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The mixtures among the sizes of a sweep's rows, and the dense N that each equals, by name."""
    sizes = {row["size"]: row for row in rows if row["N"] > row["active N"]}
    found = {}
    for name, row in sizes.items():
        equal = law.parity(Mixture(row["active N"], row["N"]), row["D"])
        kept = {column: row[column] for column in ("active N", "N", "sparsity")}
        found[name] = kept | {"dense N": equal.value, "low": equal.low, "high": equal.high}
    return found


# Published laws.


@dataclass(frozen=True)
class Published:
    """A law of others: the loss of (size, tokens), and the ranges of its runs."""

    source: str
    at: Callable[[Mixture, float], float]  # nats a token of their text
    ranges: Ranges  # of active, experts, tokens

    def predict(self, size: Mixture, tokens: float) -> Predicted:
        """The loss."""
        return Predicted(self.at(size, tokens), None, None, self._beyond(size, tokens))

    def parity(self, size: Mixture, tokens: float) -> Predicted:
        """Parameters of the dense model that has the same loss on the same tokens."""
        equal = parity(self.at, size, tokens)
        return Predicted(equal, None, None, self._beyond(size, tokens))

    def _beyond(self, size: Mixture, tokens: float) -> dict[str, float]:
        given = {"active": size.active, "experts": size.expansion, "tokens": tokens}
        return beyond(self.ranges, given)


def _transformed(experts: float, start: float, most: float) -> float:
    """Clark et al.'s number of experts: few help less than their number says, and many too."""
    return 1 / (1 / (experts - 1 + 1 / (1 / start - 1 / most)) + 1 / most)


def _joint(size: Mixture, tokens: float) -> float:
    x = log(_transformed(size.expansion, 2.0732, 290.4521))
    of_size = 35.91 * exp(-0.2285 * x) * size.active ** (-0.1889 + 0.0098 * x)
    of_data = 35.98 * exp(0.5529 * x) * tokens ** (-0.1775 - 0.0259 * x)
    return of_size + of_data + 1.3637


def _routed(size: Mixture, tokens: float) -> float:
    del tokens  # all its runs had 130B
    n, x = log10(size.active), log10(_transformed(size.expansion, 1.847, 314.478))
    return 10 ** (-0.082 * n - 0.108 * x + 0.009 * n * x + 1.104)


# The constants of both are those of their table 3. The joint law counts embeddings in its sizes,
# of a vocabulary of 50,257; here N is without, as everywhere, and so are the ranges.
PUBLISHED = {
    "joint": Published(
        "Ludziejewski et al., arXiv 2502.05172",
        _joint,
        {"active": (27e6, 2.5e9), "experts": (1, 32), "tokens": (0.5e9, 80e9)},
    ),
    "routed": Published(
        "Clark et al., arXiv 2202.01169, S-BASE",
        _routed,
        {"active": (15e6, 1.3e9), "experts": (1, 512), "tokens": (130e9, 130e9)},
    ),
}


def parity(at: Callable[[Mixture, float], float], size: Mixture, tokens: float) -> float:
    """Parameters of the dense model that `at` gives the loss of `size` on the same tokens."""
    wanted = at(size, tokens)
    return _solved(lambda n: at(dense(n), tokens) - wanted, size.active)


def mixture_for(
    at: Callable[[Mixture, float], float], parameters: float, ratio: float, tokens: float
) -> Mixture:
    """The mixture with so many parameters for each active one that equals a dense model."""
    wanted = at(dense(parameters), tokens)
    active = _solved(lambda n: at(Mixture(n, n * ratio), tokens) - wanted, parameters)
    return Mixture(active, active * ratio)


def _solved(apart: Callable[[float], float], near: float) -> float:
    """Where `apart`, which falls with size, is 0."""
    ends = log(near / FAR), log(near * FAR)
    if apart(exp(ends[0])) < 0 or apart(exp(ends[1])) > 0:
        raise UserError(f"no size within {FAR:g} times {near:.3g} parameters has that loss")
    brentq = import_module("scipy.optimize").brentq  # where it is needed, as in `powers.py`
    return exp(brentq(lambda n: apart(exp(n)), *ends))


def _kappa(weights: np.ndarray) -> np.ndarray:
    return weights[5] / np.maximum(weights[3], powers.LEAST)


def _design(active: np.ndarray, ratio: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """What the weights are multiplied by in the logarithms of the three terms: [3, runs, 6]."""
    design = np.zeros((3, len(active), 6))
    design[[0, 1, 2], :, [0, 1, 2]] = 1
    design[1, :, 3], design[2, :, 4] = -np.log(active), -np.log(tokens)
    design[1, :, 5] = -np.log(ratio)
    return design
