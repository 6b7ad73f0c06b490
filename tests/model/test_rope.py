"""Rotary positions against the published values and the definition."""

import math
from dataclasses import replace

import pytest
import torch

from baiwen.model import kernels, rope
from baiwen.model.config import Yarn
from baiwen.model.sizes import SIZES

YARN = Yarn(factor=4.0, original_max_position_embeddings=32768)


@pytest.mark.parametrize(("head_dim", "low", "high"), [(128, 23, 40), (64, 11, 20)])
def test_yarn_ramps_between_the_published_dimensions(head_dim, low, high):
    assert rope.yarn_range(YARN, head_dim, 1e6) == (low, high)


def test_yarn_has_the_published_temperature():
    assert rope.yarn_temperature(YARN) == pytest.approx(1.138629, abs=1e-6)
    assert rope.yarn_temperature(YARN) ** 2 == pytest.approx(1.296477, abs=1e-6)


def test_yarn_keeps_fast_rotations_and_divides_slow_ones():
    config = SIZES["7b"]
    plain, one = rope.rotary_frequencies(config)
    stretched, _ = rope.rotary_frequencies(replace(config, rope_scaling=YARN))
    assert one == 1.0
    assert torch.equal(stretched[:24], plain[:24])
    torch.testing.assert_close(stretched[40:], plain[40:] / 4)
    middle = (31 - 23) / (40 - 23)
    torch.testing.assert_close(stretched[31], plain[31] * (1 - middle + middle / 4))


def test_scores_depend_on_the_distance_alone():
    config = SIZES["tiny"]
    q, k = torch.randn(2, 1, 1, 1, config.head_dim).unbind(0)
    scores = []
    for start in (0, 5, 400):
        tables = [rope.tables(config, torch.tensor([[start + place]])) for place in (7, 3)]
        rotated_q, _ = kernels.rotate(q, q, *tables[0])
        rotated_k, _ = kernels.rotate(k, k, *tables[1])
        scores.append((rotated_q * rotated_k).sum())
    torch.testing.assert_close(torch.stack(scores), scores[0].expand(3), atol=1e-4, rtol=1e-4)


def test_a_pair_turns_by_position_times_theta_to_the_minus_2i_over_d():
    config = SIZES["tiny"]
    size, pair, place = config.head_dim, 3, 11
    x = torch.zeros(1, 1, 1, size)
    x[..., pair] = 1.0
    turned, _ = kernels.rotate(x, x, *rope.tables(config, torch.tensor([[place]])))
    angle = place * config.rope_theta ** (-2 * pair / size)
    assert turned[0, 0, 0, pair] == pytest.approx(math.cos(angle), abs=1e-6)
    assert turned[0, 0, 0, pair + size // 2] == pytest.approx(math.sin(angle), abs=1e-6)
