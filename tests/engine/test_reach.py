"""How far an engine reads: what is said of it, and which rope a length gets."""

import math
from dataclasses import replace

import pytest

from baiwen.engine.reach import Extend, Reach
from baiwen.errors import UserError
from baiwen.model import rope
from baiwen.model.config import DualChunk, ModelConfig, Yarn
from baiwen.model.rope import Rope


@pytest.fixture
def plain(config) -> ModelConfig:
    return replace(config, max_position_embeddings=32_768)


def million(config) -> ModelConfig:
    """What the 1M models' config.json says."""
    chunks = DualChunk(262_144, 8_192, 262_144)
    return replace(config, max_position_embeddings=1_010_000, dual_chunk_attention_config=chunks)


def test_without_more_a_model_reads_what_its_config_says(plain):
    reach = Reach.of(plain)
    assert (reach.config, reach.context) == (plain, 32_768)
    assert reach.rope(10) == reach.rope(32_768) == Rope()
    assert reach.told == "32,768 tokens, as trained"


def test_a_longer_context_is_yarns_temperature_and_dual_chunk_attention(plain):
    reach = Reach.of(plain, 131_072)
    assert reach.config.dual_chunk_attention_config == DualChunk(32_768, 2_048, 32_768)
    assert reach.lengths == (32_768, 65_536, 98_304, 131_072)
    assert [reach.rope(length).factor for length in (1, 40_000, 131_072)] == [1, 1, 1]
    found = [reach.rope(length).temperature for length in (1, 32_768, 32_769, 100_000)]
    assert found == pytest.approx([1, 1, 0.1 * math.log(2) + 1, 1.138629], abs=1e-6)  # spec 6.1
    assert "32,768 as trained" in reach.told and "factors of 1, 2, 3, 4" in reach.told


def test_yarn_alone_has_the_smallest_factor_that_holds_a_request(plain):
    reach = Reach.of(plain, 131_072, Extend(dca=False))
    assert reach.config == plain
    for length, factor in ((32_768, 1), (32_769, 2), (65_537, 3), (131_072, 4)):
        assert reach.rope(length) == rope.stretched(plain, factor)
    few = Reach.of(plain, 131_072, Extend(dca=False, factors=(4, 1)))
    assert [few.rope(length).factor for length in (32_768, 32_769)] == [1, 4]


def test_a_factor_that_is_asked_for_holds_as_it_stands(plain):
    reach = Reach.of(plain, 100_000, Extend(dca=False, factors=(4, 8)))
    assert reach.context == 100_000
    assert [reach.rope(length).factor for length in (10, 100_000)] == [4, 4]
    assert reach.answer(99_000) == 1_000 and reach.told.endswith("by YaRN, by a factor of 4")


def test_without_yarn_or_dca_positions_go_on_as_they_are(plain):
    reach = Reach.of(plain, 131_072, Extend(dca=False, rope="none"))
    assert (reach.config, reach.lengths) == (plain, (131_072,))
    assert reach.rope(131_072) == Rope() and "without an extension" in reach.told


def test_an_extension_without_a_context_is_the_reports_four_times(plain):
    assert Reach.of(plain, extend=Extend()).context == 131_072


def test_a_static_yarn_holds_for_every_length_unless_more_is_asked(plain):
    yarn = Yarn(4.0, 32_768, attention_factor=1.2, beta_fast=16.0)
    static = replace(plain, rope_scaling=yarn)
    reach = Reach.of(static)
    assert (reach.config, reach.context, reach.trained) == (static, 131_072, 32_768)
    assert reach.rope(5) == reach.rope(131_072) == rope.of(static) == Rope(4.0, 1.2)
    assert reach.told == "131,072 tokens by a static YaRN of factor 4, 32,768 as trained"
    assert "static YaRN" in Reach.of(static, 4_096).told
    more = Reach.of(static, 262_144, Extend(dca=False))
    assert more.rope(5) == Rope() and more.rope(200_000) == rope.stretched(more.config, 7)
    assert more.config.rope_scaling == Yarn(1.0, 32_768, beta_fast=16.0)


def test_the_1m_models_have_the_temperature_of_their_own_lengths(plain):
    config = million(plain)
    reach = Reach.of(config)
    assert (reach.config, reach.context, reach.trained) == (config, 1_010_000, 262_144)
    assert reach.rope(262_144) == Rope()
    assert reach.rope(1_000_000) == rope.of(config, 1_010_000)
    assert reach.rope(1_000_000).temperature == pytest.approx(1.1349, abs=1e-4)  # spec 6.2
    assert Reach.of(config, 2_000_000).rope(2_000_000) == rope.of(config, 2_000_000)


def test_an_answer_of_any_length_needs_no_larger_factor_than_its_prompt(plain):
    reach = Reach.of(plain, 100_000)
    assert reach.answer(100) == 32_668
    assert reach.answer(32_768 - 2_048) == 2_048
    assert reach.answer(32_700) == 65_536 - 32_700  # else it would end after 68 tokens
    assert reach.answer(99_999) == 1


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda config: Extend(factors=(0.5, 4)), "a factor of 0.5 is below 1"),
        (lambda config: Extend(factors=(math.nan,)), "a factor of nan is none"),
        (lambda config: Extend(rope="ntk"), "rope = 'ntk' is none of temperature, yarn, none"),
        (lambda config: Extend(local=0), "local = 0"),
        (lambda config: Reach.of(config, 1), "a context of 1 tokens has no room"),
        (lambda config: Reach.of(config, 99_999, Extend(factors=(1, 2))), "3.05 times the 32,768"),
        (lambda config: Reach.of(config, extend=Extend(local=32_768)), "is not above local_size"),
    ],
)
def test_what_cannot_be_is_told(plain, ask, told):
    with pytest.raises(UserError, match=told):
        ask(plain)
