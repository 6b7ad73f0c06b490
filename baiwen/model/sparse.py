"""Sparse prefill: a long prompt's queries see the keys that matter to them, not all of them.

Of a chunk of a prompt, blocks of queries see blocks of keys: those that hold most of the attention
by a vote (`votes.py`, without calibration), or what per-head patterns say (`slashes.py`, as
MInference and the report of Qwen2.5-1M do it). What was chosen is reported with its recall, the
share of the last queries' attention that it holds. Prompts below the threshold, the end of a
prompt and every decode see all keys.

    chooser = Chooser(config, Sparse(mass=0.98))             # of one chunk of one prompt
    model(tokens, cache=Step(cache, layout, among({0: chooser})))
    together(chooser.chosen)                                 # {"recall": 0.97, ...}

T queries, H query heads, K key heads, D head size, n blocks of queries, b blocks of keys, L list
heads (K, or H).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from baiwen.errors import UserError
from baiwen.model import dca, fused, kernels, rope, slashes, votes
from baiwen.model.config import ModelConfig
from baiwen.model.dca import Choose, Kind, Piece, Turns
from baiwen.model.grid import Grid, Part
from baiwen.model.pages import Lists, Pages
from baiwen.model.patterns import Patterns
from baiwen.model.rope import Rope


@dataclass(frozen=True)
class Sparse:
    """How the keys of long prompts are chosen. Lengths are in tokens, budgets in shares.

    Raises UserError for knobs without a meaning.
    """

    threshold: int = 32_768  # shorter prompts are read densely; vLLM: 32768
    chunk: int = 4096  # of a prompt, read and chosen for together; report: 32768
    patterns: Patterns | None = None  # columns and diagonals of each head; None: by vote
    mass: float = 0.98  # by vote: of the attention, that chosen blocks are expected to hold
    budget: float | None = None  # by vote: the most blocks, of those before; None: no limit
    floor: float = 0.8  # a head of which less is held, by the last queries, is read in full
    last: int = 64  # queries of a chunk that choose; report: 64
    sink: int = 64  # by vote: first keys that are always seen
    local: int = 128  # by vote: last keys before each query that are always seen
    dense_layers: int = 0  # first layers, which are read densely

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise UserError(f"sparse prefill: {problem}")


@dataclass(frozen=True)
class Chosen:
    """What was chosen for some queries of one layer."""

    layer: int
    queries: int  # how many
    recall: Tensor  # [H] share of the last queries' attention that is held, by estimate
    density: float  # share of the keys before them that the queries see
    full: int  # list heads that were read in full: below the floor, or all of a dense layer


class Chooser:
    """Chooses for one chunk of one prompt, layer after layer, and keeps account.

    end: whether the chunk ends its prompt: the last block of queries then sees everything.
    rope: that of the prompt.
    """

    def __init__(
        self, config: ModelConfig, sparse: Sparse, *, end: bool = False, rope: Rope | None = None
    ) -> None:
        self.config, self.sparse, self.end, self.rope = config, sparse, end, rope
        self.chosen: list[Chosen] = []
        self._turning: dict[int, Turns] = {}  # by the place of a piece, for all layers

    def __call__(self, layer: int, q: Tensor, pages: Pages, piece: Piece) -> Sequence[Lists | None]:
        """The lists of each part for queries q [T, H, D] at their places in their chunk."""
        parts = self.parts(q, piece)
        lists, account = choose(parts, pages, piece.place, self.sparse, layer, self.end)
        self.chosen.append(account)
        return lists if lists is not None else [None] * len(parts)

    def parts(self, q: Tensor, piece: Piece) -> list[Part]:
        """What the queries of a piece see, and how they ask."""
        last = q[-self.sparse.last :]
        if len(piece.parts) == 1:
            ((_, keys),) = piece.parts
            return [Part(q, last, keys.start, keys.stop)]
        if piece.place not in self._turning:
            places = torch.arange(piece.place, piece.place + len(q), device=q.device)
            self._turning[piece.place] = dca.turns(self.config, places, self.rope)
        turning = self._turning[piece.place]
        return [
            Part(turning.turn(q, kind), self._straight(last, kind), keys.start, keys.stop)
            for kind, keys in piece.parts
        ]

    def _straight(self, q: Tensor, kind: Kind) -> Tensor:
        """Queries [R, H, D] at places that go on from chunk to chunk: never clamped.

        By them equal distances are equal turns, so that a diagonal of the attention is one line
        (vLLM's "critical" queries; spec 6.3).
        """
        chunks = self.config.dual_chunk_attention_config
        assert chunks
        if kind == "intra":
            return q
        on = torch.tensor(chunks.length if kind == "succ" else chunks.chunk_size, device=q.device)
        cool = rope.cooled(self.rope or rope.of(self.config))
        return fused.rotate(q, *rope.tables(self.config, on, cool))


def among(choosers: Mapping[int, Chooser]) -> Choose:
    """The `choose` of a step, by the numbers of its sequences; the others see all keys."""

    def choose(
        layer: int, sequence: int, q: Tensor, pages: Pages, place: int, piece: Piece
    ) -> Sequence[Lists | None]:
        if sequence not in choosers:
            return [None] * len(piece.parts)
        assert place == piece.place
        return choosers[sequence](layer, q, pages, piece)

    return choose


def choose(
    parts: Sequence[Part], pages: Pages, place: int, sparse: Sparse, layer: int, end: bool = False
) -> tuple[list[Lists] | None, Chosen]:
    """The lists of each part for its queries, the first of them at `place`; None: all keys.

    The parts are all that the queries see, the latest keys first. end: the last block of queries
    sees everything.
    """
    queries, heads, _ = parts[0].q.shape
    tile = kernels.tile(parts[0].q.device)
    if queries <= tile or layer < sparse.dense_layers:
        whole = torch.ones(heads, device=parts[0].q.device)
        return None, Chosen(layer, queries, whole, 1.0, pages.keys.shape[2])
    parts = parts[::-1]
    grid = Grid.of(parts, queries, place, tile)
    by = _by_vote if sparse.patterns is None else _by_patterns
    chosen, alone, recall, full = by(parts, pages, grid, sparse, layer)
    if end:
        chosen[:, -1] = True
        alone = None if alone is None else alone[alone[:, 0] < chosen.shape[1] - 1]
    density = grid.density(chosen, alone).mean().item()
    return grid.lists(chosen, alone)[::-1], Chosen(layer, queries, recall, density, full)


def _by_vote(
    parts: Sequence[Part], pages: Pages, grid: Grid, sparse: Sparse, layer: int
) -> tuple[Tensor, None, Tensor, int]:
    """Blocks for each key head."""
    counted = votes.count(parts, pages, grid, sparse.last)
    near = grid.near(sparse.sink, sparse.local)
    shares = votes.expected(counted, grid)
    chosen = votes.pick(shares, grid, near, sparse.mass, sparse.budget)
    held = votes.held(counted, chosen).unflatten(0, (len(chosen), -1))  # [K, G]
    full = ~(held.mean(1) >= sparse.floor)  # what is not a number is no reason to leave keys out
    chosen[full] = True
    recall = held.masked_fill(full[:, None], 1.0).flatten()
    return chosen, None, recall, int(full.sum())


def _by_patterns(
    parts: Sequence[Part], pages: Pages, grid: Grid, sparse: Sparse, layer: int
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Blocks and keys alone for each query head."""
    assert sparse.patterns
    chosen, alone, recall = slashes.choose(parts, pages, grid, sparse.patterns.layers[layer])
    full = ~(recall >= sparse.floor)
    chosen[full] = True
    alone = alone[~full[alone[:, 1]]]
    return chosen, alone, recall.masked_fill(full, 1.0), int(full.sum())


def together(chosen: Sequence[Chosen]) -> dict[str, float]:
    """What was chosen in all layers: recall and density as means over queries, lowest recall."""
    if not chosen:
        return {}
    weights = torch.tensor([float(one.queries) for one in chosen])
    recalls = torch.stack([one.recall.cpu() for one in chosen])  # [c, H]
    densities = torch.tensor([one.density for one in chosen])
    return {
        "recall": ((recalls.mean(1) * weights).sum() / weights.sum()).item(),
        "lowest_recall": recalls.min().item(),
        "density": ((densities * weights).sum() / weights.sum()).item(),
    }


def recall(
    parts: Sequence[Part], pages: Pages, place: int, lists: Sequence[Lists | None]
) -> Tensor:
    """Of the attention of each query, what the lists hold: exp(lse_sparse - lse_full), [H, T]."""
    whole = log_sums(parts, pages, place, [None] * len(parts))
    return (log_sums(parts, pages, place, lists) - whole).exp()


def log_sums(
    parts: Sequence[Part], pages: Pages, place: int, lists: Sequence[Lists | None]
) -> Tensor:
    """The log-sum-exp of what each query sees of all parts, [H, T]."""
    found = [
        kernels.prefill(part.q, pages, place, part.first, part.last, listed)[1]
        for part, listed in zip(parts, lists, strict=True)
    ]
    return torch.stack(found).logsumexp(0)


def _problems(sparse: Sparse) -> list[str]:
    """What makes no sense, one sentence each."""
    least = {"threshold": 0, "chunk": 1, "last": 1, "sink": 0, "local": 1, "dense_layers": 0}
    problems = [
        f"{name} = {getattr(sparse, name)} must be at least {most}"
        for name, most in least.items()
        if getattr(sparse, name) < most
    ]
    shares = {"mass": sparse.mass, "budget": sparse.budget, "floor": sparse.floor}
    problems += [
        f"{name} = {share} must be a share, from 0 to 1"
        for name, share in shares.items()
        if share is not None and not 0 <= share <= 1
    ]
    return problems
