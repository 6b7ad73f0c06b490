"""The engine on a GPU: the same code, the same answers."""

import pytest
import torch

from baiwen.engine.engine import Engine
from baiwen.engine.sampler import Sampling
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.tokenizer import bpe

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

PROMPTS = ["hello", "hello world " * 40, "1 + 1 ="]


@pytest.fixture(scope="module")
def engines():
    tokenizer = bpe.train(["hello world this is a text", "1 + 1 = 2"] * 20, 270)
    config = ModelConfig(
        vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.4,
        tie_word_embeddings=True, eos_token_id=tokenizer.end_of_turn,
    )  # fmt: skip
    models = [Transformer(config) for _ in range(2)]
    for model in models:
        model.init_weights(0)
    kept = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield [Engine(models[0], tokenizer, lookup=2), Engine(models[1].cuda(), tokenizer, lookup=2)]
    torch.backends.cuda.matmul.allow_tf32 = kept


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_tokens=20, stop_ids=()),
        Sampling(max_tokens=20, stop_ids=(), temperature=0.8, top_p=0.9, seed=1, n=3),
        Sampling(max_tokens=20, stop_ids=(), temperature=1.0, seed=1, repetition_penalty=1.2),
        Sampling(max_tokens=20, temperature=1.0, top_k=9, seed=1, min_tokens=5, prompt_logprobs=1),
    ],
)
def test_a_gpu_answers_as_a_cpu(engines, sampling):
    on_cpu, on_gpu = (engine.generate(PROMPTS, sampling) for engine in engines)
    assert [done.ids for done in on_gpu] == [done.ids for done in on_cpu]
    for one, other in zip(on_gpu, on_cpu, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)
        scores = [[token.logprob for token in done.prompt[1:]] for done in (one, other)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_a_gpu_embeds_as_a_cpu(engines):
    on_cpu, on_gpu = (engine.embed(PROMPTS) for engine in engines)
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=1e-3, rtol=1e-3)
