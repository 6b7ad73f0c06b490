"""Dual chunk attention on a GPU: the same model, the same pages, the same states."""

import numpy as np
import pytest
import torch

from baiwen.model import rope
from baiwen.model.config import ModelConfig
from baiwen.model.layout import Layout
from baiwen.model.paged import PagedCache, Step
from baiwen.model.positions import DualChunk
from baiwen.model.rope import Rope
from baiwen.model.transformer import Transformer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

CONFIG = ModelConfig(
    vocab_size=96, hidden_size=128, intermediate_size=128, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, rope_theta=100.0, initializer_range=0.2,
    dual_chunk_attention_config=DualChunk(64, 20, 64),
)  # fmt: skip


@pytest.fixture
def _exact():
    kept = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = kept


def states(device, steps):
    """Hidden states of two texts in steps, on a device."""
    model = Transformer(CONFIG).eval()
    model.init_weights(0)
    model.to(device)
    cache = PagedCache(CONFIG, 40, 16, device, torch.float32)
    tables = np.random.default_rng(0).permutation(40).astype(np.int32).reshape(2, 20)
    done, found = [0, 0], []
    for counts in steps:
        layout = Layout.of(tables, done, counts, 16, device, [rope.of(CONFIG, 250), Rope()])
        tokens = torch.arange(sum(counts), device=device)[None] * 7 % 96
        with torch.no_grad():
            found.append(model(tokens, cache=Step(cache, layout)).hidden[0].cpu())
        done = [before + count for before, count in zip(done, counts, strict=True)]
    return torch.cat(found)


@pytest.mark.usefixtures("_exact")
def test_prompts_and_tokens_by_chunks_are_those_of_a_cpu():
    steps = [[100, 20], [130, 1], [1, 1], [5, 1], [1, 12]]
    torch.testing.assert_close(states("cuda", steps), states("cpu", steps), atol=2e-3, rtol=2e-3)


@pytest.mark.usefixtures("_exact")
def test_a_model_without_a_cache_attends_by_chunks_as_on_a_cpu():
    model, tokens = Transformer(CONFIG), torch.arange(200)[None] * 7 % 96
    model.init_weights(0)
    with torch.no_grad():
        on_cpu = model(tokens).hidden
        on_gpu = model.cuda()(tokens.cuda()).hidden.cpu()
    torch.testing.assert_close(on_gpu, on_cpu, atol=2e-3, rtol=2e-3)
