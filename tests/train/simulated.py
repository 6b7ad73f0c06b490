"""A rank of a cluster that is not there: models without data, spread by the program's own rules.

    python tests/train/simulated.py OUT 64 '[["72b", {"tensor": 4}]]' '[["tiny", {}]]'

A case is a size and knobs of `[parallel]`, on a fake process group whose collectives do nothing. Of
the first cases it writes how many numbers rank 0 holds; the second are models with data, in fp32:
of those the bytes that a forward and backward pass of 64 tokens moves, by collective. Both lie in
OUT/found.json.
"""

import json
import sys
from collections import Counter
from pathlib import Path

import torch
import torch.distributed
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from baiwen.dist import Meshes, World
from baiwen.model.documents import Documents
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.train.context import Share
from baiwen.train.parallel import ContextParallel, shard

Case = tuple[str, dict[str, int]]
TOKENS = 64


class Moved(TorchDispatchMode):
    """Bytes of the larger side of collectives, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op.namespace == "c10d":
            tensors = [leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)]
            self.bytes[str(op).split(".")[1]] += max(tensor.nbytes for tensor in tensors)
        return op(*args, **(kwargs or {}))


def main(ranks: int, held_cases: list[Case], moved_cases: list[Case], out: Path) -> None:
    """Write what rank 0 holds and moves."""
    store = FakeStore()
    torch.distributed.init_process_group("fake", store=store, rank=0, world_size=ranks)
    found = [held(ranks, *case) for case in held_cases]
    out.write_text(json.dumps([found, [moved(ranks, *case) for case in moved_cases]]))


def held(ranks: int, size: str, knobs: dict[str, int]) -> int:
    """Numbers of the weights that rank 0 has, padding left out."""
    parallel = ContextParallel(**knobs)
    device = torch.device("meta")
    with device:
        model = Transformer(SIZES[size])
    meshes = Meshes.of(parallel.layout, "cpu", ranks)
    world = World(0, ranks, device, torch.bfloat16, parallel.layout, meshes)
    shard(model, parallel, world)
    return sum(local(parameter) for parameter in model.parameters())


def moved(ranks: int, size: str, knobs: dict[str, int]) -> dict[str, int]:
    """Bytes of collectives of one forward and backward pass."""
    parallel = ContextParallel(**knobs)
    meshes = Meshes.of(parallel.layout, "cpu", ranks)
    world = World(0, ranks, torch.device("cpu"), torch.float32, parallel.layout, meshes)
    model = shard(Transformer(SIZES[size]), parallel, world)
    whole = Documents.of([[TOKENS * parallel.layout.context]])
    documents = Share.of_whole(whole, (slice(0, TOKENS),)) if parallel.layout.context > 1 else whole
    tokens, positions = torch.zeros(1, TOKENS, dtype=torch.int64), torch.arange(TOKENS)[None]
    with Moved() as seen:
        model(tokens, positions=positions, documents=documents).hidden.sum().backward()
    return dict(seen.bytes)


def local(parameter: torch.Tensor) -> int:
    """Numbers of what is here."""
    return (parameter.to_local() if isinstance(parameter, DTensor) else parameter).numel()


if __name__ == "__main__":
    out, ranks, held_cases, moved_cases = sys.argv[1:]
    main(int(ranks), json.loads(held_cases), json.loads(moved_cases), Path(out) / "found.json")
