"""What a step of reinforcement learning leaves behind: every answer, and alarms.

    rollouts.jsonl    {"step", "prompt", "kind", "asked", "answer", "truth", "verdict", "reward",
                       "advantage", "left_out", ...}, one for each answer
    alarms.json       {"repetition": {"first": 40, "last": 58, "steps": 12, "value", "bound"}}

A run that is resumed cuts the rows of the steps that it takes again. An alarm says which figure of
a step left its bounds, in the log at the moment it begins, and in `alarms.json` for good.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

from pydantic import Field

from baiwen import files, log, verify
from baiwen.config import Knobs, Share
from baiwen.rl.prompts import Prompt, asked
from baiwen.rl.rewards import Judged
from baiwen.rl.rollout import Answer

ROLLOUTS, ALARMS = "rollouts.jsonl", "alarms.json"
GRAM = 4  # tokens of the runs that repetition is counted by
FIRST = 8  # steps whose mean is what length and entropy are compared with

Most = Annotated[float, Field(gt=0)]


class Alarms(Knobs):
    """Bounds that a healthy run keeps; none is reported."""

    zero_variance: Share = 0.8  # most groups without variance, of those rolled out
    undecided: Share = 0.05  # most answers that no verifier could tell
    length: Most = 2.0  # most times the mean length of the first steps, and least is its inverse
    repetition: Share = 0.5  # most repeated runs of 4 tokens, of all in an answer
    entropy: Share = 0.2  # least entropy, of the mean of the first steps
    kl: Most = 0.5  # most divergence from the reference, nats a token
    mismatch_kl: Most = 0.01  # most divergence of trainer and sampler, nats a token


class Watch:
    """The alarms of a run: which have rung, when, and what the first steps were like."""

    def __init__(self, alarms: Alarms, folder: Path, main: bool) -> None:
        self.alarms, self.folder, self.main = alarms, folder, main
        self.first: dict[str, list[float]] = {"answer_tokens": [], "entropy": []}
        self.rung: dict[str, dict[str, Any]] = {}

    def look(self, step: int, metrics: Mapping[str, float]) -> int:
        """How many alarms ring after this step."""
        ringing = dict(self._ringing(metrics))
        for name, (value, bound) in ringing.items():
            before = self.rung.get(name, {"first": step, "last": None, "steps": 0})
            if self.main and before["last"] != step - 1:
                log.say(f"alarm at step {step}: {name} is {value:.4g}, beyond {bound:.4g}")
            self.rung[name] = before | {
                "last": step,
                "steps": before["steps"] + 1,
                "value": value if math.isfinite(value) else None,  # JSON has no infinity
                "bound": bound,
            }
        for name, values in self.first.items():
            if len(values) < FIRST and math.isfinite(metrics[name]):
                values.append(metrics[name])
        if ringing:
            self.write()
        return len(ringing)

    def write(self) -> None:
        """Keep what has rung."""
        if self.main:
            files.write_json(self.folder / ALARMS, self.rung)

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {
            "first": {name: list(values) for name, values in self.first.items()},
            "rung": {name: dict(told) for name, told in self.rung.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.first, self.rung = state["first"], state["rung"]

    def _ringing(self, metrics: Mapping[str, float]) -> Iterator[tuple[str, tuple[float, float]]]:
        """Names of alarms, with the value that rings and the bound that it has left."""
        for name in ("zero_variance", "undecided", "repetition", "kl", "mismatch_kl"):
            bound = getattr(self.alarms, name)
            if metrics.get(name, 0.0) > bound:
                yield name, (metrics[name], bound)
        if len(self.first["entropy"]) < FIRST:
            return
        length, usual = metrics["answer_tokens"], fmean(self.first["answer_tokens"])
        longest, shortest = usual * self.alarms.length, usual / self.alarms.length
        if not shortest <= length <= longest:
            yield "length", (length, longest if length > longest else shortest)
        least = self.alarms.entropy * fmean(self.first["entropy"])
        if metrics["entropy"] < least:
            yield "entropy", (metrics["entropy"], least)


class Rollouts:
    """The file of all answers."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / ROLLOUTS
        self._begun = False

    def write(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add the answers of a step; what an earlier process wrote of it or later goes first."""
        if not self._begun:
            log.cut(self.path, step - 1)
            self._begun = True
        lines = [json.dumps({"step": step, **row}, ensure_ascii=False) + "\n" for row in rows]
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(lines)


def row(
    prompt: Prompt, answer: Answer, judged: Judged, advantage: float | None, left_out: str | None
) -> dict[str, Any]:
    """One answer for the eye and the report; `left_out` is why it is not trained on."""
    return {
        "prompt": prompt.number,
        "kind": prompt.kind,
        "asked": asked(prompt.messages),
        "answer": answer.text,
        "parsed": verify.parsed(prompt.verifier or "", answer.text, prompt.answer),
        "truth": prompt.answer,
        "verdict": judged.verdict,
        "score": judged.score,
        "penalty": judged.penalty,
        "reward": judged.reward,
        "advantage": advantage,
        "left_out": left_out,
        "tokens": int(sum(map(bool, answer.mask))),
        "turns": answer.turns,
        "finish_reason": answer.finish,
    }


def repetition(ids: Sequence[int]) -> float:
    """The share of an answer's runs of 4 tokens that it has had before."""
    runs = [tuple(ids[place : place + GRAM]) for place in range(len(ids) - GRAM + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
