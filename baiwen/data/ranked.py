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
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from baiwen import files, log
from baiwen.data.executor import ordered
from baiwen.data.pairs import render
from baiwen.data.trees import Tree
from baiwen.errors import UserError
from baiwen.tokenizer.answers import closed, spoken
from baiwen.tokenizer.tokenizer import Tokenizer

CHUNK = 64  # lines that a worker renders at once
SHOWN = 300  # characters of an answer in an error
RANKS = {"right": 1.0, "wrong": 0.0}  # verdicts that have one

TooLong = Literal["error", "drop"]  # what becomes of a prompt whose answers are too long
Reason = Literal["all right", "all wrong", "undecided", "too long"]
Lines = list[tuple[int, bytes]]  # raw lines of a file with their numbers


@dataclass(frozen=True)
class Limits:
    """The most tokens, and what is done beyond."""

    context: int  # of a prompt with an answer
    micro_tokens: int  # of a prompt with all of them
    too_long: TooLong = "error"


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

    def share(self) -> float:
        """A number from 0 to 1 that follows from the prompt alone: to hold some prompts out."""
        digest = hashlib.sha256(self.prompt.tobytes()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64


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
        for part in log.track(ordered(work, _chunks(path), workers), "render", unit="chunks"):
            found += [one for one in part if isinstance(one, Ranked)]
            dropped.update(one for one in part if not isinstance(one, Ranked))
    if not found:
        told = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
        raise UserError(
            f"{', '.join(map(str, paths))}: no prompt has a better and a worse answer"
            f"{f' ({told})' if told else ''}, and a reward model learns from nothing else."
        )
    return found, dropped


def _chunks(path: Path) -> Iterator[Lines]:
    lines: Lines = []
    for number, line in enumerate(files.read_lines(path), start=1):
        if line.strip():
            lines.append((number, line))
        if len(lines) == CHUNK:
            yield lines
            lines = []
    if lines:
        yield lines


def _read(path: str, tokenizer: str, limits: Limits, lines: Lines) -> list[Ranked | Reason]:
    found = []
    for number, line in lines:
        place = f"{path}:{number}"
        row = files.parse_row(line, place)
        one = (_judged if "answers" in row else _pair)(row, place, _tokenizer(tokenizer))
        found.append(one if isinstance(one, str) else _fitted(one, place, limits))
    return found


def _pair(row: Mapping[str, Any], place: str, tokenizer: Tokenizer) -> Ranked:
    sides = []
    for name in ("chosen", "rejected"):
        if not (
            isinstance(row.get("prompt"), str | list) and isinstance(row.get(name), str | list)
        ):
            raise UserError(
                f"{place}: a line has `prompt`, `chosen` and `rejected`, each a text or a list of "
                f"messages, or `prompt` and `answers`; this one has {', '.join(row) or 'nothing'}."
            )
        try:
            prompt, ids, _ = render(tokenizer, row["prompt"], row[name], row.get("tools") or None)
        except UserError as error:
            raise UserError(f"{place}: {name}: {error}") from error
        sides.append(closed(tokenizer, ids))
    if sides[0] == sides[1]:
        raise UserError(
            f"{place}: chosen and rejected are the same answer, which prefers nothing: "
            f"{tokenizer.decode(sides[0])[:SHOWN]}\nLeave the pair out."
        )
    return _ranked(row, prompt, sides, (1.0, 0.0))


def _judged(row: Mapping[str, Any], place: str, tokenizer: Tokenizer) -> Ranked | Reason:
    try:
        prompt = tokenizer.render(row["prompt"], row.get("tools") or None, generate=True).ids
        judged = [(one["text"], str(one["verdict"])) for one in row["answers"]]
        sides = [(spoken(tokenizer, text), RANKS[said]) for text, said in judged if said in RANKS]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{place}: a line with `answers` has a `prompt` of messages, and of each answer its "
            f"`text` and `verdict`; here {error} is missing or of another form."
        ) from error
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
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


def _fitted(ranked: Ranked, place: str, limits: Limits) -> Ranked | Reason:
    longest = len(ranked.prompt) + max(map(len, ranked.answers))
    every = ranked.tree().tokens
    told = ""
    if longest > limits.context:
        told = f"{longest:,} tokens with its longest; the limit is {limits.context:,}"
    elif every > limits.micro_tokens:
        told = f"{every:,} tokens with all of them; micro_tokens = {limits.micro_tokens:,}"
    if not told:
        return ranked
    if limits.too_long == "drop":
        return "too long"
    raise UserError(
        f"{place}: a prompt and its answers are too long: {told}. Shorten them, raise the limit, "
        'or set too_long = "drop".'
    )


_tokenizer = cache(Tokenizer.load)
