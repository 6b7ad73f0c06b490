"""How much of the attention sparse prefill holds, and whether the model says the same.

    found = measure(model, ids, Sparse(mass=0.95))
    found.mean, found.lowest, found.density, found.agreement       # 0.97, 0.93, 0.21, 0.991

    held = trials(model, ids, [[heads] * layers], chunk=4096)       # of given patterns, by head

Recall is exp(lse_sparse - lse_full), the share of a query's attention that lies in what it sees, of
every query and head (Qwen2.5-1M, Algorithm 1; spec 6.4). Texts are read in chunks over a paged
cache, as an engine reads them, so no table of all queries by all keys is ever there.

T tokens, C hidden size, H query heads, L layers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from baiwen.engine.reach import Reach
from baiwen.model import kernels, slashes, sparse
from baiwen.model.dca import Piece
from baiwen.model.grid import Grid
from baiwen.model.layout import Layout
from baiwen.model.paged import Choose, PagedCache, Step
from baiwen.model.pages import Lists, Pages
from baiwen.model.patterns import Head
from baiwen.model.sparse import Chooser, Sparse, together
from baiwen.model.transformer import Transformer

BLOCK = 16  # tokens of a block of the cache
ROWS = 512  # tokens whose logits are there at a time


@dataclass(frozen=True)
class Measured:
    """Sparse prefill of one text beside its dense reading."""

    recall: tuple[tuple[float, ...], ...]  # [L][H], true, over all queries
    density: float  # share of the keys before them that queries see
    agreement: float  # share of the tokens after which both expect the same next one

    @property
    def mean(self) -> float:
        """Recall over all layers and heads."""
        return sum(map(sum, self.recall)) / sum(map(len, self.recall))

    @property
    def lowest(self) -> float:
        """The recall of the layer that has the least."""
        return min(sum(layer) / len(layer) for layer in self.recall)


@dataclass(frozen=True)
class Held:
    """What patterns hold of one text's attention, and what share of the keys they are."""

    recall: list[list[float]]  # [L][H]
    density: list[list[float]]  # [L][H]


def measure(
    model: Transformer, ids: Sequence[int], knobs: Sparse, reach: Reach | None = None
) -> Measured:
    """Read a text densely and sparsely, with the true recall of every query of the latter.

    reach: how the model reads a text of this length; None: as its configuration says.
    """
    reach = reach or Reach.of(model.config, len(ids))
    layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
    sums = torch.zeros(layers, heads, device=model.model.norm.weight.device)
    choosers: list[Chooser] = []

    def watched(first: int, last: int) -> Choose:
        chooser = Chooser(reach.config, knobs, end=last == len(ids), rope=reach.rope(len(ids)))
        choosers.append(chooser)

        def choose(
            layer: int, sequence: int, q: Tensor, pages: Pages, place: int, piece: Piece
        ) -> Sequence[Lists | None]:
            lists = chooser(layer, q, pages, piece)
            parts = chooser.parts(q, piece)
            sums[layer] += sparse.recall(parts, pages, place, lists).sum(1)
            return lists

        return choose

    dense = _next(model, read(model, ids, reach, knobs.chunk))
    found = _next(model, read(model, ids, reach, knobs.chunk, watched))
    chosen = [one for chooser in choosers for one in chooser.chosen]
    account = together(chosen)
    counted = sum(one.queries for one in chosen if one.layer == 0)  # a last few are read as answers
    recall = tuple(map(tuple, (sums / counted).tolist()))
    return Measured(recall, account["density"], (dense == found).double().mean().item())


def trials(
    model: Transformer,
    ids: Sequence[int],
    candidates: Sequence[Sequence[Sequence[Head | None]]],
    *,
    chunk: int,
    last: int = 64,
    after: int = 0,
    reach: Reach | None = None,
) -> list[Held]:
    """What each candidate, the patterns of all heads [L][H], holds of the attention of one text.

    A layer whose heads are None is not measured and holds 0. The model reads densely; chunks of
    `chunk` queries choose by their last `last`; the first `after` queries of the text do not count.
    """
    reach = reach or Reach.of(model.config, len(ids))
    layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
    recall = torch.zeros(len(candidates), layers, heads, dtype=torch.float64)
    density, counted = torch.zeros_like(recall), max(len(ids) - after, 1)
    knobs = Sparse(last=last)

    def watched(first: int, end: int) -> Choose:
        chooser = Chooser(reach.config, knobs, rope=reach.rope(len(ids)))

        def choose(
            layer: int, sequence: int, q: Tensor, pages: Pages, place: int, piece: Piece
        ) -> Sequence[Lists | None]:
            tried = [[of for of in one[layer] if of] for one in candidates]
            parts = chooser.parts(q, piece)
            dense: list[Lists | None] = [None] * len(parts)
            rows = slice(max(after - place, 0), None)
            if not any(tried) or rows.start >= len(q):
                return dense
            whole = sparse.log_sums(parts, pages, place, dense)
            grid = Grid.of(parts[::-1], len(q), place, kernels.tile(q.device))
            for at, of in enumerate(tried):
                if of:
                    blocks, alone, _ = slashes.choose(parts[::-1], pages, grid, of)
                    lists = grid.lists(blocks, alone)[::-1]
                    held = (sparse.log_sums(parts, pages, place, lists) - whole).exp()[:, rows]
                    recall[at, layer] += held.sum(1).cpu() / counted
                    share = held.shape[1] / counted
                    density[at, layer] += share * grid.density(blocks, alone).cpu()
            return dense

        return choose

    for _ in read(model, ids, reach, chunk, watched):
        pass
    return [Held(r, d) for r, d in zip(recall.tolist(), density.tolist(), strict=True)]


@torch.no_grad()
def read(
    model: Transformer,
    ids: Sequence[int],
    reach: Reach,
    chunk: int,
    watched: Callable[[int, int], Choose] | None = None,
) -> Iterator[Tensor]:
    """The hidden states of a text by chunks, each [T, C].

    watched(first, last) gives what chooses for the queries of a chunk; None: they see all keys.
    """
    weight = model.model.norm.weight
    cached = model.model.embed_tokens.weight.dtype
    blocks = -(-len(ids) // BLOCK)
    cache = PagedCache(reach.config, blocks, BLOCK, weight.device, cached)
    table = np.arange(blocks, dtype=np.int32)[None]
    tokens = torch.tensor(ids, device=weight.device)[None]
    for first in range(0, len(ids), chunk):
        last = min(first + chunk, len(ids))
        ropes = (reach.rope(len(ids)),)
        layout = Layout.of(table, [first], [last - first], BLOCK, weight.device, ropes)
        step = Step(cache, layout, watched(first, last) if watched else None)
        yield model(tokens[:, first:last], cache=step).hidden[0]


@torch.no_grad()
def _next(model: Transformer, hidden: Iterator[Tensor]) -> Tensor:
    """The likeliest token after each token, [T]."""
    pieces = [model.project(rows).argmax(-1) for chunk in hidden for rows in chunk.split(ROWS)]
    return torch.cat(pieces)
