"""Dual chunk attention against the matrix of relative positions, written out pair by pair."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from baiwen.model import dca, dual, fused, rope
from baiwen.model.config import ModelConfig
from baiwen.model.dca import Turns
from baiwen.model.documents import Documents
from baiwen.model.layout import Layout
from baiwen.model.native.build import library
from baiwen.model.packed import pack
from baiwen.model.paged import PagedCache, Step
from baiwen.model.positions import DualChunk
from baiwen.model.rope import Rope
from baiwen.model.transformer import Transformer

CHUNKS = DualChunk(chunk_size=16, local_size=5, original_max_position_embeddings=16)
EVERY = [CHUNKS, replace(CHUNKS, cap="paper"), DualChunk(6, 3, 6), DualChunk(8, 1, 8)]
CONFIG = ModelConfig(
    vocab_size=96, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, rope_theta=100.0,
    dual_chunk_attention_config=CHUNKS,
)  # fmt: skip
BLOCK = 4


def built(config=CONFIG):
    """A model whose logits hang on positions."""
    model = Transformer(config).eval().requires_grad_(False)
    model.init_weights(0)
    for parameter in model.parameters():
        parameter.mul_(8 if parameter.ndim > 1 else 1)
    return model


def table(angles, theta=100.0, size=16):
    """Cosines and sines of places [T] in float64, as `rope.tables` lays them out."""
    turns = angles.double()[:, None, None] * theta ** (-torch.arange(size // 2).double() / size * 2)
    cosine, sine = turns.cos(), turns.sin()
    return torch.cat((cosine, cosine), -1), torch.cat((-sine, sine), -1)


def turned(x, places):
    """x [T, H, D] at places [T], in float64."""
    cosine, sine = table(places)
    return x * cosine + x.roll(8, -1) * sine


def distances(chunks, length):
    """What query i takes for its distance to keys 0 ... i, by the table of spec 6.2."""
    s, cap = chunks.length, chunks.chunk_size - (chunks.cap == "paper")
    stands = [{0: i % s, 1: min(i % s + s, cap)} for i in range(length)]
    return [
        [stands[i].get(i // s - j // s, cap) - j % s for j in range(i + 1)] for i in range(length)
    ]


def brute(q, k, v, rows):
    """q [T, H, D] over k and v [T, K, D], none of them turned: query i is rows[i][j] from key j."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    found = []
    for query, row in zip(q, rows, strict=True):
        asked = turned(query.expand(len(row), -1, -1), torch.tensor(row))  # [S, H, D]
        scores = (asked * k[: len(row)]).sum(-1) / q.shape[-1] ** 0.5
        found.append(torch.einsum("sh,shd->hd", scores.softmax(0), v[: len(row)]))
    return torch.stack(found)


def drawn(length, seed=0):
    """q [T, 4, D], k and v [T, 2, D] in float64."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(length, heads, 16) for heads in (4, 2, 2)]
    return [3 * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def exact(chunks, length):
    """The turns of places 0 ... length - 1 in float64."""
    further = chunks.farthest - torch.arange(length) % chunks.length
    return Turns(chunks.length, table(further.clamp(max=chunks.length)), table(further))


def test_the_toy_matrix_of_the_report():
    rows = distances(DualChunk(5, 3, 8), 8)
    assert rows[7] == [5, 4, 5, 4, 3, 2, 1, 0]
    assert rows[4] == [5, 4, 2, 1, 0]


@pytest.mark.parametrize("chunks", EVERY)
def test_pairs_within_the_local_size_keep_their_distance_and_none_is_beyond_the_cap(chunks):
    for i, row in enumerate(distances(chunks, 5 * chunks.chunk_size)):
        near = row[-chunks.local_size - 1 :]
        assert near == list(range(len(near)))[::-1], i
        assert min(row) >= 0
        assert max(row) <= chunks.farthest


@pytest.mark.parametrize("chunks", [*EVERY, DualChunk(5, 3, 8)])
def test_turning_queries_further_is_the_matrix_of_distances(chunks):
    q, k, v = drawn(45)
    within = torch.arange(45) % chunks.length
    found = dual.attend(
        turned(q, within)[None], turned(k, within)[None], v[None], None,
        Turns(chunks.length, *(tuple(x[None] for x in pair) for pair in
              (exact(chunks, 45).succ, exact(chunks, 45).inter))),
    )  # fmt: skip
    torch.testing.assert_close(found[0], brute(q, k, v, distances(chunks, 45)), atol=1e-12, rtol=0)


@pytest.mark.parametrize("chunks", EVERY)
def test_pieces_merged_are_the_matrix_of_distances(chunks):
    q, k, v = drawn(45)
    within, turning = torch.arange(45) % chunks.length, exact(chunks, 45)
    asked, keys = turned(q, within), turned(k, within)

    def over(q, _pages, place, first, last, _lists):
        scores = torch.einsum("tkgd,skd->kgts", q.unflatten(1, (2, -1)), keys[first:last]) / 4
        seen = torch.arange(first, last) <= torch.arange(place, place + len(q))[:, None]
        scores = scores.masked_fill(~seen, -torch.inf)
        out = torch.einsum("kgts,skd->tkgd", scores.softmax(-1), v[first:last]).flatten(1, 2)
        return out, scores.logsumexp(-1).flatten(0, 1)

    truth = brute(q, k, v, distances(chunks, 45))
    for first, last in ((0, 45), (3, 31), (44, 45), (22, 33)):
        found = dca.prefill(asked[first:last], None, first, turning.rows(slice(first, last)), over)
        torch.testing.assert_close(found.double(), truth[first:last], atol=1e-6, rtol=0)


@pytest.mark.parametrize("chunks", EVERY)
def test_up_to_the_plain_length_distances_are_the_true_ones(chunks):
    rows = distances(chunks, chunks.plain + 8)
    assert rows[: chunks.plain] == [list(range(i, -1, -1)) for i in range(chunks.plain)]
    assert rows[chunks.plain + 1] != list(range(chunks.plain + 1, -1, -1))


@pytest.mark.parametrize("of", [Rope(), Rope(3.0, 1.4)])
def test_turns_are_those_from_the_place_in_the_chunk_on_without_temperature(of):
    places, x = torch.arange(60), torch.randn(60, 1, 16)
    turning = dca.turns(CONFIG, places, of)
    within = fused.rotate(x, *rope.tables(CONFIG, places % 11, of))
    for kind, stands in (("succ", (places % 11 + 11).clamp(max=16)), ("inter", places * 0 + 16)):
        truth = fused.rotate(x, *rope.tables(CONFIG, stands, of))
        torch.testing.assert_close(turning.turn(within, kind), truth, atol=1e-5, rtol=0)


def test_pieces_are_cut_where_chunks_end():
    found = dca.pieces(5, 13, 4)
    assert [(p.queries, p.place) for p in found] == [
        (slice(0, 3), 5), (slice(3, 7), 8), (slice(7, 8), 12)
    ]  # fmt: skip
    assert found[0].parts == (("intra", slice(4, 8)), ("succ", slice(0, 4)))
    assert found[2].parts == (
        ("intra", slice(12, 13)), ("succ", slice(8, 12)), ("inter", slice(0, 8))
    )  # fmt: skip


def test_without_chunks_there_is_one_piece():
    (piece,) = dca.pieces(5, 13, None)
    assert (piece.queries, piece.place, piece.parts) == (slice(0, 8), 5, (("intra", slice(0, 13)),))


def cached(model, rows, counts, ropes=None, blocks=64, cache=None):
    """Hidden states of texts that are read beside each other in steps: counts[step][text]."""
    size = [-(-len(ids) // BLOCK) for ids in rows]
    order = torch.randperm(blocks, generator=torch.Generator().manual_seed(0)).int().numpy()
    tables = np.zeros((len(rows), max(size)), np.int32)
    for row, many, start in zip(tables, size, np.cumsum([0, *size]), strict=False):
        row[:many] = order[start : start + many]
    cache = cache or PagedCache(model.config, blocks, BLOCK, "cpu", torch.float32)
    done, found = [0] * len(rows), [[] for _ in rows]
    for step in counts:
        on = [n for n, count in enumerate(step) if count]
        layout = Layout.of(
            tables[on], [done[n] for n in on], [step[n] for n in on], BLOCK, "cpu",
            [ropes[n] for n in on] if ropes else (),
        )  # fmt: skip
        tokens = torch.cat([rows[n][done[n] : done[n] + step[n]] for n in on])[None]
        hidden = model(tokens, cache=Step(cache, layout)).hidden[0]
        for n, part in zip(on, hidden.split([step[n] for n in on]), strict=True):
            found[n].append(part)
            done[n] += step[n]
    return [torch.cat(parts) for parts in found]


@pytest.fixture(params=[True, False], ids=["native", "plain"])
def _forms(request, monkeypatch):
    """Attention over pages in C++, and in plain PyTorch."""
    if not request.param:
        monkeypatch.setattr("baiwen.model.paged_cpu.fits", lambda *_: False)
        monkeypatch.setattr("baiwen.model.flash.reads", lambda *_: False)


@pytest.mark.usefixtures("_forms")
@pytest.mark.parametrize("chunks", EVERY)
def test_a_prompt_in_odd_chunks_and_then_tokens_is_the_whole_forward(chunks):
    model = built(replace(CONFIG, dual_chunk_attention_config=chunks))
    ids = torch.arange(50) * 7 % 96
    whole = model(ids[None]).hidden[0]
    steps = [[9], [23], [1], [3], [8], [1], [1], [1], [1], [1], [1]]
    (found,) = cached(model, [ids], steps, [rope.of(model.config, 50)])
    torch.testing.assert_close(found, whole, atol=1e-4, rtol=1e-4)


def test_the_whole_forward_is_that_of_the_matrix(monkeypatch):
    model, ids = built(), torch.arange(50) * 7 % 96
    whole = model(ids[None]).hidden[0]

    def matrix(q, k, v, _documents, turning):
        q, k = (turned(x[0].double(), -(torch.arange(50) % 11)) for x in (q, k))
        return brute(q, k, v[0].double(), distances(CHUNKS, 50))[None].float()

    monkeypatch.setattr(dual, "attend", matrix)
    torch.testing.assert_close(model(ids[None]).hidden[0], whole, atol=1e-4, rtol=1e-4)


def test_only_what_is_beyond_the_trained_length_is_changed():
    cool = replace(CHUNKS, original_max_position_embeddings=64)
    models = [built(replace(CONFIG, dual_chunk_attention_config=c)) for c in (cool, None)]
    ids = torch.arange(50) * 7 % 96
    ours, plain = (model(ids[None]).hidden[0] for model in models)
    assert (plain - ours)[:17].abs().max() < 1e-4
    assert (plain - ours)[17:].abs().amax(1).min() > 0.05


@pytest.mark.usefixtures("_forms")
def test_texts_of_different_ropes_do_not_feel_each_other():
    model = built()
    rows = [torch.arange(n) * 5 % 96 for n in (45, 14, 30, 16)]
    ropes = [rope.of(CONFIG, 45), Rope(), Rope(2.0, 1.1), rope.of(CONFIG, 30)]
    steps = [[20, 9, 0, 16], [1, 1, 29, 0], [23, 1, 1, 0], [1, 3, 0, 0]]
    together = cached(model, rows, steps, ropes)
    for number, found in enumerate(together):
        (alone,) = cached(model, [rows[number]], [[len(rows[number])]], [ropes[number]])
        torch.testing.assert_close(found, alone, atol=1e-4, rtol=1e-4)
    hotter = cached(model, [rows[1]], [[14]], [Rope(1.0, 1.3)])[0]
    assert (hotter - together[1]).abs().max() > 0.01


def test_a_text_is_the_same_to_the_bit_whatever_is_read_beside_it():
    if library("linear") is None or library("paged") is None:
        pytest.skip("needs a C++ compiler")
    model = built()
    pack(model, "int8")
    rows = [torch.arange(n) * 5 % 96 for n in (45, 14, 30)]
    ropes = [rope.of(CONFIG, 45), Rope(), Rope(2.0, 1.1)]
    steps = [[20, 9, 0], [1, 1, 29], [23, 1, 1], [1, 3, 0]]
    for number, found in enumerate(cached(model, rows, steps, ropes)):
        counts = [[step[number]] for step in steps if step[number]]
        (alone,) = cached(model, [rows[number]], counts, [ropes[number]])
        assert torch.equal(found, alone)


def test_documents_have_the_temperature_of_their_own_length():
    model = built()
    long, short = torch.arange(40) % 96, torch.arange(30, 40)
    together = model(torch.cat((long, short))[None], documents=Documents.of([[40, 10]])).hidden[0]
    torch.testing.assert_close(together[:40], model(long[None]).hidden[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together[40:], model(short[None]).hidden[0], atol=1e-4, rtol=1e-4)


def test_branches_count_their_chunks_on_from_their_trunk():
    model = built(
        replace(
            CONFIG, dual_chunk_attention_config=replace(CHUNKS, original_max_position_embeddings=64)
        )
    )
    trunk, one, other = torch.arange(20) % 96, torch.arange(50, 64), torch.arange(70, 75)
    documents = Documents.of([[20, 14, 5]], trunks=[[-1, 0, 0]])
    row = model(torch.cat((trunk, one, other))[None], documents=documents).hidden[0]
    for branch, found in ((one, row[20:34]), (other, row[34:])):
        alone = model(torch.cat((trunk, branch))[None]).hidden[0, 20:]
        torch.testing.assert_close(found, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_a_packed_model_attends_by_chunks_too(kind):
    model, ids = built(), torch.arange(50) * 7 % 96
    pack(model, kind)
    whole = model(ids[None]).hidden[0]
    (found,) = cached(model, [ids], [[21], [26], [1], [2]], [rope.of(CONFIG, 50)])
    torch.testing.assert_close(found, whole, atol=2e-3, rtol=2e-3)


def test_below_the_chunk_length_a_cached_forward_is_plain_to_the_bit():
    model, plain = built(), built(replace(CONFIG, dual_chunk_attention_config=None))
    ids = torch.arange(11)
    for ours, theirs in zip(
        *(cached(m, [ids], [[9], [1], [1]]) for m in (model, plain)), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_a_prompt_goes_on_from_the_blocks_of_another_that_begins_alike():
    model, of = built(), rope.of(CONFIG, 40)
    first, cache = torch.arange(40) * 7 % 96, PagedCache(CONFIG, 20, BLOCK, "cpu", torch.float32)
    second = torch.cat((first[:24], first[24:].flip(0)))
    blocks = np.arange(20, dtype=np.int32)[::-1]
    whole = Layout.of(blocks[None, :10], [0], [40], BLOCK, "cpu", [of])
    model(first[None], cache=Step(cache, whole))
    shared = np.concatenate((blocks[:6], blocks[10:14]))[None]
    rest = Layout.of(shared, [24], [16], BLOCK, "cpu", [of])
    found = model(second[None, 24:], cache=Step(cache, rest)).hidden[0]
    torch.testing.assert_close(found, model(second[None]).hidden[0, 24:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", ["7B", "14B"])
def test_a_1m_model_is_read_as_vllm_read_it(shared, size):
    raw = json.loads((shared / "configs" / f"Qwen2.5-{size}-Instruct-1M.config.json").read_text())
    config = ModelConfig.from_dict(raw)
    assert config.dual_chunk_attention_config.length == 253_952
    assert rope.of(config, 262_144) == Rope()
    assert rope.of(config, 1_010_000).temperature == pytest.approx(1.1349, abs=1e-4)
    places = torch.tensor([0, 253_951, 253_952, 1_009_999])
    turning = dca.turns(config, places)
    assert turning.inter[0].shape == (4, 1, config.head_dim)
    angle = (262_144 - places % 253_952).double()  # the fastest rotation turns by 1 a token
    torch.testing.assert_close(turning.inter[0][:, 0, 0].double(), angle.cos(), atol=1e-5, rtol=0)
