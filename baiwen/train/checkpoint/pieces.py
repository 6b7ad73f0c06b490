"""Which part of a tensor this rank holds: boxes of the whole, whatever the layout.

    for piece in pieces(parameter):                     # one, but for the strangest of layouts
        whole[piece.there] == local[piece.here]

A DTensor says by its placements how its dimensions are divided, one mesh dimension after another:
`Shard` as torch.chunk does; `_StridedShard` as FSDP2 divides what tensor or expert parallelism has
divided before, so that each of those parts is chunked by itself. Any other tensor is whole.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from baiwen.dist import World
from baiwen.train.dtensor import shared

if TYPE_CHECKING:
    from torch.distributed.tensor.placement_types import Placement

Runs = tuple[range, ...]  # places of one dimension, in the order in which a rank has them
Division = tuple[torch.Size, Sequence["Placement"], Sequence[int], Sequence[int]]


@dataclass(frozen=True)
class Piece:
    """A box of a tensor that lies on one rank."""

    there: tuple[slice, ...]  # in the whole tensor
    here: tuple[slice, ...]  # in this rank's part of it

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where it begins in the whole tensor."""
        return tuple(places.start for places in self.there)

    @property
    def shape(self) -> tuple[int, ...]:
        """How large it is."""
        return tuple(places.stop - places.start for places in self.there)


def pieces(tensor: Tensor) -> tuple[Piece, ...]:
    """The boxes that this rank's part of a tensor consists of; none where it is empty."""
    return _pieces(*_layout(tensor))


def part(tensor: Tensor, whole: Tensor) -> Tensor:
    """Of `whole` what this rank holds where it is divided as `tensor` is."""
    for dim, runs in enumerate(_runs(*_layout(tensor))):
        strips = [whole.narrow(dim, run.start, len(run)) for run in runs or [range(0)]]
        whole = strips[0] if len(strips) == 1 else torch.cat(strips, dim)
    return whole


def placed(like: Tensor, here: Tensor) -> Tensor:
    """The tensor, divided as `like` is, of which this rank's part is `here`."""
    if not shared(like):
        return here
    return type(like).from_local(
        here, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    )


def writes(tensor: Tensor, number: int, world: World) -> bool:
    """Whether it is this rank that writes its part of the `number`-th tensor.

    One of the ranks that hold the same; they take turns from tensor to tensor.
    """
    if world.meshes is None:
        return True
    if not shared(tensor):
        return number % world.size == world.rank
    names = tensor.device_mesh.mesh_dim_names or ()
    # What is neither split by expert nor by tensor, though other weights are, is stacked experts.
    experts = "expert" in names or (world.layout.tensor > 1 and "tensor" not in names)
    home = world.meshes.experts if experts else world.meshes.weights
    divided = {n for n, p in zip(names, tensor.placements, strict=True) if not p.is_replicate()}
    places = zip(home.mesh_dim_names or (), home.shape, home.get_coordinate() or (), strict=True)
    return all(number % parts == mine for name, parts, mine in places if name not in divided)


def _layout(tensor: Tensor) -> Division:
    """The shape, how it is divided by each mesh dimension, their sizes, this rank's place there."""
    if not shared(tensor):
        return tensor.shape, (), (), ()
    mesh = tensor.device_mesh
    coordinate = mesh.get_coordinate()
    assert coordinate is not None  # every rank is part of every mesh
    return tensor.shape, tensor.placements, tuple(mesh.shape), tuple(coordinate)


@cache
def _pieces(
    shape: torch.Size,
    placements: Sequence["Placement"],
    ranks: Sequence[int],
    coordinate: Sequence[int],
) -> tuple[Piece, ...]:
    dims = [_both(runs) for runs in _runs(shape, placements, ranks, coordinate)]
    return tuple(
        Piece(tuple(there for there, _ in box), tuple(here for _, here in box))
        for box in itertools.product(*dims)
    )


@cache
def _runs(
    shape: torch.Size,
    placements: Sequence["Placement"],
    ranks: Sequence[int],
    coordinate: Sequence[int],
) -> tuple[Runs, ...]:
    places = [torch.arange(size) for size in shape]
    for placement, parts, mine in zip(placements, ranks, coordinate, strict=True):
        if not placement.is_replicate():
            cut: Any = placement  # Shard, or _StridedShard, which also has a split_factor
            strips = places[cut.dim].chunk(int(getattr(cut, "split_factor", 1)))
            places[cut.dim] = torch.cat([_chunk(strip, parts, mine) for strip in strips])
    return tuple(map(_consecutive, places))


def _chunk(places: Tensor, parts: int, number: int) -> Tensor:
    """The `number`-th of so many chunks, of which the last ones may be empty."""
    chunks = places.chunk(parts)
    return chunks[number] if number < len(chunks) else places[:0]


def _consecutive(places: Tensor) -> Runs:
    breaks = (places.diff() != 1).nonzero().flatten() + 1
    runs = places.tensor_split(breaks)
    return tuple(range(int(run[0]), int(run[-1]) + 1) for run in runs if len(run))


def _both(runs: Runs) -> list[tuple[slice, slice]]:
    """Each run of places in the whole tensor and in this rank's part."""
    ends = itertools.accumulate(len(run) for run in runs)
    return [
        (slice(run.start, run.stop), slice(end - len(run), end))
        for run, end in zip(runs, ends, strict=True)
    ]
