"""Preference pairs as trees: a prompt and its two answers, for DPO and the reward model.

A line of the file is a pair in TRL's field names, with `tools`, `kind` and `source` where it has
any; a string is a user's message as a prompt, the assistant's as an answer:

    {"prompt": [{"role": "user", "content": "2 + 2?"}],
     "chosen": [{"role": "assistant", "content": "4"}],
     "rejected": [{"role": "assistant", "content": "5"}], "kind": "arithmetic"}

The prompt's ids end with the head of the assistant's turn; an answer's are all that follows it in
the whole conversation, up to its last `<|im_end|>`. What the assistant says is learned; in an
answer of several turns what a tool or a user says is not.

    pairs = read("pairs.jsonl", "runs/tiny/sft", Limits(context=512, micro_tokens=4096))
    pairs[0].answers                    # [[19, 151645], [20, 151645]]: chosen, rejected
    loader = trees.Loader(pairs, trees_per_step=32, micro_tokens=4096, seed=0)
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from baiwen import files, log
from baiwen.data import conversations
from baiwen.data.conversations import Lines
from baiwen.data.executor import ordered
from baiwen.data.tree import Tree
from baiwen.errors import UserError
from baiwen.tokenizer.tokenizer import Tokenizer

CHUNK = 128  # pairs that a worker renders at once
SHOWN = 300  # characters of an answer in an error

TooLong = Literal["error", "drop"]  # what becomes of a pair that is too long


@dataclass(frozen=True)
class Limits:
    """The most tokens, and what becomes of a prompt whose answers have more."""

    context: int  # of a prompt with an answer
    micro_tokens: int  # of a prompt with all of them
    too_long: TooLong = "error"

    def hold(self, place: str, prompt: int, answers: Sequence[int]) -> bool:
        """Whether a prompt and answers of these lengths fit; a UserError where they must."""
        longest, every = prompt + max(answers), prompt - 1 + sum(answers) + len(answers)
        told = ""
        if longest > self.context:
            told = f"its longest answer has {longest:,} tokens; the context has {self.context:,}"
        elif every > self.micro_tokens:
            told = f"all its answers has {every:,} tokens; micro_tokens = {self.micro_tokens:,}"
        if told and self.too_long == "error":
            raise UserError(
                f"{place}: the prompt with {told}. Shorten them, raise the limit, or set "
                'too_long = "drop".'
            )
        return not told


@dataclass(frozen=True)
class Pairs:
    """Rendered pairs; by number, trees whose answers are the chosen and the rejected one."""

    ids: np.ndarray  # uint32 [tokens]: of each pair the prompt, the chosen, the rejected answer
    mask: np.ndarray  # uint8 [tokens]: 1 where a token of an answer is learned
    lengths: np.ndarray  # int64 [pairs, 3]: tokens of each of the three
    kinds: tuple[str, ...]  # of each pair; "" where the file says none
    sources: tuple[str, ...]  # likewise
    values: Mapping[str, np.ndarray] = field(default_factory=dict)  # float32 [pairs, 2] each
    ends: np.ndarray = field(init=False)  # int64 [pairs, 3]: where each of the three ends in `ids`

    def __post_init__(self) -> None:
        """Find the ends."""
        object.__setattr__(self, "ends", self.lengths.cumsum().reshape(-1, 3))

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[Tree]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, pair: int, /) -> Tree:
        start, (prompt, chosen, rejected) = self._start(pair), self.ends[pair].tolist()
        spans = (prompt, chosen), (chosen, rejected)
        return Tree(
            prompt=self.ids[start:prompt].tolist(),
            answers=[self.ids[first:end].tolist() for first, end in spans],
            masks=[self.mask[first:end].tolist() for first, end in spans],
            values={name: value[pair].tolist() for name, value in self.values.items()},
        )

    @property
    def tokens(self) -> np.ndarray:
        """int64 [pairs]: places that each tree takes in a row; the prompt's last is there twice."""
        return self.lengths.sum(axis=1) + 1

    def fingerprint(self, first: int, last: int) -> str:
        """SHA-256 of the ids of the pairs from `first` up to `last`, and of what is learned."""
        whole = hashlib.sha256(self.lengths[first:last].tobytes())
        span = slice(self._start(first), int(self.ends[last - 1, 2]))
        whole.update(self.ids[span].tobytes())
        whole.update(self.mask[span].tobytes())
        return whole.hexdigest()

    def with_values(self, **values: np.ndarray) -> "Pairs":
        """The pairs with a number more for each answer: each of `values` is float32 [pairs, 2]."""
        return replace(self, values={**self.values, **values})

    def _start(self, pair: int) -> int:
        return int(self.ends[pair - 1, 2]) if pair else 0


def read(path: Path | str, tokenizer: Path | str, limits: Limits, workers: int = 1) -> Pairs:
    """Every pair of a file, rendered; says how many were dropped.

    tokenizer: its folder, which every worker process loads. A `UserError` names the line of a pair
    that lacks a field, cannot be rendered, has an empty answer or twice the same one, or, unless
    `limits.too_long` is "drop", is too long; and the file where no pair is left.
    """
    work = partial(_render, str(path), str(tokenizer), limits)
    chunks = ordered(work, conversations.chunks(path, CHUNK), workers)
    parts = list(log.track(chunks, "render", unit="chunks"))
    if not parts:
        raise UserError(f"{path}: holds no pair")
    pairs, dropped = _joined([part for part, _ in parts]), sum(dropped for _, dropped in parts)
    if not len(pairs):
        raise UserError(
            f"{path}: all {dropped:,} pairs are longer than the context ({limits.context:,} "
            f"tokens) or than micro_tokens = {limits.micro_tokens:,}.\n"
            "Raise micro_tokens, or shorten the pairs."
        )
    if dropped:
        log.say(f"{path}: {dropped:,} of {dropped + len(pairs):,} pairs are too long: dropped")
    return pairs


def render(
    tokenizer: Tokenizer,
    prompt: str | Sequence[Mapping[str, Any]],
    answer: str | Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> tuple[list[int], list[int], list[int]]:
    """Ids of a prompt, ids of an answer to it, and 1 for each of the latter that is learned.

    Prompt and answer together are the ids of the whole conversation, but for the line break that
    the protocol writes after its end. A text is one message. `UserError` where the answer is empty
    or does not begin and end with the assistant's turn, and where the renderer refuses a message.
    """
    asked, said = messages(prompt, "user"), messages(answer, "assistant")
    if not said or {_role(said[0]), _role(said[-1])} != {"assistant"}:
        raise UserError("an answer is a text, or messages from the assistant's to the assistant's")
    head = tokenizer.render(asked, tools, generate=True).ids
    whole = tokenizer.render([*asked, *said], tools)
    assert whole.ids[: len(head)] == head  # the border that the renderer keeps (tokenizer/chat.py)
    end = len(whole.mask) - whole.mask[::-1].index(1)
    ids, mask = whole.ids[len(head) : end], whole.mask[len(head) : end]
    if not tokenizer.decode(ids[:-1]).strip():
        raise UserError("it is empty: there is nothing to learn from it")
    return head, ids, mask


def messages(said: str | Sequence[Mapping[str, Any]], role: str) -> list[Mapping[str, Any]]:
    """Messages as they are, and a text as one message of `role`."""
    return [{"role": role, "content": said}] if isinstance(said, str) else list(said)


def rendered(
    row: Mapping[str, Any], place: str, tokenizer: Tokenizer
) -> tuple[list[list[int]], list[list[int]]]:
    """Ids and masks of prompt, chosen and rejected answer; a UserError names `place`."""
    _check_fields(row, place)
    answers = []
    for name in ("chosen", "rejected"):
        try:
            answers.append(render(tokenizer, row["prompt"], row[name], row.get("tools") or None))
        except UserError as error:
            raise UserError(f"{place}: {name}: {error}") from error
    (prompt, chosen, learned), (_, rejected, also_learned) = answers
    if chosen == rejected:
        raise UserError(
            f"{place}: chosen and rejected are the same answer, which prefers nothing: "
            f"{tokenizer.decode(chosen)[:SHOWN]}\nLeave the pair out."
        )
    return [prompt, chosen, rejected], [[0] * len(prompt), learned, also_learned]


def _render(path: str, tokenizer: str, limits: Limits, lines: Lines) -> tuple[Pairs, int]:
    """The pairs of some lines, and how many were too long."""
    ids: list[int] = []
    mask: list[int] = []
    lengths, kinds, sources = [], [], []
    for number, line in lines:
        place = f"{path}:{number}"
        row = files.parse_row(line, place)
        parts, masks = rendered(row, place, _tokenizer(tokenizer))
        prompt, *answers = map(len, parts)
        if not limits.hold(place, prompt, answers):
            continue
        ids += chain.from_iterable(parts)
        mask += chain.from_iterable(masks)
        lengths.append([prompt, *answers])
        kinds.append(str(row.get("kind") or ""))
        sources.append(str(row.get("source") or ""))
    pairs = Pairs(
        np.array(ids, dtype=np.uint32),
        np.array(mask, dtype=np.uint8),
        np.array(lengths, dtype=np.int64).reshape(-1, 3),
        tuple(kinds),
        tuple(sources),
    )
    return pairs, len(lines) - len(pairs)


def _joined(parts: Sequence[Pairs]) -> Pairs:
    return Pairs(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.mask for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        tuple(kind for part in parts for kind in part.kinds),
        tuple(source for part in parts for source in part.sources),
    )


def _check_fields(row: Mapping[str, Any], place: str) -> None:
    for name in ("prompt", "chosen", "rejected"):
        if not isinstance(row.get(name), str | list):
            found = f"{row[name]!r:.60}" if name in row else "absent"
            raise UserError(
                f"{place}: a pair needs `prompt`, `chosen` and `rejected`, each a text or a list "
                f"of messages, and its {name!r} is {found}; this line has "
                f"{', '.join(map(repr, row)) or 'nothing'}."
            )
    if not isinstance(row.get("tools"), list | None):
        raise UserError(f"{place}: `tools` must be a list of tools, or left out.")


def _role(message: object) -> object:
    return message.get("role") if isinstance(message, Mapping) else None


_tokenizer = cache(Tokenizer.load)
