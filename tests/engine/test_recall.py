"""What sparse prefill holds of a text, against queries and keys taken from a plain forward."""

import pytest
import torch

from baiwen.engine import recall
from baiwen.model import kernels, sparse
from baiwen.model.grid import Part
from baiwen.model.pages import Pages
from baiwen.model.patterns import Head, Patterns
from baiwen.model.sparse import Sparse

CHUNK, AFTER = 128, 150
HEAD = Head(31, 100)


@pytest.fixture(scope="module")
def ids():
    return torch.randint(300, (384,), generator=torch.Generator().manual_seed(0)).tolist()


@pytest.fixture(scope="module")
def asked(model, ids):
    """Queries [T, H, D] and keys and values [T, K, D] of each layer, read without a cache."""
    found, attend = [], kernels.attend

    def kept(q, k, v, documents=None):
        found.append((q[0], k[0], v[0]))
        return attend(q, k, v, documents)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(kernels, "attend", kept)
        model.logits(torch.tensor([ids]))
    return found


def test_what_patterns_hold_is_the_mean_over_the_queries_that_count(model, ids, asked):
    heads = model.config.num_attention_heads
    patterns = Patterns(((HEAD,) * heads,) * 2)
    (held,) = recall.trials(model, ids, [patterns.layers], chunk=CHUNK, after=AFTER)
    for layer, (q, k, v) in enumerate(asked):
        pages = Pages(k[:, None], v[:, None], torch.arange(len(k)).int())
        rows = []
        for first in range(0, len(ids), CHUNK):
            last = min(first + CHUNK, len(ids))
            parts = [Part(q[first:last], q[first:last][-64:], 0, last)]
            knobs = Sparse(patterns=patterns, floor=0.0)
            lists, _ = sparse.choose(parts, pages, first, knobs, layer)
            rows.append(sparse.recall(parts, pages, first, lists or [None]))
        expected = torch.cat(rows, 1)[:, AFTER:].mean(1)
        torch.testing.assert_close(torch.tensor(held.recall[layer]), expected)
        assert expected.mean() < 0.99


def test_layers_without_patterns_are_not_measured(model, ids):
    heads = model.config.num_attention_heads
    (held,) = recall.trials(model, ids, [[[None] * heads, [Head(384, 384)] * heads]], chunk=CHUNK)
    assert held.recall[0] == held.density[0] == [0] * heads
    assert held.recall[1] == pytest.approx([1] * heads)
    assert held.density[1] == pytest.approx([1] * heads)


def test_all_of_the_attention_is_the_dense_reading(model, ids):
    found = recall.measure(model, ids, Sparse(chunk=CHUNK, mass=1.0))
    assert (found.agreement, found.density) == (1, 1)
    assert found.mean == pytest.approx(1)


def test_less_is_held_by_fewer_keys(model, ids):
    knobs = Sparse(chunk=CHUNK, budget=0.0, floor=0.0, sink=1, local=1)
    found = recall.measure(model, ids, knobs)
    assert found.lowest <= found.mean < 0.99
    assert found.density < 0.95
    assert len(found.recall) == model.config.num_hidden_layers


def test_a_text_that_ends_with_a_few_tokens_is_held_whole_where_all_is_seen(model, ids):
    text = [*ids[: 2 * CHUNK], *ids[:5]]
    found = recall.measure(model, text, Sparse(chunk=CHUNK, mass=1.0, floor=1.0))
    assert found.mean == pytest.approx(1, abs=1e-5)
