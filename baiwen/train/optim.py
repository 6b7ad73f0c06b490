"""Optimizers: AdamW for everything, Muon for the matrices inside the blocks, online merging.

    [optim]
    lr = 1e-3
    weight_decay = 0.1
    muon = true          # matrices of attention and MLP; embeddings, head, norms, biases keep AdamW
    [optim.merging]
    method = "dare"      # AdamW's steps merged with what earlier fine-tuning changed (merging.py)

Weight decay falls on tensors of two or more dimensions (matrices, experts and embeddings), never
on norms and biases. Parameters that are spread over one mesh of ranks are updated together: an
operation takes no DTensors of several.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import AdamW, Optimizer

from baiwen.config import Knobs
from baiwen.errors import UserError
from baiwen.train.dtensor import local, shared
from baiwen.train.merging import Merging, OnlineMerging, taus
from baiwen.train.muon import Muon


class AskedOptim(Knobs):
    """The optimizer's knobs, where a law may be asked for the learning rate."""

    # Peak learning rate; "law": what `law` says. Report: 7e-6 for SFT.
    lr: Annotated[float, Field(gt=0)] | Literal["law"] = 3e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.1  # on matrices; report: 0.1 for SFT
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9  # memory of the gradients' mean; not reported
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95  # memory of their squares; not reported
    eps: Annotated[float, Field(gt=0)] = 1e-8  # AdamW's epsilon; not reported
    clip: Annotated[float, Field(gt=0)] = 1.0  # largest norm of the gradient; report: 1.0 for SFT
    muon: bool = False  # Muon for the blocks' matrices (one process only); not in the report
    merging: Merging = Merging()  # AdamW's steps merged with those that made the start model

    @property
    def alone(self) -> str:
        """Why a single process must train, where it must."""
        return "optim.muon = true needs whole matrices, in a single process" if self.muon else ""


class Optim(AskedOptim):
    """The optimizer's knobs."""

    lr: Annotated[float, Field(gt=0)] = 3e-4  # peak learning rate; report: 7e-6 for SFT


def build(
    model: nn.Module,
    optim: Optim,
    *,
    sharded: bool = False,
    dtype: torch.dtype = torch.float32,
) -> list[Optimizer]:
    """The optimizers that together own every parameter of `model` once.

    `dtype` is that of Muon's matmuls: bf16 where the device is fast at it.
    `sharded` says that the parameters are split over ranks (FSDP2), where Muon cannot see whole
    matrices: a UserError, as are Muon with online merging and a base checkpoint of another shape.
    With merging, `model` holds the weights that a run starts from.
    """
    if optim.muon and optim.merging.method != "none":
        raise UserError(
            "optim.muon = true: online merging is defined for AdamW's steps.\n"
            "Set optim.muon = false, or optim.merging.method to none."
        )
    if optim.muon and sharded:
        raise UserError(
            "optim.muon = true: Muon needs whole matrices, and under torchrun each rank holds a "
            "part of each.\nRun on one process, or set optim.muon = false."
        )
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    muon = {n: p for n, p in parameters.items() if optim.muon and p.ndim >= 2 and ".layers." in n}
    adam = [p for n, p in parameters.items() if n not in muon]
    groups = [
        {"params": params, "weight_decay": optim.weight_decay if decays else 0.0}
        for decays in (True, False)
        for params in by_mesh(p for p in adam if (p.ndim >= 2) == decays)
    ]
    betas = optim.beta1, optim.beta2
    if optim.merging.method != "none":
        changed = taus(model, optim.merging)
        return [
            OnlineMerging(groups, changed, optim.merging, lr=optim.lr, betas=betas, eps=optim.eps)
        ]
    optimizers: list[Optimizer] = [
        AdamW(groups, lr=optim.lr, betas=betas, eps=optim.eps, fused=True)
    ]
    if muon:
        optimizers.append(Muon(muon.values(), optim.lr, optim.weight_decay, dtype=dtype))
    return optimizers


@torch.no_grad()
def clip(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """Scale all gradients so that their norm is at most `largest`; the norm before, on each rank.

    As `torch.nn.utils.clip_grad_norm_`, which takes parameters of one mesh only.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    parts = [local(grad) for grad in grads]
    # A square that n ranks have counts for one n-th on each of them.
    alike: dict[int, list[Tensor]] = defaultdict(list)
    for grad, part in zip(grads, parts, strict=True):
        alike[_copies(grad)].append(part)
    norms = [get_total_norm(part, foreach=True) / copies**0.5 for copies, part in alike.items()]
    square = torch.stack(norms).square().sum()
    if any(map(shared, grads)):
        torch.distributed.all_reduce(square)
    norm = square.sqrt()
    torch._foreach_mul_(parts, (largest / (norm + 1e-6)).clamp(max=1.0))
    return norm


def _copies(tensor: Tensor) -> int:
    """How many ranks hold the same part of it."""
    if not shared(tensor):
        return 1
    mesh, placements = tensor.device_mesh, tensor.placements
    sizes = (mesh.size(dim) for dim, place in enumerate(placements) if place.is_replicate())
    return math.prod(sizes) * torch.distributed.get_world_size() // mesh.size()


def by_mesh(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Parameters by the mesh of ranks that they are spread over; one list where they are not."""
    groups: dict[object, list[nn.Parameter]] = {}
    for parameter in parameters:
        mesh = parameter.device_mesh if shared(parameter) else None
        groups.setdefault(mesh, []).append(parameter)
    return list(groups.values())


def set_rate(optimizers: Sequence[Optimizer], rate: float) -> None:
    """Give every group of every optimizer the learning rate of this step."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
