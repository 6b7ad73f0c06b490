"""A mixture whose experts two ranks share, on tokens that choose unevenly.

python tests/train/spread_experts.py OUT       # OUT/NAME-RANK: a rank's output and gradients
"""

import sys
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from shared_rows import fork

from baiwen import dist
from baiwen.model.mixture import Weights
from baiwen.train.expert import by_ranks

RANKS, N, K, E, C, WIDTH = 2, 40, 2, 6, 16, 24
CHOOSABLE = {  # experts that a token of each rank may choose; 3 to 5 are the second rank's
    "any": [range(6), range(6)],
    "one_rank": [range(3), range(3)],  # the second one gets nothing
    "one_way": [range(3, 6), [3, 5]],  # the second one gets all, its expert 4 from afar only
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def drawn(name, rank):
    """Tokens of a rank, their weights, and what they choose."""
    generator = torch.Generator().manual_seed(rank)
    x, slopes = torch.randn(2, N + rank, C, generator=generator)
    choosable = torch.tensor(CHOOSABLE[name][rank])
    chosen = choosable[torch.rand(len(x), len(choosable), generator=generator).topk(K).indices]
    return x, torch.rand(len(x), K, generator=generator), chosen, slopes


def experts():
    """All of them."""
    generator = torch.Generator().manual_seed(9)
    shapes = (E, WIDTH, C), (E, WIDTH, C), (E, C, WIDTH)
    return [torch.randn(shape, generator=generator) / 4 for shape in shapes]


def results(mix, name, rank, weights, dtype):
    """Output and gradients of the tokens of a rank, and gradients of `weights`."""
    x, weighs, chosen, slopes = drawn(name, rank)
    inputs = [x.requires_grad_(), weighs.requires_grad_(), *(w.requires_grad_() for w in weights)]
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        out = mix(x, chosen, weighs, Weights(*weights))
    grads = torch.autograd.grad(out, inputs, slopes.to(out.dtype))
    names = ("x", "weights", "gate", "up", "down")
    return {"out": out.detach()} | dict(zip(names, grads, strict=True))


def work(out):
    """Every case, twice."""
    layout = dist.Layout(expert=RANKS)
    with dist.session("cpu", "float32", threads=1, timeout=60, layout=layout) as world:
        mix = partial(by_ranks, group=world.meshes.experts.get_group("expert"))
        mine = [w.chunk(RANKS)[world.rank].clone() for w in experts()]
        for name in CHOOSABLE:
            for dtype in DTYPES:
                for turn in ("first", "second"):
                    found = results(mix, name, world.rank, mine, dtype)
                    save_file(found, out / f"{name}-{dtype}-{turn}-{world.rank}")


if __name__ == "__main__":
    fork(RANKS, work, Path(sys.argv[1]))
