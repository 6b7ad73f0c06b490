"""Prompts with several answers as micro-batches in which each prompt is read once.

Preference pairs and groups of samples share their prompt. A tree's prompt is a trunk that its
answers see (`model/documents.py`), so it is computed once, and what a token or an answer is worth
travels with the ids:

    tree = Tree([1, 2, 3], [[4, 5], [6]], values={"reward": [1.0, 0.0]})
    batch, = batches([tree], micro_tokens=64, count="answers")
    batch.tokens              # [[1, 2, 3, 4, 5, 3, 6]]: the trunk is the prompt but its last id
    batch.positions           # [[0, 1, 2, 3, 4, 2, 3]]
    batch.values["reward"]    # [1., 0.]

A branch begins with the prompt's last id, whose hidden state predicts the first of its answer's,
and ends with the answer's last one, which has no target.

T tokens of a micro-batch, N tokens that count, A answers.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from baiwen.data.order import permutation
from baiwen.data.pack import best_fit
from baiwen.data.tree import Tree
from baiwen.errors import UserError
from baiwen.model.documents import Documents
from baiwen.model.routing import unknown

Count = Literal["answers", "tokens", "trees"]


class Trees(Protocol):
    """Trees by number, from 0: a list of them, or `Pairs`."""

    def __len__(self) -> int: ...
    def __getitem__(self, tree: int, /) -> Tree: ...


@dataclass
class TreeBatch:
    """A micro-batch of whole trees in one row, as the loop and the objectives read it."""

    tokens: Tensor  # int64 [1, T]
    targets: Tensor  # int64 [1, T]: the next token; anything where the mask is 0
    mask: Tensor  # float32 [1, T]: the weight of each target
    positions: Tensor  # int64 [1, T]
    documents: Documents  # trunks and branches
    count: float
    real: int  # tokens that are not padding: T, and 0 of an empty batch
    answer: Tensor  # int64 [N]: which answer each token with a mask belongs to, in reading order
    tree: Tensor  # int64 [A]: which tree of the batch each answer belongs to
    last: Tensor  # int64 [A]: place in the row of each answer's last token
    lengths: Tensor  # float32 [A]: the sum of each answer's mask
    values: dict[str, Tensor]  # float32: [N] of tokens, [A] of answers
    # [L, 1, T, k]: the experts that tokens go to, `unknown` where the router chooses; None: always
    chosen: Tensor | None = None


class Loader:
    """The micro-batches of every step: a pure function of (seed, step), whatever the ranks."""

    def __init__(
        self,
        trees: Trees,
        trees_per_step: int,
        micro_tokens: int,
        *,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.trees, self.trees_per_step, self.micro_tokens = trees, trees_per_step, micro_tokens
        self.rank, self.ranks = rank, ranks
        self._order = cache(partial(permutation, len(trees), seed=seed))

    def step(self, step: int) -> list[TreeBatch]:
        """This rank's micro-batches of optimizer step `step`, counted from 0."""
        first = step * self.trees_per_step
        drawn = [self.trees[self.tree(first + i)] for i in range(self.trees_per_step)]
        return batches(drawn, self.micro_tokens, count="trees", rank=self.rank, ranks=self.ranks)

    def tree(self, number: int) -> int:
        """Which tree is the one of this number in the run: every epoch has an order of its own."""
        epoch, place = divmod(number, len(self.trees))
        return int(self._order(epoch=epoch)[place])

    def steps(self, epochs: float) -> int:
        """Steps of `epochs` epochs; trees of the next epoch fill the last one."""
        return math.ceil(epochs * len(self.trees) / self.trees_per_step)


def batches(
    trees: Sequence[Tree], micro_tokens: int, *, count: Count, rank: int = 0, ranks: int = 1
) -> list[TreeBatch]:
    """This rank's micro-batches of a step, each of at most `micro_tokens` tokens.

    Every rank gets as many, of about as many tokens; one that finds no tree left is a single token
    of padding. `count` says what the loss is divided by. Raises UserError for a tree that is too
    long: none is cut.
    """
    packed = pack([tree.tokens for tree in trees], micro_tokens, ranks)
    names = sorted({name for tree in trees for name in tree.values})
    return [_assemble([trees[i] for i in one], count, names) for one in packed[rank::ranks]]


def pack(lengths: Sequence[int], size: int, ranks: int) -> list[list[int]]:
    """Which items share a micro-batch, the fullest first: a multiple of `ranks`, maybe some empty.

    As many as best-fit needs, rounded up; and as even as the longest-first rule makes that many,
    where this fits into `size`.
    """
    for item, length in enumerate(lengths):
        if length > size:
            raise UserError(
                f"prompt {item} with its answers has {length:,} tokens, more than micro_tokens = "
                f"{size:,}. Raise micro_tokens, or ask for fewer or shorter answers."
            )
    rows = [row.tolist() for row in best_fit(lengths, size)]
    turns = max(1, math.ceil(len(rows) / ranks))
    empty: list[list[int]] = [[] for _ in range(turns * ranks - len(rows))]
    packed = _evenly(lengths, size, turns * ranks) or rows + empty
    total = [sum(lengths[item] for item in row) for row in packed]
    order = sorted(range(len(packed)), key=lambda row: -total[row])
    return [sorted(packed[row]) for row in order]


def _evenly(lengths: Sequence[int], size: int, count: int) -> list[list[int]]:
    """The longest first, each to the emptiest of `count` rows; no rows where one overflows."""
    rows: list[list[int]] = [[] for _ in range(count)]
    fill = [(0, row) for row in range(count)]
    for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        used, row = fill[0]
        if used + lengths[item] > size:
            return []
        heapq.heapreplace(fill, (used + lengths[item], row))
        rows[row].append(item)
    return rows


def _assemble(trees: Sequence[Tree], count: Count, names: Sequence[str]) -> TreeBatch:
    ids, weights, trunks, branches = _documents(trees)
    lengths = [len(one) for one in ids]
    documents = Documents.of([lengths], [0 if trees else 1], [trunks])
    tokens = np.concatenate(ids, dtype=np.int64)  # [T]
    mask = np.concatenate(weights, dtype=np.float32)  # [T]
    owner = np.full(len(ids), -1)
    owner[branches] = np.arange(len(branches))
    kept = mask.nonzero()[0]  # [N]
    answer = owner.repeat(lengths)[kept]
    sums = np.bincount(answer, mask[kept], minlength=len(branches))
    counted = np.concatenate([weights[branch][:-1] for branch in branches] or [[]]) != 0
    counts = {"answers": len(branches), "tokens": sums.sum(), "trees": len(trees)}
    return TreeBatch(
        tokens=torch.from_numpy(tokens)[None],
        targets=torch.from_numpy(np.roll(tokens, -1))[None],
        mask=torch.from_numpy(mask)[None],
        positions=documents.positions,
        documents=documents,
        count=float(counts[count]),
        real=len(tokens) if trees else 0,
        answer=torch.from_numpy(answer),
        tree=torch.from_numpy(np.arange(len(trees)).repeat([len(tree.answers) for tree in trees])),
        last=torch.from_numpy(np.cumsum(lengths)[branches] - 1),
        lengths=torch.from_numpy(sums).float(),
        values={name: _values(trees, name, counted) for name in names},
        chosen=_chosen(trees),
    )


def _documents(
    trees: Sequence[Tree],
) -> tuple[list[Sequence[int]], list[Sequence[float]], list[int], np.ndarray]:
    """Of each document the ids, the weights of their targets and its trunk; which are branches."""
    ids: list[Sequence[int]] = []
    weights: list[Sequence[float]] = []
    trunks: list[int] = []
    branches = []
    for tree in trees:
        *shared, first = tree.prompt
        trunk = len(ids) if shared else -1
        if shared:
            ids.append(shared)
            weights.append([0] * len(shared))
            trunks.append(-1)
        masks = tree.masks or [[1] * len(answer) for answer in tree.answers]
        for answer, mask in zip(tree.answers, masks, strict=True):
            branches.append(len(ids))
            ids.append([first, *answer])
            weights.append([*mask, 0])
            trunks.append(trunk)
    return ids or [[0]], weights or [[0]], trunks or [-1], np.array(branches, dtype=np.int64)


def _chosen(trees: Sequence[Tree]) -> Tensor | None:
    """The experts of the tokens of the row; none where they are not known, as of last tokens.

    No engine has read an answer's last token. Where no answer has routes there is nothing to say.
    """
    known = [route for tree in trees for route in tree.routes or () if len(route)]
    if not known:
        return None
    nowhere = unknown(known[0][:1])  # [1, L, k]
    parts = []
    for tree in trees:
        shared = len(tree.prompt) - 1
        routes = tree.routes or [nowhere[:0]] * len(tree.answers)
        trunk = next((route for route in routes if len(route)), nowhere.expand(shared, -1, -1))
        parts.append(trunk[:shared])
        for route, answer in zip(routes, tree.answers, strict=True):
            assert len(route) in (0, shared + len(answer))
            mine = route[shared:] if len(route) else nowhere.expand(len(answer), -1, -1)
            parts += [mine, nowhere]
    return torch.cat(parts).transpose(0, 1)[:, None]


def _values(trees: Sequence[Tree], name: str, counted: np.ndarray) -> Tensor:
    """A value of all answers [A], or of those of their tokens that are `counted` [N]."""
    given = [value for tree in trees for value in tree.values[name]]
    if given and np.ndim(given[0]):
        given = np.concatenate(given)[counted]
    return torch.from_numpy(np.asarray(given, dtype=np.float32))
