"""What a measured number is worth: its standard error and its 95 % interval.

    proportion(37, 50)           -> value 0.74, standard error 0.063, interval [0.60, 0.84]
    paired(after, before)        -> the difference of two runs over the same items, and McNemar's p
    ratio(bits, bytes)           -> bits per byte over documents of different length
    clustered(marks, texts)      -> the mean of marks of which several are of one text

Two models answer the same items, so their difference is taken item by item: the interval is then
narrower, and right, where two separate intervals would only overlap (findings A4 #11).
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)  # two-sided 95 %


@dataclass(frozen=True)
class Estimate:
    """A number measured on `n` items, its standard error and the ends of its 95 % interval."""

    value: float
    n: int
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference; `p` is the chance of one as large if there were none."""

    p: float


def proportion(right: float, n: int) -> Estimate:
    """`right` of `n`, n > 0, with Wilson's interval (1927), which holds at 0 and 1 as well."""
    share = right / n
    low, high = wilson(right, n)
    return Estimate(share, n, math.sqrt(share * (1 - share) / n), low, high)


def clustered(marks: Sequence[float], clusters: Sequence[Hashable]) -> Estimate:
    """The mean of marks from 0 to 1, of which those of one cluster may be right or wrong together.

    Standard error: that of sums over clusters (Liang and Zeger, 1986). Interval: Wilson's, for as
    many independent marks as have that error (Korn and Graubard, 1998), at most as there are; one
    cluster counts as one mark. Marks that are all alike have no error to go by, and count as n.
    """
    n, mean = len(marks), math.fsum(marks) / len(marks)
    sums: dict[Hashable, float] = defaultdict(float)
    for mark, cluster in zip(marks, clusters, strict=True):
        sums[cluster] += mark - mean
    if len(sums) == n:
        return proportion(math.fsum(marks), n)
    alone, effective = mean * (1 - mean), float(n)
    if len(sums) == 1:
        effective = 1.0
    elif spread := math.fsum(total**2 for total in sums.values()):
        error_squared = len(sums) / (len(sums) - 1) * spread / n**2
        effective = min(effective, alone / error_squared)
    low, high = wilson(mean * effective, effective)
    return Estimate(mean, n, math.sqrt(alone / effective), low, high)


def wilson(right: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion: the shares that `right` of `n` does not refute."""
    share, shrink = right / n, 1 + Z**2 / n
    centre = (share + Z**2 / (2 * n)) / shrink
    half = Z / shrink * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def paired(after: Sequence[bool], before: Sequence[bool]) -> Difference:
    """The share of `after` minus that of `before`, item by item, at least one item.

    Interval: Newcombe (1998), Statistics in Medicine 17:2635, method 10, which combines the two
    Wilson intervals by the items' correlation and keeps its width where no item differs.
    """
    pairs = list(zip(after, before, strict=True))
    n = len(pairs)
    both, gained, lost = (
        pairs.count(pair) for pair in ((True, True), (True, False), (False, True))
    )
    difference = (gained - lost) / n
    low, high = _newcombe(both, gained, lost, n - both - gained - lost)
    spread = (gained + lost) / n - difference**2  # the mean of squares less the square of the mean
    error = math.sqrt(spread / (n - 1)) if n > 1 else 0.0
    return Difference(difference, n, error, low, high, mcnemar(gained, lost))


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p of McNemar's test: would a fair coin split the changed items so?"""
    changed = gained + lost
    tail = sum(math.comb(changed, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**changed)


def ratio(above: Sequence[float], below: Sequence[float]) -> Estimate:
    """sum(above) / sum(below) over independent items, as bits per byte over documents.

    Standard error: the linearised ratio estimator (Cochran, Sampling Techniques, 6.13). One item
    tells nothing about the spread: its error and interval are NaN.
    """
    n, total = len(above), math.fsum(below)
    value = math.fsum(above) / total
    squares = math.fsum((a - value * b) ** 2 for a, b in zip(above, below, strict=True))
    error = math.sqrt(n / (n - 1) * squares) / total if n > 1 else math.nan
    return Estimate(value, n, error, value - Z * error, value + Z * error)


def _newcombe(both: int, gained: int, lost: int, neither: int) -> tuple[float, float]:
    n = both + gained + lost + neither
    first, second = (both + gained) / n, (both + lost) / n
    (low1, high1), (low2, high2) = wilson(both + gained, n), wilson(both + lost, n)
    phi = _correlation(both, gained, lost, neither)

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))

    difference = first - second
    return (
        difference - reach(first - low1, high2 - second),
        difference + reach(high1 - first, second - low2),
    )


def _correlation(both: int, gained: int, lost: int, neither: int) -> float:
    """Phi of the fourfold table, corrected for continuity as Newcombe's method 10 has it."""
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    if not margins:
        return 0.0
    product = float(both * neither - gained * lost)
    if product > 0:
        product = max(0.0, product - (both + gained + lost + neither) / 2)
    return product / math.sqrt(margins)
