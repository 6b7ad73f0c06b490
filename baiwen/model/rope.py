"""Rotary positions: plain, and stretched by YaRN (Peng et al., 2023; spec 6.1).

How the positions of a text become angles is its `Rope`: the factor by which slow rotations are
divided, and the temperature. A configuration with a static factor has one for all texts; for those
with dual chunk attention, and where a server chooses the factor, it depends on the text's length.
Nothing is stored: the tables of a batch are computed once a forward from its positions and shared
by all layers, in fp32 whatever the weights are.

    cosine, sine = tables(config, positions)                 # [B, T] -> two of [B, T, 1, D]
    cosine, sine = tables(config, positions, of(config, length=1_000_000))

B batch, T tokens, N of them with ropes of their own, D head size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from baiwen.errors import UserError
from baiwen.model.config import ModelConfig
from baiwen.model.positions import Yarn


@dataclass(frozen=True)
class Rope:
    """How the positions of one text become angles; texts that share keys share it."""

    factor: float = 1.0  # slow rotations are divided by it
    temperature: float = 1.0  # sqrt(1/t): queries and keys are multiplied by it


@dataclass(frozen=True)
class Mixed:
    """Texts of one batch that have different ropes: token t turns by ropes[numbers[t]]."""

    ropes: tuple[Rope, ...]
    numbers: Tensor  # [..., T] int64

    @classmethod
    def of(cls, ropes: Sequence[Rope], tokens: Tensor) -> "Rope | Mixed":
        """The rope of all texts, or those of the text that each token [..., T] belongs to."""
        different = list(dict.fromkeys(ropes))
        if len(different) == 1:
            return different[0]
        numbers = torch.tensor([different.index(rope) for rope in ropes], device=tokens.device)
        return cls(tuple(different), numbers[tokens.long()])


def of(config: ModelConfig, length: int | None = None) -> Rope:
    """The rope that the configuration asks for, for a text of `length` tokens, answer included.

    A static factor is the same for every length. Dual chunk attention takes from YaRN only the
    temperature, m = 0.1 ln(length / original) + 1 for what is longer than the original (spec 6.2).
    """
    yarn, chunks = config.rope_scaling, config.dual_chunk_attention_config
    rope = stretched(config, yarn.factor) if yarn else Rope()
    if chunks is None or length is None:
        return rope
    heat = temperature(length / chunks.original_max_position_embeddings)
    return replace(rope, temperature=max(rope.temperature, heat))


def stretched(config: ModelConfig, factor: float) -> Rope:
    """The rope that holds `factor` times what the model was trained at, by YaRN.

    Raises UserError for a factor below 1.
    """
    if not factor >= 1:
        raise UserError(f"a YaRN factor of {factor} is below 1; 1 leaves positions as they are")
    yarn = _yarn(config)
    given = yarn.attention_factor if factor == yarn.factor else None
    return Rope(factor, temperature(factor) if given is None else given)


def cooled(rope: Rope | Mixed) -> Rope | Mixed:
    """The same rotations at temperature 1."""
    if isinstance(rope, Rope):
        return replace(rope, temperature=1.0)
    return replace(rope, ropes=tuple(replace(one, temperature=1.0) for one in rope.ropes))


def temperature(factor: float) -> float:
    """0.1 ln(factor) + 1, which YaRN multiplies into queries and keys alike; at least 1."""
    return 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0


def tables(
    config: ModelConfig, positions: Tensor, rope: Rope | Mixed | None = None
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position's angles, [B, T, 1, D] fp32, the same for all heads.

    Without a rope it is `of(config)`. Element i turns with i + D/2: both halves hold the same
    angles, and the first half of the sine is negated, so that rotating is
    `x * cosine + swap_halves(x) * sine`. The temperature is multiplied into both, so that logits
    gain its square. With dual chunk attention, positions are those within their chunk.
    """
    rope = rope or of(config)
    if isinstance(rope, Rope):
        frequencies = rotary_frequencies(config, rope, positions.device)
        heat: float | Tensor = rope.temperature
    else:
        every = [rotary_frequencies(config, one, positions.device) for one in rope.ropes]
        frequencies = torch.stack(every)[rope.numbers][..., None, :]  # [B, T, 1, D/2]
        # Filled on the device: a copy from the host could not be recorded (`fixed.py`).
        heats = [frequencies.new_full((), one.temperature) for one in rope.ropes]
        heat = torch.stack(heats)[rope.numbers][..., None, None]
    angles = positions[..., None, None].float() * frequencies  # [B, T, 1, D/2]
    cosine, sine = angles.cos() * heat, angles.sin() * heat
    return torch.cat((cosine, cosine), -1), torch.cat((-sine, sine), -1)


def rotary_frequencies(
    config: ModelConfig, rope: Rope, device: torch.device | str = "cpu"
) -> Tensor:
    """Radians per token of each of the D/2 rotations, fp32."""
    size = config.head_dim
    exponents = torch.arange(0, size, 2, dtype=torch.float32, device=device) / size
    frequencies = 1.0 / config.rope_theta**exponents  # [D/2]
    if rope.factor == 1:
        return frequencies
    low, high = yarn_range(_yarn(config), size, config.rope_theta)
    # Equal bounds are one step, as in the reference, not a division by zero.
    steps = torch.arange(size // 2, dtype=torch.float32, device=device)
    ramp = ((steps - low) / (high - low if high > low else 0.001)).clamp(0, 1)
    return frequencies / rope.factor * ramp + frequencies * (1 - ramp)


def yarn_range(yarn: Yarn, head_dim: int, theta: float) -> tuple[int, int]:
    """The rotations between which YaRN goes from untouched (fast ones) to divided by its factor.

    dim(turns) = D ln(L / (2 pi turns)) / (2 ln theta), L the original length (spec 6.1).
    """

    def dimension(turns: float) -> float:
        length = yarn.original_max_position_embeddings
        return head_dim * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = math.floor(dimension(yarn.beta_fast)), math.ceil(dimension(yarn.beta_slow))
    return max(low, 0), min(high, head_dim - 1)


def _yarn(config: ModelConfig) -> Yarn:
    """What the file says of YaRN; otherwise its defaults, from the length of training on."""
    chunks, length = config.dual_chunk_attention_config, config.max_position_embeddings
    if chunks is not None:
        length = chunks.original_max_position_embeddings
    return config.rope_scaling or Yarn(1.0, length)
