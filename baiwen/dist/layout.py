"""How the ranks of a job divide its work: rows, tokens of a row, weights, experts.

    Layout(tensor=2, context=2).check(8)            # 8 = 1 replica x 2 shards x 2 contexts x 2

Ranks are numbered so that those that talk most are neighbours, on one node if it holds them:

    replicate > shard > context > tensor            from the outside in

| dimension | its ranks have | and exchange |
| --- | --- | --- |
| replicate | other rows, the same part of the weights (HSDP) | gradients of a block |
| shard | other rows, other parts of the weights (FSDP2) | weights and gradients of a block |
| context | other tokens of the same rows; parts of the weights like shard | keys and values |
| tensor | the same rows; other heads, other parts of each matrix | activations of a block |

Experts lie across: `expert` neighbouring ranks, of whichever of the inner three dimensions, have
other experts, and exchange tokens.
"""

from dataclasses import dataclass

import torch
from torch.distributed.device_mesh import DeviceMesh

from baiwen.errors import UserError


@dataclass(frozen=True)
class Layout:
    """Into how many parts each dimension is divided; what is left over is `shard`."""

    replicate: int = 1  # whole copies of weights and optimizer state
    context: int = 1  # neighbouring ranks that share each row
    tensor: int = 1  # neighbouring ranks that share each matrix
    expert: int = 1  # neighbouring ranks that share a layer's experts

    def check(self, ranks: int) -> None:
        """Raise UserError where `ranks` cannot be divided so."""
        product = self.replicate * self.context * self.tensor
        if ranks % product:
            raise UserError(
                f"parallel: replicate {self.replicate} x context {self.context} x tensor "
                f"{self.tensor} = {product} does not divide the {ranks} ranks there are: start "
                f"a multiple of {product} with torchrun --nproc-per-node, or change the knobs"
            )
        if ranks // self.replicate % self.expert:
            raise UserError(
                f"parallel.expert = {self.expert} does not divide the {ranks // self.replicate} "
                "ranks of a replica: start a multiple of it, or change the knob"
            )

    def shard(self, ranks: int) -> int:
        """How many shares of rows a replica has."""
        return ranks // (self.replicate * self.context * self.tensor)


@dataclass(frozen=True)
class Meshes:
    """The same ranks in the three ways that they are divided."""

    weights: DeviceMesh  # ("replicate", "shard", "tensor"); context is a part of shard
    experts: DeviceMesh  # ("replicate", "shard", "expert")
    rows: DeviceMesh  # ("share", "context", "tensor")
    peers: DeviceMesh  # ("rows", "tensor"): of `rows`, those that have other tokens

    @classmethod
    def of(cls, layout: Layout, kind: str, size: int) -> "Meshes":
        """The meshes of `size` ranks on devices of this kind; every rank calls it."""
        ranks = torch.arange(size)

        def mesh(names: tuple[str, str, str] | tuple[str, str], *sizes: int) -> DeviceMesh:
            return DeviceMesh(kind, ranks.view(sizes), mesh_dim_names=names)

        copies, tensor = layout.replicate, layout.tensor
        return cls(
            mesh(("replicate", "shard", "tensor"), copies, -1, tensor),
            mesh(("replicate", "shard", "expert"), copies, -1, layout.expert),
            mesh(("share", "context", "tensor"), -1, layout.context, tensor),
            mesh(("rows", "tensor"), -1, tensor),
        )
