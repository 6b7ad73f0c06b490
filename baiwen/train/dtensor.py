"""Tensors that ranks share (DTensors), for code that takes whole ones as well.

    local(parameter)        # this rank's part of it, which shares its memory
    whole(parameter)        # all of it, gathered: every rank calls it

DTensor itself is imported where models are divided (`sharding.py`): it costs a start as much as
half of torch, and a plan or a single process has none.
"""

from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def shared(tensor: Tensor) -> TypeGuard["DTensor"]:
    """Whether ranks share it, each with a part or all of it."""
    return hasattr(tensor, "placements")


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor, which shares its memory."""
    if not shared(tensor):
        return tensor.detach()
    with torch.no_grad():  # to detach a DTensor takes many times as long
        return tensor.to_local()


def whole(tensor: Tensor) -> Tensor:
    """All of it, on each rank; a tensor that is whole as it is."""
    plain = tensor.detach()
    return plain.full_tensor() if shared(plain) else plain
