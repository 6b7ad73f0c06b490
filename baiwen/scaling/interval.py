"""What a law says of a target: a value, its 95 % interval, and how far the target lies from runs.

    found = law.predict(parameters=1.5e9, tokens=3e10)
    found.low, found.value, found.high
    found.beyond                # {"tokens": 1.2}: 1.2 times the most of the law's runs
    f"{found}"      # "0.00139 (95 %: 0.0012 to 0.0016); beyond its runs: tokens 1.2x above"

A law fits its runs and nothing else: what lies outside them is said, never left to be noticed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import PlainSerializer, PlainValidator


def _array(value: object) -> np.ndarray:
    """Numbers of a JSON file as float64; ValueError where they are none."""
    found = np.array(value, np.float64)
    if not np.isfinite(found).all():
        raise ValueError("holds what is no finite number")
    return found


# Numbers of a law, which a file has as lists (laws.py).
Array = Annotated[np.ndarray, PlainValidator(_array), PlainSerializer(np.ndarray.tolist)]

CONFIDENCE = (2.5, 97.5)  # per cent: the ends of an interval

Ranges = Mapping[str, tuple[float, float]]  # of each variable, the least and the most of the runs


@dataclass(frozen=True)
class Predicted:
    """What a law says, the ends of its 95 % interval, and what lies beyond its runs."""

    value: float
    low: float | None  # None: the law has no draws, as a published one
    high: float | None
    beyond: Mapping[str, float]  # a variable over the nearest end of its range; none: within

    def __format__(self, form: str) -> str:
        """In one line, for the eye; `form` is that of the numbers."""
        form = form or ".3g"
        known = "no interval is published"
        if self.low is not None:
            known = f"95 %: {self.low:{form}} to {self.high:{form}}"
        warning = f"; beyond its runs: {told(self.beyond)}" if self.beyond else ""
        return f"{self.value:{form}} ({known}){warning}"


def predicted(value: float, draws: np.ndarray, beyond: Mapping[str, float]) -> Predicted:
    """`value` with the interval that the same of resampled runs, `draws` of any shape, spans."""
    low, high = np.percentile(draws, CONFIDENCE)
    return Predicted(value, float(low), float(high), beyond)


def beyond(ranges: Ranges, target: Mapping[str, float]) -> dict[str, float]:
    """The variables of `target` that lie outside: how many times the nearest end of the range."""
    far = {}
    for name, (least, most) in ranges.items():
        if not least <= target[name] <= most:
            far[name] = target[name] / (most if target[name] > most else least)
    return far


def told(far: Mapping[str, float]) -> str:
    """As a person says it: `tokens 180x above, parameters 2x below`; empty where all is within."""
    return ", ".join(
        f"{name} {times:.3g}x above" if times > 1 else f"{name} {1 / times:.3g}x below"
        for name, times in far.items()
    )
