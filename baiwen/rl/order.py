"""The order of prompts: those whose answers differ most in what they are worth come first.

Queries are ordered "by the variance of their response scores", high first (report, section 4.3):
where all answers are worth the same, nothing can be learned. What was measured is a file of rows

    {"number": 17, "answers": 8, "mean": 0.5, "variance": 0.25}

so that a run that is resumed goes on in the same order.

    queue = Queue(variances, seed=0)
    queue.take(16)                      # numbers of prompts; the epochs follow one another
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, pvariance
from typing import Annotated, Any

from pydantic import Field

from baiwen import files
from baiwen.config import Count, Input, Knobs
from baiwen.errors import UserError
from baiwen.rl import resample
from baiwen.rl.prompts import Prompt
from baiwen.verify import Verdict


class Order(Knobs):
    """In which order prompts come."""

    by_variance: bool = True  # of their answers' rewards, high first; report: yes. Else by chance
    answers: Input | None = None  # answers.jsonl of `pairs`, where it was measured; else it is here
    samples: Count | None = None  # answers of each prompt to measure by; none: samples_per_prompt
    refresh: Count | None = None  # steps between measurements by the model as it is by then
    least: Annotated[float, Field(ge=0)] = 0.0  # variance below which a prompt is left out


class Queue:
    """Prompts by number in their order, epoch after epoch."""

    def __init__(self, variances: Mapping[int, float], seed: int) -> None:
        self.seed, self.epoch = seed, 0
        self._variances = variances
        self._left = self._sorted(variances)

    def take(self, count: int) -> list[int]:
        """The next `count`, of which there are at most as many as prompts."""
        assert count <= len(self._variances)
        if count <= len(self._left):
            taken, self._left = self._left[:count], self._left[count:]
            return taken
        taken, self._left = self._left, []
        self.epoch += 1
        again = self._sorted(self._variances)
        # None twice in one step: those of the epoch that ends have their next turn after the rest.
        others = [number for number in again if number not in set(taken)]
        first = others[: count - len(taken)]
        self._left = [number for number in again if number not in set(first)]
        return taken + first

    def reorder(self, variances: Mapping[int, float]) -> None:
        """Go on in another order with those whose turn has not come."""
        left = set(self._left)
        self._variances = variances
        self._left = [number for number in self._sorted(variances) if number in left]

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint; the variances are not among them."""
        return {"epoch": self.epoch, "left": self._left}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.epoch, self._left = state["epoch"], list(state["left"])

    def _sorted(self, variances: Mapping[int, float]) -> list[int]:
        """High variance first; equals, of which rewards of 0 and 1 make many, by chance."""
        return sorted(variances, key=lambda number: (-variances[number], self._chance(number)))

    def _chance(self, number: int) -> bytes:
        named = f"{self.seed} {self.epoch} {number}".encode()
        return hashlib.blake2b(named, digest_size=8).digest()


def measured(number: int, rewards: Sequence[float]) -> dict[str, Any]:
    """The row of a prompt whose answers have these rewards; none: the variance is 0."""
    return {
        "number": number,
        "answers": len(rewards),
        "mean": fmean(rewards) if rewards else None,
        "variance": pvariance(rewards) if rewards else 0.0,
    }


def from_answers(path: Path, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """The rows of prompts that `pairs` has measured; UserError where one is missing there."""
    known = {
        _key(row["prompt"], row.get("tools")): {
            "variance": row["variance"],
            "rights": _rights(answer.verdict for answer in answers),
        }
        for row, answers in resample.read(path)
    }
    found = [(prompt, known.get(_key(prompt.messages, prompt.tools))) for prompt in prompts]
    missing = [prompt.number + 1 for prompt, row in found if row is None]
    if missing:
        raise UserError(
            f"order.answers = {path} has no answers to {len(missing):,} of {len(prompts):,} "
            f"prompts, the first of them in row {missing[0]}.\n"
            "Give both stages the same prompts, or leave order.answers out: they are measured then."
        )
    return [
        {**measured(prompt.number, row["rights"]), "variance": row["variance"]}
        for prompt, row in found
        if row is not None
    ]


def path_of(folder: Path, step: int) -> Path:
    """Where the order that was measured before this step lies."""
    return folder / f"step-{step:08d}.jsonl"


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep an order."""
    with files.jsonl_writer(path) as put:
        for row in rows:
            put(dict(row))


def variances(path: Path, least: float) -> dict[int, float]:
    """Those that a file holds, by the number of the prompt; UserError where none is left."""
    rows = list(files.read_jsonl(path))
    found = {row["number"]: row["variance"] for row in rows if row["variance"] >= least}
    if not found:
        highest = max(row["variance"] for row in rows)
        raise UserError(f"order.least = {least} leaves no prompt: the highest is {highest:.4f}")
    return found


def means(path: Path) -> dict[int, float]:
    """The mean rewards that a file holds, by the number of the prompt, where there was any."""
    rows = files.read_jsonl(path)
    return {row["number"]: row["mean"] for row in rows if row["mean"] is not None}


def _rights(verdicts: Iterable[Verdict]) -> list[float]:
    """1 for each right answer, 0 for each wrong one, nothing for those that nobody could tell."""
    decided = {Verdict.right: 1.0, Verdict.wrong: 0.0}
    return [decided[verdict] for verdict in verdicts if verdict in decided]


def _key(messages: object, tools: object) -> str:
    return json.dumps([messages, tools or None], sort_keys=True)
