"""Decoding by CUDA graphs against the same engine without them, on one GPU."""

import time
from dataclasses import replace

import pytest
import torch

from baiwen.engine.engine import Engine
from baiwen.engine.reach import Extend
from baiwen.engine.sampler import Sampling
from baiwen.model import fixed
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.tokenizer import bpe

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

DEVICE = "cuda"
GREEDY = Sampling(max_tokens=40, stop_ids=())
DRAWN = Sampling(max_tokens=30, stop_ids=(), temperature=0.9, top_p=0.95, seed=3, n=3)
PROMPTS = [[5, 6, 7], [8] * 500, [9, 10] * 40, list(range(5, 200))]
MIXTURE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
           "shared_expert_intermediate_size": 64}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return bpe.train(["hello world this is a text", "1 + 1 = 2"] * 20, 270)


@pytest.fixture
def build(tokenizer):
    """A model, and an engine on it."""

    def built(graphs=True, dtype=torch.float32, shape=None, **knobs):
        config = ModelConfig(
            vocab_size=320, hidden_size=128, intermediate_size=192, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, initializer_range=0.1,
            tie_word_embeddings=True, eos_token_id=tokenizer.end_of_turn,
            max_position_embeddings=1024, **(shape or {}),
        )  # fmt: skip
        model = Transformer(config).requires_grad_(False)
        model.init_weights(0)
        model.to(DEVICE, dtype)
        if knobs.pop("draft", False):
            knobs["draft"] = Transformer(replace(config, num_hidden_layers=1)).requires_grad_(False)
            knobs["draft"].init_weights(0)
            knobs["draft"].to(DEVICE, dtype)
        room = {"cache_tokens": 8192, "sequences": 12} | knobs
        return Engine(model, tokenizer, graphs=graphs, **room)

    return built


@pytest.fixture(autouse=True)
def _exact():
    kept = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = kept


def assert_alike(found, expected, tolerance=1e-3):
    assert [done.ids for done in found] == [done.ids for done in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=tolerance)


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"sequences": 3, "cache_tokens": 1024},
        {"kv": "int8"},
        {"draft": True},
        {"context": 4096, "extend": Extend(local=64)},
        {"context": 4096, "extend": Extend(dca=False)},
    ],
    ids=["plain", "preempted", "int8", "draft", "dca", "yarn"],
)
def test_recorded_steps_answer_as_launched_ones(build, knobs, sampling):
    launched, recorded = build(graphs=False, **knobs), build(**knobs)
    for _ in range(2):  # the second time every graph is there
        found = recorded.generate(PROMPTS, sampling)
        assert_alike(found, launched.generate(PROMPTS, sampling))
    assert recorded.runner.graphs.recorded


@pytest.mark.parametrize("shape", [{}, MIXTURE], ids=["dense", "mixture"])
def test_recorded_steps_of_bf16_score_as_launched_ones(build, shape):
    if shape and torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("grouped matmuls make the host wait before compute capability 9.0")
    launched, recorded = (
        build(graphs=graphs, dtype=torch.bfloat16, shape=shape) for graphs in (False, True)
    )
    sampling = replace(GREEDY, max_tokens=2)
    answers = (engine.generate(PROMPTS, sampling) for engine in (recorded, launched))
    for one, other in zip(*answers, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=0.05)
    assert recorded.runner.graphs.recorded


def test_a_recording_follows_weights_that_change_in_place_under_autocast(build):
    launched, recorded = build(graphs=False), build()
    for _ in range(2):
        with torch.autocast(DEVICE, torch.bfloat16):
            found, expected = (
                engine.generate(PROMPTS[:1], replace(GREEDY, max_tokens=3))[0].logprobs
                for engine in (recorded, launched)
            )
        assert found == pytest.approx(expected, abs=0.05)
        for engine in (launched, recorded):
            engine.model.model.embed_tokens.weight.mul_(-1)
            engine.reset_cache()
    assert recorded.runner.graphs.recorded == 1


def test_all_shapes_are_recorded_at_once_and_then_none_in_traffic(build):
    engine = build(dtype=torch.bfloat16)
    told = engine.runner.capture()
    shapes = len(engine.runner.graphs.shapes())
    assert told.startswith(f"decodes by {shapes} CUDA graphs")
    engine.generate(PROMPTS, DRAWN)
    torch.cuda.synchronize()
    before = torch.cuda.memory_reserved()
    engine.generate(PROMPTS, DRAWN)
    assert engine.runner.graphs.recorded == shapes
    assert torch.cuda.memory_reserved() == before


def test_a_step_that_makes_the_host_wait_is_told_of_and_launched(build, monkeypatch, capsys):
    launched, recorded = build(graphs=False), build()
    stream, tokens = torch.cuda.current_stream(), fixed.tokens
    monkeypatch.setattr(fixed, "tokens", lambda told: tokens(told) + 0 * int(told.sum()))
    assert_alike(recorded.generate(PROMPTS, GREEDY), launched.generate(PROMPTS, GREEDY))
    assert recorded.runner.graphs.recorded == 0
    assert torch.cuda.current_stream() == stream
    assert capsys.readouterr().err.count("without CUDA graphs") == 1


def test_a_recorded_step_takes_less_time(build):
    seconds = []
    for graphs in (False, True):
        engine = build(graphs=graphs, dtype=torch.bfloat16)
        engine.generate(PROMPTS[:1], GREEDY)
        begun = time.perf_counter()
        engine.generate(PROMPTS[:1], replace(GREEDY, max_tokens=200))
        seconds.append(time.perf_counter() - begun)
    assert seconds[1] < seconds[0]
