"""Optimizers: AdamW for everything, Muon for the matrices inside the blocks, online merging.

    [optim]
    lr = 1e-3
    weight_decay = 0.1
    muon = true          # matrices of attention and MLP; embeddings, head, norms, biases keep AdamW
    [optim.merging]
    method = "dare"      # AdamW's steps merged with what earlier fine-tuning changed (merging.py)

Weight decay falls on tensors of two or more dimensions (matrices, experts and embeddings), never
on norms and biases.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torch.optim import AdamW, Optimizer

from baiwen.config import Knobs
from baiwen.errors import UserError
from baiwen.train.merging import Merging, OnlineMerging, taus
from baiwen.train.muon import Muon


class Optim(Knobs):
    """The optimizer's knobs."""

    lr: Annotated[float, Field(gt=0)] = 3e-4  # peak learning rate; report: 7e-6 for SFT
    weight_decay: Annotated[float, Field(ge=0)] = 0.1  # on matrices; report: 0.1 for SFT
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9  # memory of the gradients' mean; not reported
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95  # memory of their squares; not reported
    eps: Annotated[float, Field(gt=0)] = 1e-8  # AdamW's epsilon; not reported
    clip: Annotated[float, Field(gt=0)] = 1.0  # largest norm of the gradient; report: 1.0 for SFT
    muon: bool = False  # Muon for the blocks' matrices (one process only); not in the report
    merging: Merging = Merging()  # AdamW's steps merged with those that made the start model


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
    muon = {n: p for n, p in parameters.items() if optim.muon and p.ndim == 2 and ".layers." in n}
    adam = [p for n, p in parameters.items() if n not in muon]
    decay = [p for p in adam if p.ndim >= 2]
    groups = [
        {"params": decay, "weight_decay": optim.weight_decay},
        {"params": [p for p in adam if p.ndim < 2], "weight_decay": 0.0},
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


def set_rate(optimizers: Sequence[Optimizer], rate: float) -> None:
    """Give every group of every optimizer the learning rate of this step."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
