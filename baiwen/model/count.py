"""Parameters, FLOPs and bytes of a model, by arithmetic alone (no torch).

parameters(SIZES["0.5b"]).total              # 494,032,768
flops_per_token(SIZES["0.5b"], 4096)         # forward and backward
inference_memory(SIZES["0.5b"], context=131072, kv="int8").cache
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from baiwen.model.config import ModelConfig

KEPT = {"fp32": 4, "bf16": 2, "int8": 1}  # bytes of a number in the cache
BITS = {"bf16": 12, "int8": 8, "int4": 4}  # of a packed weight
TABLE_BITS = BITS | {"int4": 6}  # of the embedding and the head, on which most hangs
PIECE = 256  # rows of a step that pass a feed-forward together: native/block.h


@dataclass(frozen=True)
class Parameters:
    """Numbers of weights; a tied head counts once."""

    total: int
    non_embedding: int  # without the embedding and an untied head
    active: int  # of `total`, what one token passes through: k of E experts
    matmul: int  # of `active`, what multiplies a token: no look-up, norm or bias, but a tied head


@dataclass(frozen=True)
class Held:
    """Bytes of an engine on a CPU while it reads a prompt."""

    weights: int
    cache: int
    activations: int

    @property
    def total(self) -> int:
        """Their sum."""
        return self.weights + self.cache + self.activations


def parameters(config: ModelConfig) -> Parameters:
    """Count the weights; exact for the seven dense sizes and both mixtures (spec 1.1, 1.4)."""
    hidden, vocabulary = config.hidden_size, config.vocab_size
    keys = config.num_key_value_heads * config.head_dim
    attention = 2 * hidden * hidden + 2 * hidden * keys  # matrices of q, o, k, v
    small = hidden + 2 * keys + 2 * hidden  # biases of q, k, v and two norms
    feed_forward = [_feed_forward(config, i) for i in range(config.num_hidden_layers)]
    layers = config.num_hidden_layers * (attention + small)
    body = layers + sum(every for every, _ in feed_forward) + hidden
    active = layers + sum(used for _, used in feed_forward) + hidden
    norms_and_biases = config.num_hidden_layers * small + hidden
    multiplied = active - norms_and_biases
    if config.reward:  # its head takes one token of each answer, next to nothing
        head, tables = hidden * hidden + 2 * hidden + 1, vocabulary * hidden
    else:
        head, tables = 0, vocabulary * hidden * (1 if config.tie_word_embeddings else 2)
        multiplied += vocabulary * hidden
    return Parameters(
        total=body + head + tables,
        non_embedding=body + head,
        active=active + head + tables,
        matmul=multiplied,
    )


def _feed_forward(config: ModelConfig, layer: int) -> tuple[int, int]:
    """Weights of the feed-forward of one layer, and those that one token uses."""
    hidden = config.hidden_size
    if not config.sparse(layer):
        dense = 3 * hidden * config.intermediate_size
        return dense, dense
    expert = 3 * hidden * config.moe_intermediate_size
    shared = 3 * hidden * config.shared_expert_intermediate_size + hidden  # and its gate
    always = shared + config.num_experts * hidden  # and the router
    return always + config.num_experts * expert, always + config.num_experts_per_tok * expert


def flops_per_token(config: ModelConfig, sequence_length: int) -> float:
    """FLOPs of one token's forward and backward, recomputation left out.

    6 * (weights that multiply a token) + 6 * layers * hidden_size * sequence_length: each weight
    costs 2 FLOPs forward and 4 backward; a query meets half the sequence on average (causal), at
    4 * hidden_size FLOPs a key forward (scores and values) and twice that backward.
    """
    attention = config.num_hidden_layers * config.hidden_size * sequence_length
    return 6.0 * (parameters(config).matmul + attention)


def cache_bytes_per_token(config: ModelConfig, itemsize: int = 2) -> int:
    """Bytes of keys and values that one token leaves in the cache of all layers.

    Numbers of one byte are codes: those of a head have an fp32 scale.
    """
    head = config.head_dim * itemsize + (4 if itemsize == 1 else 0)
    return 2 * config.num_hidden_layers * config.num_key_value_heads * head


def inference_memory(
    config: ModelConfig,
    context: int,
    *,
    weights: Literal["fp32", "bf16", "int8", "int4"] = "bf16",
    kv: Literal["fp32", "bf16", "int8"] = "bf16",
    step: int = 512,
    sparse: bool = False,
    tile: int = 48,
    block: int = 16,
) -> Held:
    """Bytes to read a prompt of `context` tokens, `step` of them at a time, with packed weights.

    `weights` are exact, and so is the cache, in blocks of `block` tokens. Activations are an
    estimate, of what lives at once: the residual, rotary tables, a norm's output, q, k, v and what
    attention gathers of a step; a feed-forward's pieces. With `sparse`, a table of scores by
    blocks of `tile` queries and keys. Nothing is as large as the square of the context.
    """
    step = min(step, context)
    cached = -(-context // block) * block * cache_bytes_per_token(config, KEPT[kv])
    activations = _step(config, step, weights)
    if sparse:
        activations += _choosing(config, step, context, tile)
    return Held(stored(config, weights), cached, activations)


def stored(config: ModelConfig, weights: str) -> int:
    """Bytes of the weights as `packed.pack` keeps them; exact."""
    hidden, keys = config.hidden_size, config.num_key_value_heads * config.head_dim
    outputs = hidden + 2 * keys
    bias = 4 * (outputs if weights == "fp32" else -(-outputs // 16) * 16)
    attention = _linear(outputs, hidden, weights) + bias + _linear(hidden, hidden, weights)
    feed_forward = sum(_kept_feed_forward(config, i, weights) for i in _layers(config))
    table = _linear(config.vocab_size, hidden, weights, TABLE_BITS)
    norms = 4 * hidden * (2 * config.num_hidden_layers + 1)
    tables = table * (1 if config.tie_word_embeddings else 2)
    return config.num_hidden_layers * attention + feed_forward + norms + tables


def _kept_feed_forward(config: ModelConfig, layer: int, weights: str) -> int:
    """Bytes of a feed-forward; routers and experts are fp32."""
    hidden, width, rest = config.hidden_size, config.intermediate_size, 0
    if config.sparse(layer):
        width = config.shared_expert_intermediate_size
        every = config.num_experts * (3 * config.moe_intermediate_size + 1)
        rest = 4 * hidden * (every + 1)  # and the gate of the shared expert
    return _linear(2 * width, hidden, weights) + _linear(hidden, width, weights) + rest


def _linear(outputs: int, inputs: int, weights: str, bits: Mapping[str, int] = BITS) -> int:
    """Bytes of a matrix: fp32, or panels of 16 outputs by groups of 64 inputs (native/codes.h)."""
    if weights == "fp32":
        return 4 * outputs * inputs
    scales = 2 if bits[weights] == 4 else 1  # bf16; 4 bits have least weights too
    group = 64 * 16 * bits[weights] // 8 + 16 * 2 * scales
    return -(-outputs // 16) * -(-inputs // 64) * group


def _step(config: ModelConfig, step: int, weights: str) -> int:
    """Bytes that live at once while `step` tokens pass a block, and the last one's logits."""
    hidden, keys = config.hidden_size, config.num_key_value_heads * config.head_dim
    chunks = config.dual_chunk_attention_config is not None
    turned = hidden + 2 * hidden if chunks else 0  # a turned query, outputs of two more parts
    tables = config.head_dim * (6 if chunks else 2)
    heads = 2 * hidden + 2 * keys  # a norm's output and q, k, v before they are turned
    attending = 4 * hidden + config.num_attention_heads  # q, outputs thrice, sums
    tokens = step * (hidden + tables + heads + attending + turned)
    rows = step if weights == "fp32" else min(step, PIECE)
    width = max(_width(config, layer) for layer in _layers(config))
    pieces = rows * (hidden + 3 * width)
    codes = max(step * hidden, rows * width) // (4 if weights == "int4" else 2)  # 8 bits, 16
    return 4 * (tokens + pieces + codes + config.vocab_size)


def _width(config: ModelConfig, layer: int) -> int:
    """Numbers of a token in the middle of a feed-forward."""
    if not config.sparse(layer):
        return config.intermediate_size
    experts = config.num_experts_per_tok * config.moe_intermediate_size
    return experts + config.shared_expert_intermediate_size


def _choosing(config: ModelConfig, step: int, context: int, tile: int) -> int:
    """Bytes of the scores of all query heads by blocks, thrice: by parts, together, as shares."""
    return 3 * 4 * config.num_attention_heads * -(-step // tile) * -(-context // tile)


def _layers(config: ModelConfig) -> range:
    return range(config.num_hidden_layers)
