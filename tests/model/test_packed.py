"""Packed linears against the dense ones: codes, products, whole models, and what is refused."""

import copy
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from baiwen.errors import UserError
from baiwen.model import codes, count, packed, weights
from baiwen.model.codes import decode, encode
from baiwen.model.config import ModelConfig
from baiwen.model.layout import Layout
from baiwen.model.native.build import library
from baiwen.model.packed import Packed, pack
from baiwen.model.paged import PagedCache, Step
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Block, Transformer

WEIGHT_ERROR = {12: 8e-4, 8: 8e-3, 6: 0.03, 4: 0.09}  # of normal weights, relative to their size
PRODUCT_ERROR = {12: 2e-4, 8: 5e-5, 6: 1e-2, 4: 1e-2}  # of activations as integers
LOGIT_ERROR = {"fp32": 1e-5, "bf16": 2e-3, "int8": 2e-2, "int4": 0.2}  # relative
TINY = replace(SIZES["tiny"], num_hidden_layers=2)
MIXTURE = replace(
    TINY,
    num_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=96,
    shared_expert_intermediate_size=160,
)

compiled = pytest.mark.skipif(library("linear") is None, reason="no C++ compiler")


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def error(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).norm() / truth.norm())


def model(config: ModelConfig) -> Transformer:
    made = Transformer(config)
    made.init_weights(seed=0)
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    return made


@pytest.mark.parametrize("bits", [12, 8, 6, 4])
@pytest.mark.parametrize("shape", [(48, 128), (33, 70), (1, 1)])
def test_codes_stand_for_the_weights(bits: int, shape: tuple[int, int]) -> None:
    weight = draw(*shape)
    found = decode(encode(weight, bits), bits, *shape)
    assert error(found, weight) < WEIGHT_ERROR[bits]


@pytest.mark.parametrize("bits", [12, 8, 6, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_packed_as_by_the_plain_form(
    bits: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.cat((draw(70, 200), torch.zeros(3, 200), draw(7, 200) * 1e-30)).to(dtype)
    found = encode(weight, bits)
    monkeypatch.setattr(codes, "library", lambda _name: None)
    plain = encode(weight, bits)
    if bits == 4:  # sums in another order: a tie may fall the other way
        ours, theirs = (decode(each, 4, 80, 200) for each in (found, plain))
        assert (found == plain).float().mean() > 0.99
        assert abs(error(ours, weight.float()) / error(theirs, weight.float()) - 1) < 1e-3
    else:
        assert torch.equal(found, plain)


def test_twelve_bits_hold_bf16_exactly_near_the_largest_of_a_group() -> None:
    """And what is smaller to within 1/2048 of that."""
    weight = draw(64, 256).bfloat16().float()
    found = decode(encode(weight, 12), 12, 64, 256)
    largest = weight.unflatten(1, (4, 64)).abs().amax(-1).repeat_interleave(64, 1)
    near = weight.abs() >= largest / 8
    assert torch.equal(found[near], weight[near])
    assert ((found - weight).abs() <= largest / 2048).all()


def test_four_bits_lose_less_than_plain_rounding_between_the_extremes() -> None:
    weight = draw(64, 256)
    groups = weight.unflatten(1, (-1, 64))
    low, high = groups.aminmax(dim=-1, keepdim=True)
    scale = (high - low) / 15
    plain = (((groups - low) / scale).round() * scale + low).flatten(1)
    assert error(decode(encode(weight, 4), 4, 64, 256), weight) < 0.95 * error(plain, weight)


@pytest.mark.parametrize("bits", [12, 8, 6, 4])
@pytest.mark.parametrize("kind", ["zeros", "constant", "tiny", "huge"])
def test_groups_without_a_usual_range_keep_their_weights(bits: int, kind: str) -> None:
    value = {"zeros": 0.0, "constant": -0.3, "tiny": 1e-20, "huge": 1e30}[kind]
    weight = torch.full((16, 64), value)
    assert torch.allclose(decode(encode(weight, bits), bits, 16, 64), weight, rtol=1e-2, atol=0)


@pytest.mark.parametrize("bits", [12, 8, 6, 4])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_broken_weight_breaks_its_own_group_and_no_other(bits: int, value: float) -> None:
    weight = draw(20, 128)
    whole = decode(encode(weight, bits), bits, 20, 128)
    weight[3, 70] = value
    found = decode(encode(weight, bits), bits, 20, 128)
    assert found[3, 64:].isnan().all()
    found[3, 64:] = whole[3, 64:]
    assert torch.equal(found, whole)


@pytest.mark.parametrize("bits", [12, 8, 6, 4])
@pytest.mark.parametrize("outputs, inputs", [(32, 128), (40, 100), (176, 64), (3, 5)])
def test_products_are_those_of_the_codes(bits: int, outputs: int, inputs: int) -> None:
    layer = Packed(draw(outputs, inputs), draw(outputs), bits)
    dense, bias = decode(layer.codes, bits, outputs, inputs), draw(outputs)
    for rows in (1, 2, 5, 6, 7, 8, 12, 13, 24, 70):
        x = draw(rows, inputs)
        assert error(layer(x), F.linear(x, dense, bias)) < PRODUCT_ERROR[bits]


@compiled
@pytest.mark.parametrize("bits", [6, 4])
def test_products_with_activations_of_few_bits_are_exact(bits: int) -> None:
    layer = Packed(draw(48, 200), None, bits)
    dense = decode(layer.codes, bits, 48, 200)
    x = (50 * draw(13, 200)).round().clamp(-126, 126)
    x[:, ::64] = 127.0  # so that every group's scale is 1
    assert error(layer(x), F.linear(x, dense)) < 1e-6


@compiled
@pytest.mark.parametrize("bits", [12, 8, 6, 4])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_largest_sums_do_not_overflow(bits: int, sign: float) -> None:
    weight = torch.full((16, 128), 2047 * sign)  # the largest code of 12 bits
    weight[:, ::64] *= -1  # else four bits would have a group's weights in its least
    layer, x = Packed(weight, None, bits), torch.full((1, 128), -sign)
    assert error(layer(x), F.linear(x, decode(layer.codes, bits, 16, 128))) < 1e-6


@compiled
@pytest.mark.parametrize("bits", [12, 8, 6, 4])
def test_a_row_is_the_same_to_the_bit_in_any_batch_and_on_any_number_of_threads(bits: int) -> None:
    layer, x = Packed(draw(80, 192), draw(80), bits), draw(70, 192)
    threads = torch.get_num_threads()
    whole = layer(x)
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for rows in (*range(1, 14), 29, 70):
                assert torch.equal(layer(x[:rows]), whole[:rows]), (count, rows)
    finally:
        torch.set_num_threads(threads)


@compiled
def test_activations_may_be_views_of_any_layout_and_dtype() -> None:
    layer, wide = Packed(draw(32, 64), None, 8), draw(6, 3, 128)
    for x in (wide[..., :64], wide[..., 64:], wide.transpose(0, 1)[:, ::2, ::2], wide[:0, :, :64]):
        assert torch.equal(layer(x), layer(x.contiguous()))
    assert layer(wide[..., :64].bfloat16()).dtype == torch.bfloat16


@compiled
@pytest.mark.parametrize("bits", [12, 8, 6, 4])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_broken_activation_breaks_its_own_row_and_no_other(bits: int, value: float) -> None:
    layer, x = Packed(draw(32, 128), None, bits), draw(3, 128)
    whole = layer(x)
    x[1, 70] = value
    found = layer(x)
    assert found[1].isnan().all()
    assert torch.equal(found[[0, 2]], whole[[0, 2]])


def test_an_outlier_costs_its_neighbours_less_than_bf16_would() -> None:
    layer, x = Packed(draw(32, 128), None, 12), draw(4, 128)
    x[:, 17] = 3000.0
    dense = decode(layer.codes, 12, 32, 128)
    truth = F.linear(x.double(), dense.double()).float()
    rounded = F.linear(x.bfloat16().float(), dense.bfloat16().float())
    assert error(layer(x), truth) < 0.5 * error(rounded, truth)


@pytest.mark.parametrize("bits", [12, 8, 6, 4])
def test_embeddings_are_rows_of_the_table(bits: int) -> None:
    table, ids = Packed(draw(50, 96), None, bits), torch.tensor([[0, 49, 7], [16, 15, 7]])
    assert torch.equal(table.rows(ids), decode(table.codes, bits, 50, 96)[ids])


def test_only_rows_of_the_table_are_looked_up() -> None:
    table = Packed(draw(50, 96), None, 8)
    assert torch.equal(
        table.rows(torch.tensor([7], dtype=torch.int32)), table.rows(torch.tensor([7]))
    )
    for wrong in (-1, 50, 2**40):
        with pytest.raises(IndexError):
            table.rows(torch.tensor([3, wrong]))


@pytest.mark.parametrize("config", [TINY, replace(TINY, tie_word_embeddings=False), MIXTURE])
@pytest.mark.parametrize("kind", list(LOGIT_ERROR))
def test_a_packed_model_answers_like_the_dense_one(
    config: ModelConfig, kind: packed.Weights
) -> None:
    dense = model(config)
    tokens = torch.arange(48).view(2, 24)
    with torch.no_grad():
        truth = dense.logits(tokens)
        pack(dense, kind)
        assert error(dense.logits(tokens), truth) < LOGIT_ERROR[kind]


@pytest.mark.parametrize("kind", ["bf16", "int8", "int4"])
def test_without_a_compiler_the_answers_are_the_same(
    kind: packed.Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    native, tokens = model(TINY), torch.arange(24)[None]
    plain = copy.deepcopy(native)
    pack(native, kind)
    truth = native.logits(tokens)
    monkeypatch.setattr(packed, "library", lambda _name: None)
    pack(plain, kind)
    assert error(plain.logits(tokens), truth) < (2e-2 if kind == "int4" else 1e-3)


def through_the_cache(
    answering: Transformer, tokens: Tensor, pieces: list[int], dtype: torch.dtype | None = None
) -> Tensor:
    """Hidden states [T, C] of tokens [T] that come in pieces."""
    dtype = dtype or answering.model.embed_tokens.weight.dtype
    cache = PagedCache(answering.config, 9, 16, "cpu", dtype)
    table, done, hidden = torch.randperm(9).int()[None].numpy(), 0, []
    with torch.no_grad():
        for count in pieces:
            layout = Layout.of(table, [done], [count], 16, "cpu")
            piece = tokens[None, done : done + count]
            hidden.append(answering(piece, cache=Step(cache, layout)).hidden[0])
            done += count
    return torch.cat(hidden)


@pytest.mark.parametrize("config", [TINY, MIXTURE, replace(TINY, intermediate_size=100)])
@pytest.mark.parametrize("kind", list(LOGIT_ERROR))
def test_with_a_cache_the_answers_are_those_of_a_full_forward(
    config: ModelConfig, kind: packed.Weights
) -> None:
    answering, tokens = model(config), torch.arange(100, 130)
    pack(answering, kind)
    with torch.no_grad():
        whole = answering(tokens[None]).hidden[0]
    assert error(through_the_cache(answering, tokens, [20, 1, 1, 3, 5]), whole) < 1e-4


@pytest.mark.parametrize("kind", list(LOGIT_ERROR))
def test_a_cache_of_codes_costs_little_more_than_one_of_bf16(kind: packed.Weights) -> None:
    answering, tokens, pieces = model(TINY), torch.arange(100, 230), [90, 1, 20, 1, 8, 10]
    pack(answering, kind)
    whole, half, coded = (
        answering.project(through_the_cache(answering, tokens, pieces, dtype))
        for dtype in (torch.float32, torch.bfloat16, torch.int8)
    )
    assert 0 < error(half, whole) < error(coded, whole) < 5 * error(half, whole) < 0.05


@compiled
def test_fused_blocks_keep_the_codes_that_others_keep() -> None:
    fused, tokens = model(TINY), torch.arange(100, 130)
    pack(fused, "int8")
    apart = copy.deepcopy(fused)
    for block in apart.model.layers:
        assert isinstance(block, Block)
        block.fused = None
    found, plain = (through_the_cache(x, tokens, [20, 1, 9], torch.int8) for x in (fused, apart))
    assert error(found, plain) < 2e-3  # a rounding that falls the other way moves a code by one


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_of_any_dtype_has_a_cache(dtype: torch.dtype) -> None:
    answering, tokens = model(TINY).to(dtype), torch.arange(100, 130)
    pack(answering, "int8")
    whole = answering(tokens[None]).hidden[0]
    assert error(through_the_cache(answering, tokens, [20, 1, 9]), whole) < 1e-2


@compiled
def test_dense_blocks_of_whole_panels_are_fused() -> None:
    for config, fused in [(TINY, 2), (MIXTURE, 0), (replace(TINY, intermediate_size=100), 0)]:
        answering = model(config)
        pack(answering, "int8")
        assert sum(block.fused is not None for block in answering.model.layers) == fused


@compiled
@pytest.mark.parametrize("config", [TINY, MIXTURE, replace(TINY, tie_word_embeddings=False)])
@pytest.mark.parametrize("kind", list(LOGIT_ERROR))
def test_the_bytes_of_packed_weights_are_those_that_are_counted(
    config: ModelConfig, kind: packed.Weights
) -> None:
    holding = model(config)
    pack(holding, kind)
    held = {tensor.data_ptr(): tensor.nbytes for tensor in holding.state_dict().values()}
    assert sum(held.values()) == count.stored(config, kind)


def test_a_tied_table_is_kept_once() -> None:
    tied = model(TINY)
    pack(tied, "int8")
    assert tied.lm_head is not None
    assert tied.model.embed_tokens.table is tied.lm_head
    held = {tensor.data_ptr(): tensor.nbytes for tensor in tied.state_dict().values()}
    assert 8 * sum(held.values()) < 8.6 * sum(p.numel() for p in model(TINY).parameters())


def test_a_bf16_model_keeps_its_dtype_for_the_cache_and_computes_in_fp32() -> None:
    half = model(TINY).bfloat16()
    pack(half, "int8")
    assert half.model.embed_tokens.weight.dtype == torch.bfloat16
    assert half.logits(torch.arange(5)[None]).dtype == torch.float32


def test_a_model_of_fp32_weights_keeps_its_layers() -> None:
    dense = model(TINY).bfloat16()
    names = list(dense.state_dict())
    pack(dense, "fp32")
    assert {name: x.dtype for name, x in dense.state_dict().items()} == dict.fromkeys(
        names, torch.float32
    )


def test_what_cannot_be_packed_is_refused() -> None:
    dense = model(TINY)
    with pytest.raises(UserError, match=re.escape("'int3' is not one of fp32, bf16, int8, int4")):
        pack(dense, "int3")  # type: ignore[arg-type]
    pack(dense, "fp32")  # which leaves it as it is
    pack(dense, "int8")
    with pytest.raises(UserError, match="packed already; load it again"):
        pack(dense, "int8")


def test_a_packed_model_is_not_saved(tmp_path: Path) -> None:
    dense = model(TINY)
    pack(dense, "int8")
    with pytest.raises(UserError, match="a packed model cannot be saved"):
        weights.save(dense.state_dict(), dense.config, tmp_path)
