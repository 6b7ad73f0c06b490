"""What a training run would take, by arithmetic and one short matmul: for `baiwen plan`.

figures(SIZES["0.5b"], 10**10, sequence_length=4096, ...)
# {"parameters": 494032768, ..., "memory": "9.3 GiB", "time": "about 41 days ..."}
"""

from baiwen import dist
from baiwen.dist import World
from baiwen.model import count
from baiwen.model.config import ModelConfig
from baiwen.train.meter import peak_flops

MFU = 0.4  # share of the matmul rate that a step is taken to reach
STATE_BYTES = 12  # a parameter's weight and two moments, fp32


def figures(
    config: ModelConfig,
    tokens: int | None,
    *,
    sequence_length: int,
    tokens_per_step: int,
    micro_tokens: int,
    recompute: bool,
    keep: int,
    save_bytes: int,
) -> dict[str, str | int]:
    """Parameters, FLOPs, memory, disk and time of training on `tokens`, on one device like this."""
    world = _here()
    weights = count.parameters(config)
    memory = count.training_memory(
        config, micro_tokens, checkpoint_blocks=recompute, itemsize=world.dtype.itemsize
    )
    state = STATE_BYTES * weights.total * (keep + 2)  # the best, and one being written
    told: dict[str, str | int] = {
        "parameters": weights.total,
        "parameters without embeddings": weights.non_embedding,
        "parameters active per token": weights.active,
        "memory": f"{_bytes(memory.total)} (weights, gradients, moments, activations)",
        "disk": f"{_bytes(save_bytes * weights.total)}, and {_bytes(state)} while it runs",
    }
    if tokens is None:
        return told
    flops = tokens * count.flops_per_token(config, sequence_length)
    rate = peak_flops(world)
    return told | {
        "steps": -(-tokens // tokens_per_step),
        "tokens": tokens,
        "FLOPs": f"{flops:.3g}",
        "time": f"{_duration(flops / (MFU * rate))} at {MFU:.0%} of this {world.device.type}'s "
        f"{rate / 1e9:,.0f} GFLOP/s",
    }


def _here() -> World:
    with dist.session() as world:
        return world


def _bytes(number: float) -> str:
    return f"{number / 2**30:.2f} GiB"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
