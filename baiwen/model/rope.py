"""Rotary positions: plain, and stretched by YaRN with a static factor (spec 6.1).

Nothing is stored: the tables of a batch are computed once a forward from its positions and shared
by all layers, in fp32 whatever the weights are.

    cosine, sine = tables(config, positions)      # [B, T] -> two of [B, T, 1, D]

B batch, T tokens, D head size.
"""

import math

import torch
from torch import Tensor

from baiwen.model.config import ModelConfig, Yarn


def tables(config: ModelConfig, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position's angles, [B, T, 1, D] fp32, the same for all heads.

    Element i turns with i + D/2: both halves hold the same angles, and the first half of the sine
    is negated, so that rotating is `x * cosine + swap_halves(x) * sine`. YaRN's attention
    temperature is multiplied into both, so that logits gain its square.
    """
    frequencies, temperature = rotary_frequencies(config, positions.device)
    angles = positions[..., None, None].float() * frequencies  # [B, T, 1, D/2]
    cosine, sine = angles.cos() * temperature, angles.sin() * temperature
    return torch.cat((cosine, cosine), -1), torch.cat((-sine, sine), -1)


def rotary_frequencies(
    config: ModelConfig, device: torch.device | str = "cpu"
) -> tuple[Tensor, float]:
    """Radians per token of each of the D/2 rotations, and the attention temperature."""
    size = config.head_dim
    exponents = torch.arange(0, size, 2, dtype=torch.float32, device=device) / size
    frequencies = 1.0 / config.rope_theta**exponents  # [D/2]
    yarn = config.rope_scaling
    if yarn is None:
        return frequencies, 1.0
    low, high = yarn_range(yarn, size, config.rope_theta)
    # Equal bounds are one step, as in the reference, not a division by zero.
    steps = torch.arange(size // 2, dtype=torch.float32, device=device)
    ramp = ((steps - low) / (high - low if high > low else 0.001)).clamp(0, 1)
    stretched = frequencies / yarn.factor
    return stretched * ramp + frequencies * (1 - ramp), yarn_temperature(yarn)


def yarn_range(yarn: Yarn, head_dim: int, theta: float) -> tuple[int, int]:
    """The rotations between which YaRN goes from untouched (fast ones) to divided by its factor.

    dim(turns) = D ln(L / (2 pi turns)) / (2 ln theta), L the original length (spec 6.1).
    """

    def dimension(turns: float) -> float:
        length = yarn.original_max_position_embeddings
        return head_dim * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = math.floor(dimension(yarn.beta_fast)), math.ceil(dimension(yarn.beta_slow))
    return max(low, 0), min(high, head_dim - 1)


def yarn_temperature(yarn: Yarn) -> float:
    """0.1 ln(factor) + 1, which YaRN multiplies into queries and keys alike."""
    if yarn.attention_factor is not None:
        return yarn.attention_factor
    return 0.1 * math.log(yarn.factor) + 1.0 if yarn.factor > 1 else 1.0
