"""Which blocks of keys the queries want, without calibration: pooled keys and the last queries.

Every key head chooses for all of its query heads. The mean query of a block and the mean key of
another say how much of the attention lies there, as in XAttention and FlexPrefill; the last queries
of the chunk, for which the truth is computed, say what that has missed, and it is then expected in
the same columns and at the same distances elsewhere. Each block of queries gets the fewest blocks
of keys that hold `mass` of what is expected. On a tiny model's real text that chooses within 0.002
of the best choice of as many blocks, and what it holds is within 0.01 of `mass`.

    votes = count(parts, pages, grid)
    chosen = pick(expected(votes, grid), grid, forced, mass=0.95, budget=None)      # [K, n, b]
    held(votes, chosen)                                                             # [H]

T queries, K key heads, G query heads of each, D head size, n blocks of queries, b blocks of keys,
R queries that vote, N keys read at once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from baiwen.model.grid import Grid, Part, read
from baiwen.model.pages import Pages

STRETCH = 4096  # keys that are read at once: what they take stays in the cache
EVERY = 4  # of the last queries one in so many votes: as good a vote (recall within 0.003)
MISSED = 0.5  # of what the last queries found and pooling did not, the weight it has elsewhere
LOWEST = -1e30  # below every score, and finite: a difference of two is 0


@dataclass(frozen=True)
class Votes:
    """Shares of the attention by block of keys; those of a query add up to 1."""

    pooled: Tensor  # [K, n, b], as the means say, over the query heads of a key head
    last: Tensor  # [K, G, R, b], of the queries that vote: exact
    rows: Tensor  # [R], the block of queries that each of these is in


def count(parts: Sequence[Part], pages: Pages, grid: Grid, last: int) -> Votes:
    """Ask all keys of the parts once; of the last `last` queries one in EVERY votes."""
    heads, step = pages.keys.shape[2], max(1, STRETCH // grid.tile) * grid.tile
    device = parts[0].q.device
    voters = torch.arange(grid.count - 1, max(grid.count - last, 0) - 1, -EVERY, device=device)
    pooled, voted = [], []
    for part in parts:
        means = _grouped(_means(part.q.float(), grid.tile), heads)  # [K, G, n, D]
        votes = _grouped(part.q[voters].float(), heads)  # [K, G, R, D]
        room = votes.new_empty(heads, votes[0, ..., 0].numel(), step)  # fresh memory costs more
        for first in range(part.first, part.last, step):
            keys = read(pages, first, min(first + step, part.last))  # [N, K, D]
            pooled.append(means @ _means(keys, grid.tile).permute(1, 2, 0)[:, None])
            scores = torch.bmm(
                votes.flatten(1, 2), keys.permute(1, 2, 0), out=room[..., : len(keys)]
            )  # [K, G * R, N]
            scores = scores.unflatten(1, (-1, len(voters)))
            if first + len(keys) > grid.place + grid.count - last:  # some come before their keys
                places = torch.arange(first, first + len(keys), device=device)
                scores.masked_fill_(places > (grid.place + voters)[:, None], -torch.inf)
            voted.append(_by_block(scores, grid.tile))
    sizes = (grid.ends - grid.firsts).log()
    scores = (torch.cat(pooled, -1) + sizes).masked_fill_(~grid.seen, -torch.inf)
    shares = torch.cat(voted, -1).softmax(-1)
    return Votes(scores.softmax(-1).mean(1), shares, voters // grid.tile)


def expected(votes: Votes, grid: Grid) -> Tensor:
    """Shares of the attention by block [K, n, b], from the means and what they missed."""
    missed = (votes.last.mean(1) - votes.pooled[:, votes.rows]).clamp_min(0).mean(1)  # [K, b]
    apart = (grid.apart.div(grid.tile, rounding_mode="floor") + 1).clamp_min(0)  # [n, b]
    far = missed.new_zeros(len(missed), (grid.place + grid.count) // grid.tile + 2)
    slashes = far.index_add(1, apart[-1], missed)[:, apart]  # [K, n, b]
    shares = votes.pooled + MISSED * (missed[:, None] + slashes)
    shares *= grid.seen
    return shares / shares.sum(-1, keepdim=True)


def pick(shares: Tensor, grid: Grid, forced: Tensor, mass: float, budget: float | None) -> Tensor:
    """The fewest blocks that hold `mass` of the shares [K, n, b], the forced [n, b] among them.

    At most `budget` of the blocks that each block of queries may see, but all that are forced.
    """
    first = (shares + 2 * forced).masked_fill_(~grid.seen, -1)
    order = first.argsort(-1, descending=True)
    sorted_shares = shares.gather(-1, order)
    wanted = sorted_shares.cumsum(-1) - sorted_shares < mass
    if budget is not None:
        most = (grid.seen.sum(-1) * budget).ceil()[:, None]  # [n, 1]
        wanted &= torch.arange(shares.shape[-1], device=shares.device) < most
    chosen = torch.empty_like(wanted).scatter_(-1, order, wanted)
    return (chosen | forced) & grid.seen


def held(votes: Votes, chosen: Tensor) -> Tensor:
    """Of the voters' attention, what lies in the chosen blocks [K, n, b]: [H]."""
    seen = chosen[:, None, votes.rows]  # [K, 1, R, b]
    return (votes.last * seen).sum(-1).mean(-1).flatten()


def _grouped(q: Tensor, heads: int) -> Tensor:
    """q [R, H, D], scaled, by the key head of its heads: [K, G, R, D]."""
    return q.unflatten(1, (heads, -1)).permute(1, 2, 0, 3) / math.sqrt(q.shape[-1])


def _means(x: Tensor, tile: int) -> Tensor:
    """Means of `tile` rows each, the last of what is left: [N, ...] -> [n, ...]."""
    whole = len(x) - len(x) % tile
    means = [x[:whole].unflatten(0, (-1, tile)).mean(1)] if whole else []
    means += [x[whole:].mean(0, keepdim=True)] if whole < len(x) else []
    return torch.cat(means)


def _by_block(scores: Tensor, tile: int) -> Tensor:
    """The log-sum-exp of each block, [K, G, R, N] -> [K, G, R, N / tile]; spoils the scores."""
    if scores.shape[-1] % tile:
        scores = F.pad(scores, (0, -scores.shape[-1] % tile), value=-torch.inf)
    most = scores.amax(-1, keepdim=True).clamp_min_(LOWEST)
    sums = scores.sub_(most).exp_().unflatten(-1, (-1, tile)).sum(-1)
    return sums.log_().add_(most)
