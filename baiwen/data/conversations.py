"""Conversations as packed rows with a loss mask, for supervised fine-tuning.

A line of the file is a conversation in OpenAI's field names, with `tools` where it has any:

    {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}

The tokenizer renders it to ids and mask; a token is learned as the target of the one before it
where its mask is 1. Whole conversations share a row and do not see each other, so a packed step
differs from a padded one in nothing but its speed.

    pool = conversations.pool("train.jsonl", tokenizer="runs/tiny/extend", sequence_length=512)
    loader = Loader([pool], split, seed=0)
    steps = loader.steps(epochs=2)

Several files are a mixture, as the sources of pre-training are: `pools`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Literal

import numpy as np

from baiwen import files, log
from baiwen.data.executor import ordered
from baiwen.data.mixture import Mixture, Source, mixed, used
from baiwen.data.pack import best_fit
from baiwen.data.pool import Pieces, Pool
from baiwen.errors import UserError
from baiwen.tokenizer.tokenizer import Tokenizer

CHUNK = 256  # conversations that a worker renders at once
SHOWN = 800  # characters of an example in an error

Train = Literal["all", "last"]  # which of the assistant's turns are learned
TooLong = Literal["drop", "truncate"]  # what becomes of a conversation longer than a row
Lines = list[tuple[int, bytes]]  # raw lines of the file with their numbers


@dataclass(frozen=True)
class Conversations:
    """Rendered conversations, one after the other: a `Stream` with weights."""

    ids: np.ndarray  # uint32 [tokens]
    mask: np.ndarray  # uint8 [tokens]: 1 where the token is to be learned
    lengths: np.ndarray  # int64 [conversations]

    def read(self, start: int, stop: int) -> np.ndarray:
        """The ids from `start` to `stop`."""
        return self.ids[start:stop]

    def weights(self, start: int, stop: int) -> np.ndarray:
        """1 where the token is to be learned."""
        return self.mask[start:stop]


def pools(
    paths: Mapping[str, Path],
    tokenizer: Path | str,
    sequence_length: int,
    mixture: Mixture,
    *,
    train: Train = "all",
    too_long: TooLong = "drop",
    workers: int = 1,
) -> list[Pool]:
    """The conversations of several files by name, each as `pool`'s, weighted by the mixture."""
    sources = {}
    for name in used(list(paths), mixture):
        rendered = render(paths[name], tokenizer, train=train, workers=workers)
        fitted = _fitted(paths[name], rendered, sequence_length, too_long)
        sources[name] = Source(fitted.lengths, partial(_packed, name, fitted, sequence_length))
    return mixed(sources, sequence_length, mixture)


def pool(
    path: Path | str,
    tokenizer: Path | str,
    sequence_length: int,
    *,
    train: Train = "all",
    too_long: TooLong = "drop",
    workers: int = 1,
) -> Pool:
    """The conversations of a file, packed into rows; says how many were too long.

    tokenizer: its folder, which every worker process loads. A `UserError` names the line of a
    conversation that cannot be rendered or has nothing to learn, and shows the latter.
    """
    rendered = render(path, tokenizer, train=train, workers=workers)
    fitted = _fitted(path, rendered, sequence_length, too_long)
    return _packed(Path(path).name, fitted, sequence_length)


def render(
    path: Path | str, tokenizer: Path | str, *, train: Train = "all", workers: int = 1
) -> Conversations:
    """Every conversation of a file as ids and mask; every one has something to learn."""
    work = partial(_render, str(path), str(tokenizer), train)
    parts = list(log.track(ordered(work, chunks(path, CHUNK), workers), "render", unit="chunks"))
    if not parts:
        raise UserError(f"{path}: holds no conversation")
    return Conversations(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.mask for part in parts]),
        np.concatenate([part.lengths for part in parts]),
    )


def chunks(path: Path | str, size: int) -> Iterator[Lines]:
    """The lines of a file that are not blank, `size` at a time."""
    chunk: Lines = []
    for number, line in enumerate(files.read_lines(path), start=1):
        if line.strip():
            chunk.append((number, line))
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _render(path: str, tokenizer: str, train: Train, lines: Lines) -> Conversations:
    ids: list[int] = []
    mask: list[int] = []
    lengths = []
    for number, line in lines:
        place = f"{path}:{number}"
        one_ids, one_mask = _rendered(files.parse_row(line, place), place, tokenizer, train)
        ids += one_ids
        mask += one_mask
        lengths.append(len(one_ids))
    return Conversations(
        np.array(ids, dtype=np.uint32),
        np.array(mask, dtype=np.uint8),
        np.array(lengths, dtype=np.int64),
    )


def _rendered(
    row: dict[str, object], place: str, tokenizer: str, train: Train
) -> tuple[list[int], list[int]]:
    messages, tools = row.get("messages"), row.get("tools")
    if not isinstance(messages, list) or not messages:
        raise UserError(
            f"{place}: a conversation needs `messages`, a list of at least one message; "
            f"this line has {', '.join(map(repr, row)) or 'nothing'}."
        )
    if tools is not None and not isinstance(tools, list):
        raise UserError(f"{place}: `tools` must be a list of tools, or left out.")
    try:
        rendered = _tokenizer(tokenizer).render(messages, tools=tools or None, train=train)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
    if not any(rendered.mask[1:]):
        raise UserError(
            f"{place}: there is nothing to learn from this conversation: its loss mask is empty. "
            "It needs a message of the role assistant with content or tool calls.\n"
            f"{rendered.text[:SHOWN]}"
        )
    return rendered.ids, rendered.mask


_tokenizer = cache(Tokenizer.load)


def _packed(
    name: str, conversations: Conversations, size: int, kept: np.ndarray | None = None
) -> Pool:
    """Conversations, or only those where `kept` [conversations] is true, packed into rows."""
    lengths = conversations.lengths
    pieces = Pieces(np.cumsum(lengths) - lengths, lengths, np.ones(len(lengths), dtype=bool))
    chosen = pieces if kept is None else pieces[kept]
    return Pool(name, conversations, chosen, best_fit(chosen.length, size))


def _fitted(
    path: Path | str, rendered: Conversations, size: int, too_long: TooLong
) -> Conversations:
    """Those of a file that fit into a row; says how many do not, or stops where none does."""
    fitted = _fit(rendered, size, too_long)
    dropped = len(rendered.lengths) - len(fitted.lengths)
    longer = int((rendered.lengths > size).sum())
    if not len(fitted.lengths):
        raise UserError(
            f"{path}: all {len(rendered.lengths):,} conversations are longer than sequence_length "
            f"= {size:,} (the shortest has {rendered.lengths.min():,} tokens). Raise it."
        )
    if longer:
        log.say(
            f"{path}: {longer:,} of {len(rendered.lengths):,} conversations are longer than "
            f"{size:,} tokens: {dropped:,} dropped, {longer - dropped:,} truncated"
        )
    return fitted


def _fit(rendered: Conversations, size: int, too_long: TooLong) -> Conversations:
    """Those that fit into a row; longer ones dropped, or cut if something to learn is left."""
    if rendered.lengths.max() <= size:
        return rendered
    ends = np.cumsum(rendered.lengths)
    starts = ends - rendered.lengths
    kept = rendered.lengths <= size
    if too_long == "truncate":
        learned = np.concatenate(([0], np.cumsum(rendered.mask, dtype=np.int64)))
        first, last = starts + 1, np.minimum(starts + size, ends)
        kept |= learned[last] > learned[first]
    lengths = np.minimum(rendered.lengths[kept], size)
    chosen = np.repeat(starts[kept] - (np.cumsum(lengths) - lengths), lengths)
    chosen += np.arange(len(chosen))
    return replace(rendered, ids=rendered.ids[chosen], mask=rendered.mask[chosen], lengths=lengths)
