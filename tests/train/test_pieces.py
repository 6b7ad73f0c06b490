"""Which boxes of a tensor a rank holds: they fill it once, divided as PyTorch divides it."""

import itertools

import pytest
import torch
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor._utils import _compute_local_shape_and_global_offset
from torch.distributed.tensor.placement_types import _StridedShard

from baiwen.train.checkpoint.pieces import _pieces

SHAPES = [(7, 5), (12, 4), (1, 3), (9, 2)]
LAYOUTS = {
    "fsdp": ((4,), (Shard(0),)),
    "hsdp": ((2, 2), (Replicate(), Shard(0))),
    "columns": ((2, 2), (Shard(0), Shard(1))),
    "nested": ((2, 3), (Shard(0), Shard(0))),
    "fsdp of tensor": ((3, 2), (_StridedShard(0, split_factor=2), Shard(0))),
    "strips": ((2,), (_StridedShard(0, split_factor=3),)),  # several boxes on a rank
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_boxes_of_all_ranks_fill_a_tensor_once(shape, layout):
    ranks, placements = LAYOUTS[layout]
    filled = torch.zeros(shape)
    for coordinate in itertools.product(*map(range, ranks)):
        for piece in _pieces(torch.Size(shape), placements, ranks, coordinate):
            filled[piece.there] += 1
    assert (filled == (2 if layout == "hsdp" else 1)).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_rank_has_as_much_and_from_where_as_pytorch_says(shape, layout):
    ranks, placements = LAYOUTS[layout]
    for coordinate in itertools.product(*map(range, ranks)):
        found = _pieces(torch.Size(shape), placements, ranks, coordinate)
        size, offset = _compute_local_shape_and_global_offset(
            shape, ranks, list(coordinate), placements
        )
        here = torch.zeros(size)
        for piece in found:
            here[piece.here] += 1
        assert (here == 1).all()
        assert not found or found[0].offsets == offset


def test_a_number_is_one_box():
    (piece,) = _pieces(torch.Size([]), (), (), ())
    assert piece.offsets == piece.shape == ()
