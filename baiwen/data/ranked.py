"""Answers in the order of their worth, as trees for a reward model.

A line is a preference pair (`data/pairs.py`), or a prompt with several judged answers as the stage
`pairs` writes them to `answers.jsonl`; a file may hold both:

    {"prompt": [...], "chosen": [...], "rejected": [...], "source": "people"}
    {"prompt": [...], "answers": [{"text": "42", "verdict": "right"}, ...], "kind": "arithmetic"}

    ranked, dropped = read(["pairs.jsonl", "answers.jsonl"], "runs/tiny/sft", Limits(512, 4096))
    ranked[0].tree()                 # values["rank"]: 1 for the better, 0 for the worse answers
    dropped["all right"]             # prompts that teach no order

An answer ends where it is scored, with the line break after `<|im_end|>`.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from baiwen import files, log
from baiwen.data.conversations import Lines, chunks
from baiwen.data.executor import ordered
from baiwen.data.pairs import Limits, messages, rendered
from baiwen.data.tree import Tree
from baiwen.errors import UserError
from baiwen.tokenizer.answers import closed, spoken
from baiwen.tokenizer.tokenizer import Tokenizer

CHUNK = 64  # lines that a worker renders at once
SHOWN = 300  # characters of a row in an error
ANSWER = ("text", "verdict")  # what is read of an answer
RANKS = {"right": 1.0, "wrong": 0.0}  # verdicts that have one

Reason = Literal["all right", "all wrong", "undecided", "too long"]


@dataclass(frozen=True)
class Ranked:
    """A prompt and its answers in ids, each with its rank: a higher one is better."""

    prompt: np.ndarray  # uint32
    answers: tuple[np.ndarray, ...]  # uint32 each
    ranks: tuple[float, ...]
    kind: str = ""
    source: str = ""

    def tree(self, **values: Sequence[float]) -> Tree:
        """The tree to train on or to score, with further values of its answers."""
        answers = [answer.tolist() for answer in self.answers]
        return Tree(self.prompt.tolist(), answers, values={"rank": self.ranks, **values})

    @property
    def lengths(self) -> tuple[int, list[int]]:
        """Tokens of the prompt, and of each answer."""
        return len(self.prompt), [len(answer) for answer in self.answers]

    def share(self) -> float:
        """A number from 0 to 1 that follows from the prompt alone: to hold some prompts out."""
        digest = hashlib.sha256(self.prompt.tobytes()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64


@dataclass(frozen=True)
class RankedTrees:
    """The trees of ranked answers by number, made when they are asked for: lists take room."""

    ranked: Sequence[Ranked]

    def __len__(self) -> int:
        return len(self.ranked)

    def __getitem__(self, number: int, /) -> Tree:
        return self.ranked[number].tree()


def read(
    paths: Sequence[Path], tokenizer: Path | str, limits: Limits, workers: int = 1
) -> tuple[list[Ranked], Counter[Reason]]:
    """All prompts of the files that have a better and a worse answer, and why others have not.

    tokenizer: its folder, which every worker process loads. A `UserError` names the line that lacks
    a field, cannot be rendered, prefers an answer to itself, or, unless `limits.too_long` is
    "drop", is too long; and the files where nothing is left.
    """
    found: list[Ranked] = []
    dropped: Counter[Reason] = Counter()
    for path in paths:
        work = partial(_read, str(path), str(tokenizer), limits)
        for part in log.track(ordered(work, chunks(path, CHUNK), workers), "render", unit="chunks"):
            found += [one for one in part if isinstance(one, Ranked)]
            dropped.update(one for one in part if not isinstance(one, Ranked))
    if not found:
        told = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
        raise UserError(
            f"{', '.join(map(str, paths))}: no prompt has a better and a worse answer"
            f"{f' ({told})' if told else ''}, and a reward model learns from nothing else."
        )
    return found, dropped


def _read(path: str, tokenizer: str, limits: Limits, lines: Lines) -> list[Ranked | Reason]:
    found = []
    for number, line in lines:
        place = f"{path}:{number}"
        row = files.parse_row(line, place)
        one = (_judged if "answers" in row else _pair)(row, place, _tokenizer(tokenizer))
        if isinstance(one, Ranked) and not limits.hold(place, *one.lengths):
            one = "too long"
        found.append(one)
    return found


def _pair(row: Mapping[str, Any], place: str, tokenizer: Tokenizer) -> Ranked:
    (prompt, *answers), _ = rendered(row, place, tokenizer)
    return _ranked(row, prompt, [closed(tokenizer, ids) for ids in answers], (1.0, 0.0))


def _judged(row: Mapping[str, Any], place: str, tokenizer: Tokenizer) -> Ranked | Reason:
    _check_answers(row, place)
    judged = [(one["text"], one["verdict"]) for one in row["answers"]]
    try:
        asked = messages(row["prompt"], "user")
        prompt = tokenizer.render(asked, row.get("tools") or None, generate=True).ids
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
    sides = [(spoken(tokenizer, text), RANKS[said]) for text, said in judged if said in RANKS]
    ranks = tuple(rank for _, rank in sides)
    if len(set(ranks)) < 2:
        if len(ranks) < len(judged) or not ranks:
            return "undecided"
        return "all right" if ranks[0] else "all wrong"
    return _ranked(row, prompt, [ids for ids, _ in sides], ranks)


def _ranked(
    row: Mapping[str, Any],
    prompt: Sequence[int],
    answers: Sequence[Sequence[int]],
    ranks: tuple[float, ...],
) -> Ranked:
    made = [np.array(ids, dtype=np.uint32) for ids in (prompt, *answers)]
    names = {name: str(row.get(name) or "") for name in ("kind", "source")}
    return Ranked(made[0], tuple(made[1:]), ranks, **names)


def _check_answers(row: Mapping[str, Any], place: str) -> None:
    whole = isinstance(row.get("prompt"), str | list) and isinstance(row["answers"], list)
    if not whole or not all(
        isinstance(one, Mapping) and all(isinstance(one.get(key), str) for key in ANSWER)
        for one in row["answers"]
    ):
        raise UserError(
            f"{place}: a line with `answers` has a `prompt`, a text or a list of messages, and of "
            f"each answer its `text` and `verdict`, both texts; here: {json.dumps(row)[:SHOWN]}"
        )


_tokenizer = cache(Tokenizer.load)
