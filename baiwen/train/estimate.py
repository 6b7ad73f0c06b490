"""What a training run would take, by arithmetic and one short matmul: for `baiwen plan`.

figures(SIZES["0.5b"], 10**10, sequence_length=4096, ...)
# {"parameters": 494032768, ..., "memory": "9.30 GiB: 7.36 weights, ...", "time": "41.0 days ..."}
"""

import torch

from baiwen import dist
from baiwen.dist import World
from baiwen.model import count
from baiwen.model.blocked import QUERIES
from baiwen.model.config import ModelConfig
from baiwen.model.kernels import BLOCKED
from baiwen.train.losses import chunk_tokens
from baiwen.train.meter import peak_flops, peak_memory

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
    memory = _memory(config, world, sequence_length, micro_tokens, recompute)
    state = STATE_BYTES * weights.total * (keep + 2)  # the best, and one being written
    told: dict[str, str | int] = {
        "parameters": weights.total,
        "parameters without embeddings": weights.non_embedding,
        "parameters active per token": weights.active,
        "memory": f"{_bytes(sum(memory.values()))}: "
        + ", ".join(f"{part / 2**30:.2f} {name}" for name, part in memory.items()),
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


def _memory(
    config: ModelConfig, world: World, sequence_length: int, micro_tokens: int, recompute: bool
) -> dict[str, int]:
    """Bytes of one process at its peak, by what holds them."""
    size, on_cpu = world.dtype.itemsize, world.device.type == "cpu"
    held = count.training_memory(config, micro_tokens, checkpoint_blocks=recompute, itemsize=size)
    # Of a chunk its logits, fp32 probabilities and their gradient; of the head a cast and an fp32
    # gradient; of the hidden states a gradient (`losses.head_loss`).
    chunk = min(micro_tokens, chunk_tokens(config.vocab_size, world.device))
    head = config.vocab_size * config.hidden_size
    logits = chunk * config.vocab_size * (2 * size + 4) + head * (size + 4)
    logits += micro_tokens * config.hidden_size * size
    # The probabilities that `blocked.attend` keeps of each layer, where documents fill the rows.
    layers = 1 if recompute else config.num_hidden_layers
    kept = on_cpu and world.dtype == torch.float32 and sequence_length >= BLOCKED[0]
    keys = min(sequence_length, BLOCKED[1]) // 2 + QUERIES // 2  # that a query sees, on average
    attention = layers * config.num_attention_heads * micro_tokens * keys * 4 if kept else 0
    return {
        "weights, gradients, moments": held.total - held.activations,
        "activations": held.activations,
        "attention": attention,
        "logits": logits,
        "the program itself": peak_memory(world.device) if on_cpu else 0,
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
