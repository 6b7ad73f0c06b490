"""The vocabulary of a head: its softmax, whether one process has all rows of the matrix or a part.

    head, split = here(outputs.head)                        # [V, C], and which rows those are
    found = softmax(states @ head.T, targets, split)
    slope = less_target(found.probs, targets, split)        # of normaliser - aimed, by the logits

With tensor parallelism (`tensor.py`) a rank has V / R rows of the head, and so the logits of its
part of the vocabulary (Shoeybi et al., 2019, section 3). Ranks tell each other three numbers a
token, from which each of them knows the softmax over all; the logits stay where they are.

n tokens, C hidden size, V vocabulary rows here, R ranks that share them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from baiwen.train import sequence
from baiwen.train.dtensor import shared


@dataclass(frozen=True)
class Split:
    """Which rows of the head are here, and who has the others."""

    first: int = 0
    group: ProcessGroup | None = None  # None: all are here


def here(head: Tensor) -> tuple[Tensor, Split]:
    """This rank's rows of a head [V, C], which is a DTensor where ranks share it."""
    if not shared(head):
        return head, Split()
    part = head.to_local(grad_placements=head.placements)
    group = head.device_mesh.get_group()
    return part, Split(group.rank() * len(part), group)


@dataclass(frozen=True)
class Softmax:
    """Of the logits of n tokens, in fp32."""

    probs: Tensor  # [n, V], of the rows here
    normaliser: Tensor  # [n, 1], logsumexp over the whole vocabulary
    aimed: Tensor  # [n, 1], the targets' logits
    share: Tensor | None  # [n, 1], the sum of probs; None: all rows are here


def softmax(logits: Tensor, targets: Tensor, split: Split) -> Softmax:
    """logits [n, V] of the rows here, targets [n] of the whole vocabulary."""
    probs = torch.softmax(logits, dim=1, dtype=torch.float32)
    top = logits.amax(1, keepdim=True).float()
    # exp(top - Z) is the largest probability, so Z needs no second pass of exponentials.
    peak = probs.amax(1, keepdim=True)
    places, owned = _places(targets, split, logits.shape[1])
    aimed = logits.gather(1, places).float()
    if split.group is None:
        return Softmax(probs, top - peak.log(), aimed, None)
    told = torch.cat([top, 1 / peak, aimed.where(owned, 0.0)], 1)  # [n, 3]
    tops, sums, aims = sequence.every(told, split.group).split(1, 2)  # [R, n, 1] each
    highest = tops.amax(0)
    sums = sums * (tops - highest).exp()
    whole = sums.sum(0)
    share = sums[split.group.rank()] / whole
    return Softmax(probs.mul_(share), highest + whole.log(), aims.sum(0), share)


def again(logits: Tensor, share: Tensor | None) -> Tensor:
    """The `probs` of the same logits, for as much as another softmax costs."""
    probs = torch.softmax(logits, dim=1, dtype=torch.float32)
    return probs if share is None else probs.mul_(share)


def less_target(probs: Tensor, targets: Tensor, split: Split) -> Tensor:
    """probs [n, V] - onehot(targets [n]) in place: the gradient of Z - x_y by the logits."""
    places, owned = _places(targets, split, probs.shape[1])
    return probs.scatter_add_(1, places, -owned.to(probs.dtype))


def total(x: Tensor, split: Split) -> Tensor:
    """The sum of x over the ranks that share the vocabulary, in place."""
    if split.group is not None:
        torch.distributed.all_reduce(x, group=split.group)
    return x


def _places(targets: Tensor, split: Split, number: int) -> tuple[Tensor, Tensor]:
    """Where the targets [n] stand among the rows here [n, 1], and whether they do."""
    places = targets[:, None] - split.first
    return places.clamp(0, number - 1), (places >= 0) & (places < number)
