"""Few tokens by weights where they lie, against PyTorch's products and blocks without a cache."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baiwen.model import few
from baiwen.model.config import ModelConfig
from baiwen.model.layout import Layout
from baiwen.model.moe import MoE
from baiwen.model.native.build import library
from baiwen.model.paged import PagedCache, Step
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Block, Transformer

BLOCK = 16
SHAPE = replace(SIZES["tiny"], num_hidden_layers=2)
MIXTURE = replace(
    SIZES["tiny-moe"], num_hidden_layers=2, initializer_range=0.1, mlp_only_layers=(1,)
)
SHAPES = [SHAPE, MIXTURE, replace(MIXTURE, norm_topk_prob=True, num_experts_per_tok=3)]

pytestmark = pytest.mark.skipif(library("few") is None, reason="no C++ compiler")


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@torch.no_grad()
def layer(inputs: int, outputs: int) -> nn.Linear:
    made = nn.Linear(inputs, outputs)
    made.weight.copy_(draw(outputs, inputs))
    made.bias.copy_(draw(outputs))
    return made


@torch.no_grad()
def model(shape: ModelConfig = SHAPE) -> Transformer:
    made = Transformer(shape)
    made.init_weights(seed=0)
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):
            parameter.copy_(draw(len(parameter)))
    return made


@torch.no_grad()
def answer(
    model: Transformer, tokens: Tensor, counts: list[int], kept: torch.dtype = torch.float32
) -> Tensor:
    """Logits [T, V] of one sequence that is read in pieces."""
    return read(model, tokens, counts, kept)[0]


@torch.no_grad()
def read(
    model: Transformer, tokens: Tensor, counts: list[int], kept: torch.dtype = torch.float32
) -> tuple[Tensor, list[Tensor]]:
    """The logits, and what routers chose, [L, 1, ., k] of each piece."""
    cache = PagedCache(model.config, 8, BLOCK, "cpu", kept)
    table, found, chosen = np.array([[3, 1, 6, 2]], np.int32), [], []
    for count, end in zip(counts, np.cumsum(counts), strict=True):
        layout = Layout.of(table, [end - count], [count], BLOCK, "cpu")
        out = model(tokens[None, end - count : end], cache=Step(cache, layout))
        found.append(model.project(out.hidden)[0])
        if out.routing is not None:
            chosen.append(out.routing.experts)
    return torch.cat(found), chosen


@pytest.mark.parametrize("rows", [1, 3, 4, 6, few.MOST])
@pytest.mark.parametrize("inputs, outputs", [(64, 48), (100, 37), (3, 1)])
@torch.no_grad()
def test_products_are_those_of_pytorch(rows: int, inputs: int, outputs: int) -> None:
    x, by = draw(2, rows, inputs)[:1], layer(inputs, outputs)
    truth = F.linear(x.double(), by.weight.double(), by.bias.double()).float()
    assert few.fits(x, by)
    torch.testing.assert_close(few.linear(x, by), truth, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_token_has_the_same_bits_in_any_batch_and_on_any_threads() -> None:
    x, by, threads = draw(41, 256), layer(256, 700), torch.get_num_threads()
    together = few.linear(x, by)
    try:
        torch.set_num_threads(2)
        assert torch.equal(few.linear(x, by), together)
    finally:
        torch.set_num_threads(threads)
    for size in (1, 2, 3, 5):
        assert torch.equal(torch.cat([few.linear(some, by) for some in x.split(size)]), together)


@pytest.mark.parametrize("counts", [[33] + [1] * 7, [5] * 8])
@pytest.mark.parametrize("shape", SHAPES, ids=["dense", "mixture", "normalised"])
@torch.no_grad()
def test_a_sequence_read_in_few_tokens_has_the_logits_of_a_whole_one(
    shape: ModelConfig, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the same experts."""
    whole, tokens = model(shape), torch.arange(40) * 7 % SHAPE.vocab_size
    truth = whole(tokens[None])
    monkeypatch.delattr(MoE, "forward")
    found, chosen = read(whole, tokens, counts)
    expected = whole.project(truth.hidden)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    if truth.routing is not None:
        assert torch.equal(torch.cat(chosen, 2), truth.routing.experts)


@torch.no_grad()
def test_a_token_of_a_mixture_has_the_same_bits_in_any_batch() -> None:
    whole, tokens = model(MIXTURE), torch.arange(40) * 7 % SHAPE.vocab_size
    alone = answer(whole, tokens, [33] + [1] * 7)
    assert torch.equal(answer(whole, tokens, [33, 7]), alone)


@torch.no_grad()
def test_a_broken_token_of_a_mixture_breaks_no_other() -> None:
    whole, tokens = model(MIXTURE), torch.arange(2, 8)
    truth = answer(whole, tokens, [6])
    whole.model.embed_tokens.weight[7] = torch.nan  # the last one
    found = answer(whole, tokens, [6])
    assert found[5].isnan().all()
    assert torch.equal(found[:5, :7], truth[:5, :7])


def test_a_mixture_of_other_weights_computes_for_itself() -> None:
    whole, tokens = model(MIXTURE), torch.arange(8)
    truth = answer(whole, tokens, [8])
    block = whole.model.layers[0]
    assert isinstance(block, Block) and isinstance(block.mlp, MoE)
    up = block.mlp.experts.up_proj
    up.data = up.mT.contiguous().mT
    torch.testing.assert_close(answer(whole, tokens, [8]), truth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kept", [torch.bfloat16, torch.float16, torch.float64])
@torch.no_grad()
def test_a_cache_may_keep_another_dtype_than_the_weights(kept: torch.dtype) -> None:
    whole, tokens = model(), torch.arange(8) * 7 % SHAPE.vocab_size
    found = answer(whole, tokens, [3, *[1] * 5], kept)
    torch.testing.assert_close(found, whole.logits(tokens[None])[0], rtol=0.02, atol=0.02)


def test_what_trains_or_is_no_plain_layer_computes_for_itself() -> None:
    class Adapted(nn.Linear):
        pass

    x, by = draw(2, 64), layer(64, 32)
    assert not few.fits(x, by)  # its gradient is asked for
    with torch.no_grad():
        assert few.fits(x, by)
        assert not few.fits(x, by, Adapted(64, 32))
        assert not few.fits(draw(few.MOST + 1, 64), by)
        turned = nn.Linear(64, 32)
        turned.weight.data = draw(64, 32).T
        assert not few.fits(x, turned)
        assert not few.fits(x, by.double())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not few.fits(x, layer(64, 32))
