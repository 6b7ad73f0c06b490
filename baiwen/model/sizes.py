"""The published sizes as rows of a table, and three that a laptop trains in minutes.

The rows are the base models (spec 1.1, 1.2, 1.4): end of text as eos, `rms_norm_eps` 1e-5 from 14B
on. The small ones have the same form; their vocabulary has room for 4,096 regular tokens and the 22
control tokens, and is a multiple of 128.

    SIZES["0.5b"].hidden_size  # 896
    fitted(SIZES["tiny"], len(tokenizer))
"""

import math
from dataclasses import replace

from baiwen.model.config import ModelConfig

END_OF_TEXT = 151643  # of the published tokenizer
TINY_VOCABULARY = 4096 + 128
ROWS_OF_VOCABULARY = 128  # that an embedding's are a multiple of, as those of the published sizes


def _shape(
    hidden: int, layers: int, heads: int, kv_heads: int, intermediate: int, vocabulary: int
) -> ModelConfig:
    return ModelConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
    )


def _published(
    config: ModelConfig, context: int, eps: float = 1e-6, tied: bool = False
) -> ModelConfig:
    return replace(
        config,
        max_position_embeddings=context,
        rms_norm_eps=eps,
        tie_word_embeddings=tied,
        bos_token_id=END_OF_TEXT,
        eos_token_id=END_OF_TEXT,
    )


def _mixture(
    config: ModelConfig, experts: int, chosen: int, width: int, shared: int
) -> ModelConfig:
    return replace(
        config,
        num_experts=experts,
        num_experts_per_tok=chosen,
        moe_intermediate_size=width,
        shared_expert_intermediate_size=shared,
    )


def _small(layers: int, kv_heads: int, intermediate: int) -> ModelConfig:
    return replace(
        _shape(128, layers, 2, kv_heads, intermediate, TINY_VOCABULARY),
        max_position_embeddings=2048,
        rope_theta=10_000.0,
        tie_word_embeddings=True,
    )


_TINY = _small(layers=5, kv_heads=1, intermediate=384)

SIZES: dict[str, ModelConfig] = {
    "0.5b": _published(_shape(896, 24, 14, 2, 4864, 151936), 32768, tied=True),
    "1.5b": _published(_shape(1536, 28, 12, 2, 8960, 151936), 131072, tied=True),
    "3b": _published(_shape(2048, 36, 16, 2, 11008, 151936), 32768, tied=True),
    "7b": _published(_shape(3584, 28, 28, 4, 18944, 152064), 131072),
    "14b": _published(_shape(5120, 48, 40, 8, 13824, 152064), 131072, eps=1e-5),
    "32b": _published(_shape(5120, 64, 40, 8, 27648, 152064), 131072, eps=1e-5),
    "72b": _published(_shape(8192, 80, 64, 8, 29568, 152064), 131072, eps=1e-5),
    "a2.7b": _mixture(_published(_shape(2048, 24, 16, 16, 5632, 151936), 8192), 60, 4, 1408, 5632),
    "57b-a14b": _mixture(
        _published(_shape(3584, 28, 28, 4, 18944, 151936), 131072), 64, 8, 2560, 20480
    ),
    "micro": _small(layers=3, kv_heads=2, intermediate=128),  # for retrieval: mostly attention
    "tiny": _TINY,
    "tiny-moe": _mixture(_TINY, experts=8, chosen=2, width=128, shared=128),
}


def fitted(shape: ModelConfig, tokens: int) -> ModelConfig:
    """The shape with a row of its embedding for each of a tokenizer's tokens."""
    rows = math.ceil(tokens / ROWS_OF_VOCABULARY) * ROWS_OF_VOCABULARY
    return replace(shape, vocab_size=rows)
