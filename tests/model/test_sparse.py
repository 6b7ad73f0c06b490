"""Sparse prefill: what its lists must be, what it falls back to, and the model that reads by it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from baiwen.errors import UserError
from baiwen.model import kernels, sparse
from baiwen.model.dca import pieces
from baiwen.model.layout import Layout
from baiwen.model.paged import PagedCache, Step
from baiwen.model.pages import Pages
from baiwen.model.patterns import Head, Patterns
from baiwen.model.positions import DualChunk
from baiwen.model.sizes import SIZES
from baiwen.model.sparse import Chooser, Sparse, among, together
from baiwen.model.transformer import Transformer

SHAPE = replace(
    SIZES["tiny"], num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    hidden_size=64, intermediate_size=96, vocab_size=64, initializer_range=0.3,
)  # fmt: skip
DUAL = replace(SHAPE, dual_chunk_attention_config=DualChunk(400, 80, 400))
BUDGETED = Sparse(mass=0.6, budget=0.4, floor=0.0, sink=16, local=32)
PATTERNS = Patterns(((Head(40, 120),) * 4,) * 2)
TILE = kernels.tile()
PLACE, T = 640, 300  # in the third chunk of DUAL
S = PLACE + T


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)
    slab = torch.randn(60, 16, 2, 16, generator=generator)
    pages = Pages(slab, slab.flip(0), torch.randperm(60, generator=generator).int())
    return 2 * torch.randn(T, 4, 16, generator=generator), pages


every_way = pytest.mark.parametrize("config", [SHAPE, DUAL], ids=["plain", "dual chunks"])
every_choice = pytest.mark.parametrize(
    "knobs", [BUDGETED, replace(BUDGETED, patterns=PATTERNS)], ids=["vote", "patterns"]
)


def piece(config):
    chunks = config.dual_chunk_attention_config
    (found,) = pieces(PLACE, S, chunks.length if chunks else None)
    return found


def chosen(config, knobs, case, **of):
    """The parts of the queries, latest first, their lists, and the account."""
    q, pages = case
    chooser = Chooser(config, knobs, **of)
    lists = chooser(0, q, pages, piece(config))
    return chooser.parts(q, piece(config)), lists, chooser.chosen[0]


def seen(parts, lists):
    """Whether a query of a list head sees a key: [L, T, S]."""
    keys, stands = torch.arange(S), torch.arange(PLACE, S)
    mask = torch.zeros(lists[0].heads, T, S, dtype=torch.bool)
    for part, one in zip(parts, lists, strict=True):
        inside = (part.first <= keys) & (keys < part.last) & (keys <= stands[:, None])
        for number in range(len(one.ends) - 1):
            row, head = divmod(number, one.heads)
            rows = slice(row * TILE, (row + 1) * TILE)
            listed = torch.isin(keys, one.places(number, TILE))
            mask[head, rows] |= inside[rows] & listed
    return mask


def attention(parts, pages):
    """Softmax of all scores of all parts, [H, T, S]."""
    keys = pages.read(torch.arange(S))[0].repeat_interleave(2, 1)
    scores = torch.full((4, T, S), -torch.inf)
    for part in parts:
        of = slice(part.first, part.last)
        scores[..., of] = torch.einsum("thd,shd->hts", part.q, keys[of]) / math.sqrt(16)
    later = torch.arange(S) > torch.arange(PLACE, S)[:, None]
    return scores.masked_fill(later, -torch.inf).softmax(-1)


@every_way
@every_choice
def test_lists_rise_and_are_disjoint_and_within_their_part(config, knobs, case):
    parts, lists, _ = chosen(config, knobs, case)
    assert {(part.first, part.last) for part in parts} == {
        (keys.start, keys.stop) for _, keys in piece(config).parts
    }
    for part, one in zip(parts, lists, strict=True):
        for number in range(len(one.ends) - 1):
            firsts = one.firsts[one.ends[number] : one.ends[number + 1]]
            assert torch.all(firsts.diff() >= TILE)
            assert torch.all((part.first <= firsts) & (firsts < part.last))
            start = PLACE + number // one.heads * TILE
            assert torch.all(firsts < start + TILE)
            if one.columns is not None:
                columns = one.columns[one.column_ends[number] : one.column_ends[number + 1]]
                assert torch.all(columns.diff() > 0)
                assert torch.all((part.first <= columns) & (columns < min(part.last, start)))
                blocks = firsts[:, None] + torch.arange(TILE)
                assert not torch.isin(columns, blocks[blocks < part.last]).any()


@every_way
def test_the_first_and_the_nearest_keys_are_always_seen(config, case):
    parts, lists, _ = chosen(config, replace(BUDGETED, budget=0.0), case)
    mask = seen(parts, lists)
    assert mask[:, :, : BUDGETED.sink].all()
    for query in range(T):
        near = slice(PLACE + query - BUDGETED.local + 1, PLACE + query + 1)
        assert mask[:, query, near].all()


@every_way
@every_choice
def test_true_recall_is_the_attention_that_the_lists_hold(config, knobs, case):
    parts, lists, _ = chosen(config, knobs, case)
    mask = seen(parts, lists)
    expected = (attention(parts, case[1]) * mask.repeat_interleave(4 // len(mask), 0)).sum(-1)
    found = sparse.recall(parts, case[1], PLACE, lists)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert 0.05 < found.min() < 0.95


@every_choice
def test_recall_of_the_last_queries_is_told(knobs, case):
    parts, lists, account = chosen(SHAPE, knobs, case)
    every = 1 if knobs.patterns else sparse.votes.EVERY
    true = sparse.recall(parts, case[1], PLACE, lists)[:, -64:].flip(-1)[:, ::every]
    torch.testing.assert_close(account.recall, true.mean(-1), rtol=1e-4, atol=1e-5)


@every_way
@every_choice
def test_density_is_the_share_of_keys_that_are_listed(config, knobs, case):
    parts, lists, account = chosen(config, knobs, case)
    keys, listed, whole = torch.arange(S), 0, 0
    for part, one in zip(parts, lists, strict=True):
        inside = keys[part.first : part.last]
        for number in range(len(one.ends) - 1):
            end = PLACE + min((number // one.heads + 1) * TILE, T)
            reach = part.first + -(-(min(end, part.last) - part.first) // TILE) * TILE
            listed += torch.isin(inside, one.places(number, TILE)).sum()
            whole += max(0, min(reach, part.last) - part.first)
    assert account.density == pytest.approx(float(listed / whole))


@every_way
@every_choice
def test_a_head_below_the_floor_is_read_in_full(config, knobs, case):
    parts, lists, account = chosen(config, replace(knobs, floor=1.0), case)
    assert account.full > 0
    assert account.density == 1
    torch.testing.assert_close(account.recall, torch.ones(4))
    torch.testing.assert_close(sparse.recall(parts, case[1], PLACE, lists), torch.ones(4, T))


@every_way
@every_choice
def test_the_last_queries_of_a_prompt_see_everything(config, knobs, case):
    parts, lists, _ = chosen(config, knobs, case, end=True)
    mask = seen(parts, lists)
    last = (T - 1) // TILE * TILE
    causal = torch.arange(S) <= torch.arange(PLACE, S)[:, None]
    assert torch.equal(mask[:, last:], causal[last:].expand_as(mask[:, last:]))
    assert not torch.equal(mask[:, :last], causal[:last].expand_as(mask[:, :last]))


def test_first_layers_and_few_queries_are_dense(case):
    q, pages = case
    chooser = Chooser(SHAPE, replace(BUDGETED, dense_layers=1))
    assert chooser(0, q, pages, piece(SHAPE)) == [None]
    (few,) = pieces(S - TILE, S, None)
    assert chooser(1, q[-TILE:], pages, few) == [None]
    assert [one.density for one in chooser.chosen] == [1, 1]


def test_accounts_are_weighted_by_their_queries():
    accounts = [
        sparse.Chosen(0, 100, torch.tensor([0.8, 1.0]), 0.5, 0),
        sparse.Chosen(1, 300, torch.tensor([1.0, 1.0]), 0.1, 1),
    ]
    found = together(accounts)
    assert found == pytest.approx({"recall": 0.975, "lowest_recall": 0.8, "density": 0.2})
    assert together([]) == {}


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"mass": 1.1}, "mass = 1.1 must be a share, from 0 to 1"),
        ({"budget": -0.1}, "budget = -0.1 must be a share"),
        ({"floor": 2}, "floor = 2 must be a share"),
        ({"chunk": 0}, "chunk = 0 must be at least 1"),
        ({"local": 0}, "local = 0 must be at least 1"),
    ],
)
def test_knobs_without_a_meaning_are_refused(knobs, told):
    with pytest.raises(UserError, match=told):
        Sparse(**knobs)


def logits(config, choosers, tokens):
    """Of two sequences of a step, which begin at 640 and at 0."""
    model = Transformer(config)
    model.init_weights(0)
    cache = PagedCache(config, 120, 16, "cpu", torch.float32)
    tables = np.arange(120, dtype=np.int32).reshape(2, 60)
    with torch.no_grad():
        first = Layout.of(tables[:1], [0], [PLACE], 16, "cpu")
        model(tokens[:, :PLACE], cache=Step(cache, first))
        both = Layout.of(tables, [PLACE, 0], [T, 50], 16, "cpu")
        rest = torch.cat((tokens[:, PLACE:], tokens[:, :50]), 1)
        hidden = model(rest, cache=Step(cache, both, among(choosers))).hidden
        return model.project(hidden)[0].split((T, 50))


@every_way
def test_a_model_that_chooses_all_reads_as_one_that_does_not(config):
    tokens = torch.randint(64, (1, S), generator=torch.Generator().manual_seed(0))
    dense = logits(config, {}, tokens)
    every = {0: Chooser(config, Sparse(mass=1.0)), 1: Chooser(config, Sparse(mass=1.0))}
    for found, expected in zip(logits(config, every, tokens), dense, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert len(every[0].chosen) == 2  # layers


def test_only_the_sequence_of_a_chooser_is_read_sparsely():
    tokens = torch.randint(64, (1, S), generator=torch.Generator().manual_seed(0))
    dense, other = logits(SHAPE, {}, tokens)
    found, same = logits(SHAPE, {0: Chooser(SHAPE, BUDGETED)}, tokens)
    torch.testing.assert_close(same, other)
    assert (found - dense).abs().max() > 1e-3
