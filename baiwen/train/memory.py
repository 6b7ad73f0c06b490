"""Bytes of one training process at its peak, by what holds them, by arithmetic alone (no torch).

    peak(SIZES["7b"], Spread(shard=8), 16384, CUDA, recompute=True)
    # {"weights": 3807808256, "moments": 7615616512, "gathered weights": 5758340096, ...}

Weights, gradients and AdamW's two moments are fp32 and divided as `spread.py` says. A step is
fullest at one of two moments: where the backward pass begins, with all that the layers keep, or
where it ends, with all gradients. With several micro-batches a step the gradients of those before
are there at the first moment too.

What a layer keeps of a token for its backward pass: the residual stream twice in fp32, and in the
precision of the matmuls the outputs of both norms, the turned queries and keys, the values,
attention's output, and of the feed-forward gate, up and what is made of them. A mixture keeps this
of the shared expert and of each chosen one, and what it sent to those and got back. With activation
checkpointing: only a residual a layer, and all of one layer at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from baiwen.model.config import ModelConfig
from baiwen.train.spread import Spread, Unit, units


@dataclass(frozen=True)
class Kernels:
    """How a rank computes, as far as it is seen in memory."""

    itemsize: int = 2  # bytes of a number in the matmuls
    width: int = 4  # tensors that a feed-forward keeps: gate, up, silu(gate), their product
    passing: int = 3  # as wide, in its backward pass: their gradients
    chunk: int = 1024  # tokens whose logits exist at a time: `losses.chunk_tokens`
    sharded: bool = True  # by FSDP2, which casts what it gathers; else autocast keeps its casts
    reuses: bool = True  # what is freed of activations for gradients; malloc finds no such holes


CUDA = Kernels()


def peak(
    shape: ModelConfig,
    spread: Spread,
    tokens: int,
    kernels: Kernels = CUDA,
    *,
    recompute: bool = False,
    accumulate: bool = True,
) -> dict[str, int]:
    """Bytes of the rank that holds most, by what holds them.

    tokens: of the micro-batch of the ranks that share its rows. accumulate: whether a step has
    several micro-batches.
    """
    root, *blocks = units(shape)
    own = {unit.name: unit.copies * unit.numbers(spread) for unit in (root, *blocks)}
    every, table = sum(own.values()), 4 * root.weights[0].gathered(spread)  # the embedding's
    gathered, formed = _units(root, blocks, spread, kernels)
    begins = {
        "gradients": table + formed + (4 * every if accumulate else 0),  # the head's comes first
        "activations": activations(shape, spread, tokens, kernels, recompute=recompute),
        "logits": _logits(shape, spread, tokens, kernels),
    }
    # A tied table has two gradients, of the head and of the look-up, and then their sum.
    whole = 4 * root.gathered(spread) + (2 * table if shape.tie_word_embeddings else 0)
    stays = 4 * (every if kernels.sharded or accumulate else every - own["root"])
    sends = 4 * root.gathered(spread) if kernels.sharded else 0
    ends = {"gradients": stays + whole + sends + formed, "activations": 0, "logits": 0}
    state = {"weights": 4 * every, "moments": 8 * every, "gathered weights": gathered}
    if not kernels.reuses:  # but for the loss's, where the tables' other gradients come
        begins["logits"] -= min(begins["logits"], (2 if shape.tie_word_embeddings else 1) * table)
        return state | {name: max(begins[name], ends[name]) for name in begins}
    return state | max(begins, ends, key=lambda moment: sum(moment.values()))


def activations(
    shape: ModelConfig,
    spread: Spread,
    tokens: int,
    kernels: Kernels = CUDA,
    *,
    recompute: bool = False,
) -> int:
    """Bytes that the layers keep of a micro-batch, and what passes through the last of them."""
    kinds = [unit for unit in units(shape) if unit.name in ("dense", "sparse")]
    kept = [_kept(shape, unit, spread, kernels) for unit in kinds]
    passing = max(_passing(shape, unit, spread, kernels) for unit in kinds)
    if recompute:
        stream = 4 * shape.hidden_size * (shape.num_hidden_layers + 1) / spread.tensor
        total = stream + max(kept)
    else:
        total = sum(unit.copies * each for unit, each in zip(kinds, kept, strict=True))
    return round(tokens / spread.context * (total + passing))


def _units(root: Unit, blocks: Sequence[Unit], spread: Spread, kernels: Kernels) -> tuple[int, int]:
    """Bytes of gathered or cast weights, and of gradients on their way.

    The root is gathered in fp32 for the whole of a micro-batch. Of a block there are the weights in
    use, those that come next, once as they arrive and once in place, its gradients, and these as
    they are sent, in fp32.
    """
    if not kernels.sharded:
        casts = sum(unit.copies * unit.total for unit in blocks)
        return kernels.itemsize * casts if kernels.itemsize < 4 else 0, 0
    largest = sum(
        max((unit.gathered(spread) for unit in blocks if unit.name in names), default=0)
        for names in (("dense", "sparse"), ("experts",))
    )
    weights = 4 * root.gathered(spread) + 3 * kernels.itemsize * largest
    return weights, (kernels.itemsize + 4) * largest


def _logits(shape: ModelConfig, spread: Spread, tokens: int, kernels: Kernels) -> int:
    """Bytes of the loss: of a chunk logits, fp32 probabilities and their gradient; of the head a
    cast, and a product that is added to its gradient; of the hidden states a gradient.
    """
    size, rows = kernels.itemsize, -(-shape.vocab_size // spread.tensor)
    here = tokens // spread.context
    if shape.reward:  # of a token an answer
        return here * shape.hidden_size * 4
    chunk = min(here, kernels.chunk) * rows * (2 * size + 4)
    head = 2 * size * rows * shape.hidden_size if size < 4 else 0
    return chunk + head + here * shape.hidden_size * 4


def _kept(shape: ModelConfig, unit: Unit, spread: Spread, kernels: Kernels) -> float:
    """Bytes that one layer keeps of one token of a rank's rows for the backward pass."""
    hidden, keys = shape.hidden_size, shape.num_key_value_heads * shape.head_dim
    size, parts = kernels.itemsize, spread.tensor
    stream = 2 * 4 * hidden / parts
    heads = (2 * hidden + 2 * keys) / parts + (hidden / parts if spread.context > 1 else 0)
    if unit.name == "dense":
        wide = kernels.width * shape.intermediate_size / parts
        return stream + size * (2 * hidden + heads + wide)
    # A rank takes its own tokens through the mixture, a tensor rank its part of them.
    chosen = shape.num_experts_per_tok
    width = shape.shared_expert_intermediate_size + chosen * shape.moe_intermediate_size
    around = (3 + 2 * chosen) * hidden  # the norm's output, the shared expert's, what is sent
    mixture = (size * (kernels.width * width + around) + 2 * 4 * shape.num_experts) / parts
    return stream + size * (hidden + heads) + mixture


def _passing(shape: ModelConfig, unit: Unit, spread: Spread, kernels: Kernels) -> float:
    """Bytes of the gradients inside a layer at its fullest: of the stream twice, of its widths."""
    width = shape.intermediate_size
    if unit.name == "sparse":
        width = max(
            shape.shared_expert_intermediate_size,
            shape.num_experts_per_tok * shape.moe_intermediate_size,
        )
    return (2 * 4 * shape.hidden_size + kernels.passing * kernels.itemsize * width) / spread.tensor
