"""A rank of a cluster that is not there: models without data, spread by the program's own rules.

    python tests/train/simulated.py 64 '[["72b", {"tensor": 4}], ...]' found.json

Each case is a size and knobs of `[parallel]`, on a fake process group whose collectives do nothing.
Of each it writes how many numbers rank 0 holds, and of the last sizes the FLOPs that are counted.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from baiwen.dist import Meshes, World
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.train.parallel import ContextParallel, shard


def main(ranks: int, cases: list[tuple[str, dict[str, int]]], out: Path) -> None:
    """Write what rank 0 holds in each case."""
    store = FakeStore()
    torch.distributed.init_process_group("fake", store=store, rank=0, world_size=ranks)
    out.write_text(json.dumps([held(ranks, *case) for case in cases]))


def held(ranks: int, size: str, knobs: dict[str, int]) -> int:
    """Numbers of the weights that rank 0 has, padding left out."""
    parallel = ContextParallel(**knobs)
    device = torch.device("meta")
    with device:
        model = Transformer(SIZES[size])
    meshes = Meshes.of(parallel.layout, "cpu", ranks)
    world = World(0, ranks, 0, device, torch.bfloat16, parallel.layout, meshes)
    shard(model, parallel, world)
    return sum(local(parameter) for parameter in model.parameters())


def local(parameter: torch.Tensor) -> int:
    """Numbers of what is here."""
    return (parameter.to_local() if isinstance(parameter, DTensor) else parameter).numel()


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3]))
