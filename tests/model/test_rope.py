"""Rotary positions against the published values and the definition."""

import math
from dataclasses import replace

import pytest
import torch

from baiwen.errors import UserError
from baiwen.model import kernels, rope
from baiwen.model.positions import DualChunk, Yarn
from baiwen.model.rope import Mixed, Rope
from baiwen.model.sizes import SIZES

YARN = Yarn(factor=4.0, original_max_position_embeddings=32768)


@pytest.mark.parametrize(("head_dim", "low", "high"), [(128, 23, 40), (64, 11, 20)])
def test_yarn_ramps_between_the_published_dimensions(head_dim, low, high):
    assert rope.yarn_range(YARN, head_dim, 1e6) == (low, high)


def test_yarn_has_the_published_temperature():
    found = rope.of(replace(SIZES["7b"], rope_scaling=YARN))
    assert found.temperature == pytest.approx(1.138629, abs=1e-6)
    assert found.temperature**2 == pytest.approx(1.296477, abs=1e-6)


def test_yarn_keeps_fast_rotations_and_divides_slow_ones():
    config = replace(SIZES["7b"], max_position_embeddings=32768)
    plain = rope.rotary_frequencies(config, Rope())
    for asked in (config, replace(config, rope_scaling=YARN)):
        stretched = rope.rotary_frequencies(asked, rope.stretched(asked, 4.0))
        assert torch.equal(stretched[:24], plain[:24])
        torch.testing.assert_close(stretched[40:], plain[40:] / 4)
        middle = (31 - 23) / (40 - 23)
        torch.testing.assert_close(stretched[31], plain[31] * (1 - middle + middle / 4))


@pytest.mark.parametrize("factor", [0.5, 0.0, math.nan])
def test_a_factor_below_one_is_refused(factor):
    with pytest.raises(UserError, match="below 1"):
        rope.stretched(SIZES["7b"], factor)


def test_a_static_factor_is_that_of_any_length_and_only_its_own_temperature_is_given():
    config = replace(SIZES["7b"], rope_scaling=replace(YARN, attention_factor=1.5))
    assert rope.of(config) == rope.of(config, 100) == rope.of(config, 10**6) == Rope(4.0, 1.5)
    assert rope.stretched(config, 2.0) == Rope(2.0, pytest.approx(1 + 0.1 * math.log(2)))
    assert rope.of(SIZES["7b"], 10**6) == Rope()


def test_dual_chunks_take_the_temperature_of_the_length_alone():
    config = replace(SIZES["7b"], dual_chunk_attention_config=DualChunk(32768, 2048, 32768))
    assert rope.of(config) == rope.of(config, 32768) == Rope()
    assert rope.of(config, 4 * 32768) == Rope(1.0, pytest.approx(1.138629, abs=1e-6))


def test_a_static_factor_stays_beside_dual_chunks_and_the_higher_temperature_counts():
    chunks = DualChunk(32768, 2048, 32768)
    config = replace(SIZES["7b"], rope_scaling=YARN, dual_chunk_attention_config=chunks)
    static = Rope(4.0, pytest.approx(1.138629, abs=1e-6))
    assert rope.of(config) == rope.of(config, 100) == rope.of(config, 4 * 32768) == static
    assert rope.of(config, 31 * 32768) == Rope(4.0, pytest.approx(1 + 0.1 * math.log(31)))


def test_tokens_of_different_ropes_have_each_the_table_of_its_own_to_the_bit():
    config, places = SIZES["tiny"], torch.tensor([5, 900, 3, 77, 12])
    ropes = [Rope(), Rope(4.0, 1.1), Rope(1.0, 1.2), Rope(4.0, 1.1)]
    sequences = torch.tensor([1, 0, 2, 3, 3])
    mixed = Mixed.of(ropes, sequences)
    assert len(mixed.ropes) == 3
    for kind, together in enumerate(rope.tables(config, places[None], mixed)):
        assert together.shape == (1, 5, 1, config.head_dim)
        for token, sequence in enumerate(sequences.tolist()):
            alone = rope.tables(config, places[token][None, None], ropes[sequence])[kind]
            assert torch.equal(together[:, token : token + 1], alone)
    assert Mixed.of([Rope(2.0), Rope(2.0)], sequences % 2) == Rope(2.0)


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
