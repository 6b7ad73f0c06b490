r"""The learning rate as a pure function of the step.

Warm-up rises in a straight line to the peak; what follows falls to `final_lr`, which is absolute
(the report gives SFT's as 7e-6 falling to 7e-7):

    constant   peak ------------------------------------------
    cosine     peak ~~~~\____ final_lr
    linear     peak \\\\\\\\\ final_lr
    wsd        peak --------------\___ final_lr     warm-up, stable, decay (MiniCPM, Hu et al. 2024)

    [schedule]
    shape = "wsd"
    warmup = 0.02        # of all steps
    final_lr = 1e-5
"""

import math
from typing import Annotated, Literal

from pydantic import Field

from baiwen.config import Knobs


class Schedule(Knobs):
    """How the learning rate moves over a run."""

    shape: Literal["constant", "cosine", "linear", "wsd"] = "cosine"  # not reported
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.02  # share of all steps that rise; not reported
    final_lr: Annotated[float, Field(ge=0)] = 0.0  # rate of the last step; report: 7e-7 for SFT
    decay: Annotated[float, Field(gt=0, le=1)] = 0.2  # wsd: share of all steps that fall


def rate(schedule: Schedule, step: int, steps: int, peak: float) -> float:
    """Learning rate of `step` (1 .. steps); the last step has `final_lr` unless it is constant."""
    rise = min(round(schedule.warmup * steps), steps - 1)
    if step <= rise:
        return peak * step / rise
    fall = peak - schedule.final_lr
    done = (step - rise) / (steps - rise)  # (0, 1]
    match schedule.shape:
        case "constant":
            return peak
        case "cosine":
            return schedule.final_lr + fall * (1 + math.cos(math.pi * done)) / 2
        case "linear":
            return peak - fall * done
        case "wsd":
            length = max(1, min(round(schedule.decay * steps), steps - rise))
            done = max(0.0, 1 - (steps - step) / length)
            # 1 - sqrt falls fast at first; it beats a straight line (Hägele et al. 2024).
            return peak - fall * math.sqrt(done)
