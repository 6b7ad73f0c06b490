"""What a reward model thinks of conversations: a number each.

    model, tokenizer = pretrained.load_reward("runs/tiny/reward")
    score(model, tokenizer, [[{"role": "user", "content": "1 + 1?"},
                              {"role": "assistant", "content": "2"}]])         # tensor([1.7])

A conversation is rendered with its answer, without the head of a next one, and its score is read at
its very last token, the line break after `<|im_end|>`: so Qwen2.5-Math-RM's page does it, and so
does vLLM, whose last score of a conversation is the same number. Ids are taken as they are, and are
read at the last of them: what an engine has generated is closed first (`tokenizer/answers.py`).

Conversations that follow each other and differ in their last turn only (answers to one prompt)
share the rest, in rows without padding.

N conversations, T tokens of a row.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

import torch
from torch import Tensor

from baiwen import progress
from baiwen.engine.capacity import longest
from baiwen.errors import UserError
from baiwen.model.documents import Documents
from baiwen.model.reward import RewardModel
from baiwen.tokenizer import control
from baiwen.tokenizer.tokenizer import Tokenizer

# Messages, a row of a file with `messages` and perhaps `tools`, or ids.
Conversation = Sequence[Mapping[str, Any]] | Mapping[str, Any] | Sequence[int]
BATCH = {"cpu": 2048, "cuda": 32_768}  # tokens of a forward, by device


def score(
    model: RewardModel,
    tokenizer: Tokenizer,
    conversations: Sequence[Conversation],
    batch_tokens: int | None = None,
) -> Tensor:
    """The reward of each conversation, [N] fp32 on the model's device.

    batch_tokens: of a forward; None: 2,048 on a CPU, 32,768 on a GPU; a longer conversation has one
    of its own. Raises UserError before anything is computed where one is empty, too long for the
    model, or holds ids that it does not have.
    """
    every = [rendered(tokenizer, one) for one in conversations]
    for place, ids in enumerate(every):
        check(model, ids, f"conversations[{place}]")
    device = model.model.embed_tokens.weight.device
    rows = batches(tokenizer, every, batch_tokens or BATCH[device.type])
    found = [forward(model, row) for row in progress.marked(rows)]
    return torch.cat(found) if found else torch.zeros(0, device=device)


def rendered(tokenizer: Tokenizer, conversation: Conversation) -> list[int]:
    """The ids of a conversation."""
    if isinstance(conversation, Mapping):
        return tokenizer.render(conversation["messages"], conversation.get("tools") or None).ids
    if len(conversation) and isinstance(conversation[0], Mapping):
        return tokenizer.render(cast(Sequence[Mapping[str, Any]], conversation)).ids
    return list(cast(Sequence[int], conversation))


def check(model: RewardModel, ids: Sequence[int], what: str) -> None:
    """UserError where the model cannot score these ids."""
    if not ids:
        raise UserError(f"{what} is empty; give it at least one token")
    if min(ids) < 0 or max(ids) >= model.config.vocab_size:
        wrong = next(token for token in ids if not 0 <= token < model.config.vocab_size)
        raise UserError(
            f"{what} holds the id {wrong}; the model has 0 to {model.config.vocab_size - 1}"
        )
    most = longest(model.config)
    if len(ids) > most:
        raise UserError(
            f"{what} has {len(ids):,} tokens, {len(ids) - most:,} more than the {most:,} that the "
            "model reads"
        )


@dataclass(frozen=True)
class Batch:
    """Conversations in one row: each shared beginning once, and what follows it."""

    tokens: list[int]  # [T]
    lengths: list[int]  # of the documents
    trunks: list[int]  # of each document the place of its trunk, or -1
    scored: list[int]  # the places of the documents that end a conversation


def batches(tokenizer: Tokenizer, every: Sequence[list[int]], size: int) -> Iterator[Batch]:
    """The conversations in rows of at most `size` tokens, or of one; their order stays."""
    batch = Batch([], [], [], [])
    for shared, group in groups(tokenizer, every, size):
        tokens = shared + sum(len(ids) - shared for ids in group)
        if batch.tokens and len(batch.tokens) + tokens > size:
            yield batch
            batch = Batch([], [], [], [])
        _add(batch, shared, group)
    if batch.tokens:
        yield batch


def groups(
    tokenizer: Tokenizer, every: Sequence[list[int]], size: int
) -> Iterator[tuple[int, list[list[int]]]]:
    """Neighbours, and how many tokens they share; at most `size` tokens, or one, in each group."""
    start = tokenizer.id(control.IM_START)
    for prompt, alike in groupby(every, key=lambda ids: _prompt(ids, start)):
        group: list[list[int]] = []
        room = size - len(prompt)
        for ids in alike:
            room -= len(ids) - len(prompt)
            if group and room < 0:
                yield len(prompt), group
                group, room = [], size - len(ids)
            group.append(ids)
        yield len(prompt), group


@torch.inference_mode()
def forward(model: RewardModel, batch: Batch) -> Tensor:
    """The reward of each conversation of a batch, [n] fp32."""
    device = model.model.embed_tokens.weight.device
    tokens = torch.tensor([batch.tokens], device=device)  # [1, T]
    documents = Documents.of([batch.lengths], trunks=[batch.trunks]).to(device)
    return model(tokens, documents=documents).documents[batch.scored]


def _add(batch: Batch, shared: int, group: Sequence[list[int]]) -> None:
    shared = shared if len(group) > 1 else 0
    trunk = -1
    if shared:
        trunk = len(batch.lengths)
        batch.tokens.extend(group[0][:shared])
        batch.lengths.append(shared)
        batch.trunks.append(-1)
    for ids in group:
        batch.scored.append(len(batch.lengths))
        batch.tokens.extend(ids[shared:])
        batch.lengths.append(len(ids) - shared)
        batch.trunks.append(trunk)


def _prompt(ids: list[int], start: int) -> list[int]:
    """All before the last turn; nothing where there is none."""
    turn = next((place for place in reversed(range(len(ids))) if ids[place] == start), 0)
    return ids[:turn]
