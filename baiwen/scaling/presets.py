"""Published laws for learning rate, batch and loss, each with its scope and its units (spec 4.1).

    for found in hyper(Target(parameters=1.5e9, tokens=3e10)):
        print(found.law, found.lr, found.tokens_per_step, found.beyond)
    LOSSES["epoch"].best(flops=5.8e23)

N leaves the embeddings out, but for `LOSSES`; D and batches are in tokens; C is FLOPs of training.
What a law does not speak of is None. Outside its scope it is a guess, and `beyond` says which way.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from baiwen.model import count
from baiwen.model.config import ModelConfig
from baiwen.scaling.interval import Predicted, Ranges, beyond, told
from baiwen.scaling.loss import LossLaw
from baiwen.scaling.moe import Mixture


@dataclass(frozen=True)
class Kaplan:
    """L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D: its equation 1.5, table 2.

    In nats a token of WebText2. D is data, learned from until it is overfitted: at one epoch the
    law is an optimist. The optimum is its own fit of another kind (table 6), at batches far below
    the critical one. All of it from memory, as its rate and batch below.
    """

    ranges: Ranges

    def predict(self, parameters: float, tokens: float) -> Predicted:
        """The loss."""
        value = ((6.4e13 / parameters) ** (0.076 / 0.103) + 1.8e13 / tokens) ** 0.103
        far = beyond(self.ranges, {"parameters": parameters, "tokens": tokens})
        return Predicted(value, None, None, far)

    def optimum(self, flops: float) -> tuple[Predicted, Predicted]:
        """N and D of the least loss for a budget."""
        days = flops / 8.64e19  # PF-days
        best = {"parameters": 1.3e9 * days**0.73, "tokens": 2.0e10 * days**0.27}
        one, other = (
            Predicted(value, None, None, beyond({name: self.ranges[name]}, best))
            for name, value in best.items()
        )
        return one, other


# Of Chinchilla's runs, from 70M to over 16B parameters and from 5B to 500B tokens.
CHINCHILLA = {"parameters": (70e6, 16e9), "tokens": (5e9, 500e9)}
# E + A / N^alpha + B / D^beta, in nats of their authors' text and tokens. N is with embeddings
# (Pearce and Song, 2024, arXiv 2406.12907, whose comparison with Kaplan's is of that).
LOSSES = {
    "chinchilla": LossLaw(np.array([*np.log([1.69, 406.4, 410.7]), 0.34, 0.28]), CHINCHILLA),
    # Besiroglu et al., 2024 (arXiv 2404.10102): the same runs, fitted again
    "epoch": LossLaw(np.array([*np.log([1.8172, 482.01, 2085.43]), 0.3478, 0.3658]), CHINCHILLA),
}
KAPLAN = Kaplan({"parameters": (768, 1.5e9), "tokens": (22e6, 23e9)})


@dataclass(frozen=True)
class Target:
    """What is to be trained."""

    parameters: float  # N, without the embeddings; of a mixture of experts the active ones
    tokens: float  # D
    flops_per_token: float | None = None  # as DeepSeek counts them; none: 6 N
    ratio: float = 1.0  # parameters for each active one; of a mixture of experts more
    experts: float = 1.0  # feed-forward weights for each active one
    embedded: float | None = None  # N with the embeddings; none: N

    @classmethod
    def of(cls, shape: ModelConfig, tokens: float, length: int) -> "Target":
        """A model of this shape on rows of `length` tokens.

        FLOPs are DeepSeek's (72 layers d^2 + 12 layers d length, its section 3.1): without the
        head, and attention over whole rows where `count.flops_per_token` takes the causal half.
        """
        size = Mixture.of(shape)
        head = 6 * shape.vocab_size * shape.hidden_size
        rest = 6 * shape.num_hidden_layers * shape.hidden_size * length
        flops = count.flops_per_token(shape, length) - head + rest
        whole = count.parameters(shape).active
        return cls(size.active, tokens, flops, size.ratio, size.expansion, whole)

    @property
    def counted(self) -> float:
        """N as `LOSSES` count it, as far as that is known."""
        return self.embedded or self.parameters

    @property
    def flops(self) -> float:
        """C of the whole run."""
        return (self.flops_per_token or 6 * self.parameters) * self.tokens


@dataclass(frozen=True)
class Hyper:
    """What one law says of a target."""

    law: str
    source: str
    lr: float | None  # peak
    tokens_per_step: float | None
    scope: str  # what its runs were
    beyond: str | None  # which way the target lies outside; None: within


@dataclass(frozen=True)
class Preset:
    """A published law as two functions of a target, and the ranges of its runs."""

    source: str
    lr: Callable[[Target], float] | None
    batch: Callable[[Target], float] | None
    scope: str
    ranges: Ranges  # of attributes of `Target`


def _minicpm_batch(target: Target) -> float:
    return 1.21e9 / LOSSES["epoch"].at(target.counted, target.tokens) ** 6.24


def _kaplan_lr(target: Target) -> float:
    return 0.003239 - 0.0001395 * float(np.log(target.parameters))


def _kaplan_batch(target: Target) -> float:
    return 2.1e8 / KAPLAN.predict(target.parameters, target.tokens).value ** (1 / 0.21)


PRESETS = {
    "steplaw": Preset(
        "Step Law, arXiv 2503.04715",
        lambda target: 1.79 * target.parameters**-0.713 * target.tokens**0.307,
        lambda target: 0.58 * target.tokens**0.571,
        "AdamW, 2,000 steps of warm-up, cosine to 1e-5, rows of 2,048; N 0.2 to 1.1B, D 4 to 100B",
        {"parameters": (0.2e9, 1.1e9), "tokens": (4e9, 100e9)},
    ),
    "deepseek": Preset(
        "DeepSeek LLM, arXiv 2401.02954",
        lambda target: 0.3118 * target.flops**-0.1250,
        lambda target: 0.2920 * target.flops**0.3271,
        "AdamW, steps down at 80 and 90 %; C 1e17 to 2e19",
        {"flops": (1e17, 2e19)},
    ),
    "minicpm": Preset(
        "MiniCPM, arXiv 2404.06395",
        None,  # 0.01 at every size, but under muP
        _minicpm_batch,
        "WSD; batch by the loss on C4, here Epoch's law; N 9M to 0.17B; its rate of 0.01 needs muP",
        {"parameters": (9e6, 170e6)},
    ),
    "joint": Preset(
        "Ludziejewski et al., arXiv 2502.05172",
        lambda target: np.exp(8.39) * target.parameters**-0.81 * target.experts**-0.25,
        None,  # 64K to 256K tokens, for all
        "AdamW, 130M tokens of warm-up, constant, the last 20 % to 0; 1 to 32 experts",
        {"parameters": (27e6, 2.5e9), "experts": (1, 32)},
    ),
    "kaplan": Preset(
        "Kaplan et al., arXiv 2001.08361",
        _kaplan_lr,
        _kaplan_batch,
        "Adam, cosine to 0; critical batch by the loss on WebText2, here its law; N 768 to 1.5B",
        {"parameters": (768, 1.5e9), "tokens": (22e6, 23e9)},
    ),
}


def hyper(target: Target) -> Iterator[Hyper]:
    """What every preset says of `target`."""
    for name, preset in PRESETS.items():
        lr = preset.lr(target) if preset.lr else None
        lr = lr if lr is not None and lr > 0 else None  # Kaplan's is below 0 from 1.2e10 on
        batch = preset.batch(target) if preset.batch else None
        yield Hyper(name, preset.source, lr, batch, preset.scope, _beyond(preset, target))


def _beyond(preset: Preset, target: Target) -> str | None:
    given = {name: getattr(target, name) for name in preset.ranges}
    return told(beyond(preset.ranges, given)) or None
