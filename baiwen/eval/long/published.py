"""What the reports of Qwen2.5 and Qwen2.5-1M measured on RULER, by length (spec 11.3).

    of(config)       -> ("Qwen2.5-7B-Instruct", {4096: 0.967, ..., 131072: 0.551})
    of(tiny)         -> None

Means over the 13 tasks, official metric, with YaRN and dual chunk attention beyond the trained
length. A model is known by its shape, the 1M ones by their chunks, too: the figures stand beside
any model of that shape.
"""

from baiwen.model.config import ModelConfig
from baiwen.model.sizes import SIZES

LENGTHS = (4096, 8192, 16_384, 32_768, 65_536, 131_072)
SHAPE = ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads")
# size, whether it is the 1M model -> percent at each of LENGTHS, as far as it was reported
RULER = {
    ("7b", False): (96.7, 95.1, 93.7, 89.4, 82.3, 55.1),
    ("14b", False): (97.7, 96.8, 95.9, 93.4, 86.7, 78.1),
    ("32b", False): (96.9, 97.1, 95.5, 95.5, 90.3, 82.0),
    ("72b", False): (97.7, 97.2, 97.7, 96.5, 93.0, 88.4),
    ("7b", True): (None, None, None, None, 90.4, 84.4),
    ("14b", True): (97.5, 97.1, 94.6, 94.9, 94.9, 92.2),
}


def of(config: ModelConfig) -> tuple[str, dict[int, float]] | None:
    """The published model of this shape, and its accuracy at each length that was reported."""
    million = config.dual_chunk_attention_config is not None
    for (size, is_million), percents in RULER.items():
        same = all(getattr(SIZES[size], name) == getattr(config, name) for name in SHAPE)
        if same and is_million == million:
            told = {at: found / 100 for at, found in zip(LENGTHS, percents, strict=True) if found}
            return f"Qwen2.5-{size.upper()}-Instruct{'-1M' * million}", told
    return None
