"""How often the documents of each domain and language are taken: from wishes to rates.

    rates({("web", "en"): 900, ("web", "zh"): 100}, Balance(weights={"web/zh": 0.4}, epochs=2))
    {("web", "en"): 0.89, ("web", "zh"): 2.0}      # 40 % would be 4 times what there is

A group is a domain and a language, of an amount in tokens or bytes. Each asks for
amount^(1/T) x times; groups named in `weights` divide their share as they ask, the others what is
left. Given is lambda x share, but never more than `epochs` x amount: lambda is such that all of it
makes the budget, so what a group cannot give goes to the others by their shares (water-filling).

Report, 3.1: e-commerce, social media and entertainment are over-represented and were down-sampled,
technology, science and academic research up-sampled; taxonomy and ratios are unknown. Four epochs
are nearly as good as fresh text (Muennighoff et al., 2023). T: 1/0.7 in multilingual BERT (Devlin
et al., 2018), 1/0.3 in XLM-R (Conneau et al., 2020).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from baiwen import mistakes
from baiwen.config import Input, Knobs, Share
from baiwen.errors import UserError

# The report's directions; its ratios are unknown: half and twice are a choice of ours.
REPORT = {
    "e-commerce": 0.5,
    "social media": 0.5,
    "entertainment": 0.5,
    "technology": 2.0,
    "science": 2.0,
    "academic": 2.0,
}
ROUNDING = 1e-9  # by which weights that add up to 1 may miss it

Factor = Annotated[float, Field(ge=0)]
Group = tuple[str, str]  # a domain and a language


class Balance(Knobs):
    """What the corpus should consist of."""

    # How much of a domain, of "domain/language" or of "*/language". None: without weights, the
    # report's directions: e-commerce, social media, entertainment 0.5 and technology, science,
    # academic 2 (ratios not reported).
    times: dict[str, Factor] | None = None
    # Shares of what comes out, of a domain or of "domain/language" (a part of the domain's own);
    # the others divide the rest. Not reported.
    weights: dict[str, Share] | None = None
    temperature: Annotated[float, Field(gt=0)] = 1.0  # T of amount^(1/T); 1: as it is; not reported
    epochs: Annotated[float, Field(gt=0)] = 4.0  # most times of a document; not reported
    # Tokens (bytes without a tokenizer) that come out. None: as many as went in, or, where only
    # `times` are given, what these make of them.
    budget: Annotated[int, Field(gt=0)] | None = None
    tokenizer: Input | None = None  # whose tokens are the measure; none: bytes of UTF-8
    # Share of the documents whose tokens are counted, the rest estimated; 1: all.
    sample: Annotated[float, Field(gt=0, le=1)] = 0.02
    seed: int = 0  # of the draws


def rates(amounts: Mapping[Group, int], knobs: Balance) -> dict[Group, float]:
    """How often a document of each group is taken, on average."""
    groups = [group for group, amount in amounts.items() if amount > 0]
    amount = np.array([amounts[group] for group in groups], np.float64)
    times, weights = _wishes(knobs, amounts)
    largest = amount.max(initial=1)  # shares of it: no power of these is too large for a float
    roots = largest * (amount / largest) ** (1 / knobs.temperature)
    asked = roots * [_factor(group, times) for group in groups]
    shares = _shares(groups, asked, weights)
    most = np.where(shares > 0, knobs.epochs * amount, 0.0)
    only_times = not weights and knobs.temperature == 1
    budget = knobs.budget or float((np.minimum(asked, most) if only_times else amount).sum())
    given = most if budget >= most.sum() else fill(shares, most, budget)
    return dict.fromkeys(amounts, 0.0) | dict(zip(groups, (given / amount).tolist(), strict=True))


def fill(shares: np.ndarray, most: np.ndarray, budget: float) -> np.ndarray:
    """min(most, lambda x shares), with the lambda that makes their sum `budget`: float64 [groups].

    `budget` is less than all of `most`, which is 0 where the share is. As lambda rises the groups
    come to their most one after another; it is found for the number of those that do.
    """
    some = np.flatnonzero(shares > 0)
    order = some[np.argsort(most[some] / shares[some], kind="stable")]
    full = most[order].cumsum() - most[order]  # given by those that come to their most before
    others = shares[order][::-1].cumsum()[::-1]  # shares of a group and all that come after it
    levels = (budget - full) / others  # lambda, if this group is the first not to be full
    fits = levels * shares[order] <= most[order]
    fits[-1] = True  # as it is but for rounding
    first = int(np.argmax(fits))
    return np.minimum(most, levels[first] * shares)


def _shares(groups: Sequence[Group], asked: np.ndarray, weights: Mapping[str, float]) -> np.ndarray:
    """The share that each group is to have, as far as `epochs` lets it: float64 [groups]."""
    shares, free, left = np.zeros(len(groups)), np.ones(len(groups), bool), 1.0
    for name in sorted(weights, key=lambda name: "/" not in name):  # languages before domains
        own = free & [name in (key(domain), f"{key(domain)}/{code}") for domain, code in groups]
        weight = weights[name] - _within(name, weights)
        shares[own] = weight * _parts(asked[own])
        left, free = left - weight, free & ~own
    if left < ROUNDING and free.any():
        others = ", ".join("/".join(groups[i]) for i in np.flatnonzero(free)[:5])
        raise UserError(
            f"balance.weights: nothing is left for {others}. Give every domain a weight (0 leaves "
            "it out), or let the weights add up to less than 1."
        )
    shares[free] = left * _parts(asked[free])
    return shares


def _parts(asked: np.ndarray) -> np.ndarray:
    total = asked.sum()
    return asked / total if total > 0 else asked


def _within(name: str, weights: Mapping[str, float]) -> float:
    """The weights of a domain's languages, which are parts of the domain's own."""
    return sum(weight for other, weight in weights.items() if other.startswith(f"{name}/"))


def _factor(group: Group, times: Mapping[str, float]) -> float:
    """The factor of the domain and language together, or the product of theirs."""
    domain, language = key(group[0]), group[1]
    own = times.get(f"{domain}/{language}")
    return times.get(domain, 1.0) * times.get(f"*/{language}", 1.0) if own is None else own


def _wishes(
    knobs: Balance, groups: Mapping[Group, int]
) -> tuple[dict[str, float], dict[str, float]]:
    """`times` and `weights` by key; a `UserError` for one of what is not there, or too much."""
    domains = [(key(domain), language) for domain, language in groups]
    there = {name for domain, code in domains for name in (domain, f"{domain}/{code}")}
    times = _known(knobs.times or {}, "times", there | {f"*/{code}" for _, code in domains})
    weights = _known(knobs.weights or {}, "weights", there)
    if knobs.times is None and knobs.weights is None:
        times = {key(name): factor for name, factor in REPORT.items()}
    for name, weight in weights.items():
        if _within(name, weights) > weight + ROUNDING:
            raise UserError(
                f"balance.weights: the languages of {name} have {_within(name, weights):g} of all, "
                f"which is more than its own {weight:g}."
            )
    total = sum(weight - _within(name, weights) for name, weight in weights.items())
    if total > 1 + ROUNDING:
        raise UserError(f"balance.weights: they add up to {total:g}, more than 1.")
    return times, weights


def _known(wishes: Mapping[str, float], table: str, there: set[str]) -> dict[str, float]:
    found = {key(name): value for name, value in wishes.items()}
    if strange := sorted(found.keys() - there):
        names = sorted(there)
        raise UserError(
            f"balance.{table}: no document is of {strange[0]!r}."
            f"{mistakes.nearest(strange[0], names)} There are {', '.join(names[:12])}"
            f"{', ...' if len(names) > 12 else ''}."
        )
    return found


def key(name: str) -> str:
    """One spelling of a name: `Social media`, `social-media` and `social_media` are the same."""
    domain, slash, language = name.partition("/")
    return (domain if domain == "*" else re.sub(r"\W+", "_", domain.lower())) + slash + language
