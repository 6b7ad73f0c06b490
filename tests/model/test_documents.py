"""Branches: what they see and where they stand, in every form of attention and in a whole model."""

import dataclasses

import pytest
import torch

from baiwen.errors import UserError
from baiwen.model import flash, kernels
from baiwen.model.config import ModelConfig
from baiwen.model.documents import Documents
from baiwen.model.transformer import Transformer

# Three trees with trunks of one token and of more than a block, a plain document, padding.
LENGTHS = [[1, 4, 1, 130, 60, 100, 3, 1], [260, 20, 20]]
TRUNKS = [[-1, 0, 0, -1, 3, 3, 3, -1], [-1, 0, 0]]
TREES = Documents.of(LENGTHS, padding=[1, 0], trunks=TRUNKS)


def heads(documents, heads=4, key_heads=2, size=8):
    """Random q, k and v for the attention of `documents`, and a slope of its output."""
    generator = torch.Generator().manual_seed(0)
    shape = documents.rows, documents.width
    drawn = (
        torch.randn(*shape, n, size, generator=generator)
        for n in (heads, key_heads, key_heads, heads)
    )
    return [x.requires_grad_() for x in drawn]


def results(form, documents, inputs):
    """The output of a form of attention, and its gradients."""
    *inputs, slope = inputs
    out = form(*inputs, documents)
    return out, *torch.autograd.grad((out * slope).sum(), inputs)


def test_a_branch_sees_its_trunk_and_itself():
    documents = Documents.of([[2, 1, 2, 2]], trunks=[[-1, 0, 0, -1]])
    assert documents.mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 0, 1, 0, 0, 0],
        [1, 1, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1, 1],
    ]
    assert documents.positions.tolist() == [[0, 1, 2, 2, 3, 0, 1]]
    assert documents.seen == (2, 3, 4, 2)
    assert documents.longest == 4


def test_gathered_keys_are_the_trunk_and_then_the_branch():
    documents = Documents.of([[3], [3]]), Documents.of([[1, 2], [2, 1]], trunks=[[-1, 0], [-1, 0]])
    assert [x.keys.tolist() for x in documents] == [[*range(6)], [0, 0, 1, 2, 3, 4, 3, 4, 5]]
    assert documents[1].key_ends.tolist() == [0, 1, 4, 6, 9]
    assert documents[0].key_ends.equal(documents[0].ends)


def test_the_mask_of_blocks_is_that_of_tokens():
    blocks, rows = TREES.block_mask, torch.arange(2)[:, None, None]
    places = torch.arange(TREES.width)
    found = blocks.mask_mod(rows, torch.tensor(0), places[:, None], places)
    assert found.equal(TREES.mask[:, 0])


def test_spans_go_by_trees_and_the_dearest_first():
    assert TREES.spans.tolist() == [
        [1, 0, 260, 0, 0, 0],
        [1, 260, 20, 260, 0, 260],
        [1, 280, 20, 280, 0, 260],
        [0, 6, 130, 6, 0, 0],
        [0, 136, 60, 136, 6, 130],
        [0, 196, 100, 196, 6, 130],
        [0, 296, 3, 296, 6, 130],
        [0, 0, 1, 0, 0, 0],
        [0, 1, 4, 1, 0, 1],
        [0, 5, 1, 5, 0, 1],
        [0, 299, 1, 299, 0, 0],
    ]


@pytest.mark.parametrize("shape", [(4, 2, 8), (2, 2, 40), (3, 1, 5)])
@pytest.mark.parametrize("form", [kernels.separate, flash.attend])
def test_branches_attend_as_by_the_mask(form, shape):
    inputs = heads(TREES, *shape)
    if form is flash.attend and not flash.fits(*inputs):
        pytest.skip("no C++ compiler")
    found, expected = results(form, TREES, inputs), results(kernels.masked, TREES, inputs)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=5e-6, rtol=5e-5)


def documented(q, k, v, *, cu_seq_q, cu_seq_k, max_q, max_k, window_size, enable_gqa):
    """What `varlen_attn` is documented to do, a sequence at a time; the real one needs a GPU."""
    assert enable_gqa and window_size == (-1, 0)
    assert (cu_seq_q.dtype, cu_seq_k.dtype) == (torch.int32, torch.int32)
    lengths, totals = cu_seq_q.diff(), cu_seq_k.diff()
    assert (max_q, max_k) == (lengths.max(), totals.max())
    done = []
    for one, keys, values in zip(
        q.split(lengths.tolist()), k.split(totals.tolist()), v.split(totals.tolist()), strict=True
    ):
        mask = torch.ones(len(one), len(keys), dtype=torch.bool).tril(len(keys) - len(one))
        done.append(kernels.causal(one[None], keys[None], values[None], mask[None, None])[0])
    return torch.cat(done)


def test_flash_attention_is_told_what_branches_see(monkeypatch):
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", documented)
    inputs = heads(TREES)
    found, expected = results(kernels.varlen, TREES, inputs), results(kernels.masked, TREES, inputs)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=5e-6, rtol=5e-5)


def test_the_number_of_threads_changes_no_bit_of_a_tree():
    inputs = heads(TREES)
    if not flash.fits(*inputs):
        pytest.skip("no C++ compiler")
    before = torch.get_num_threads()
    try:
        runs = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            runs.append(results(flash.attend, TREES, inputs))
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *runs))


def test_without_the_library_trees_of_many_tokens_are_attended_apart(monkeypatch):
    monkeypatch.setattr(flash, "fits", lambda *_: False)
    long = Documents.of([[300, 300, 20, 20, 20]], trunks=[[-1, -1, 1, 1, 1]])
    short = Documents.of([[2, 1, 1]], trunks=[[-1, 0, 0]])
    for documents, form in ((long, kernels.separate), (short, kernels.masked)):
        q, k, v, _ = heads(documents)
        expected = form(q, k, v, documents)
        assert kernels.attend(q, k, v, documents).equal(expected)


@pytest.mark.parametrize(
    "trunks",
    [
        [[0, -1, -1], [-1]],  # its own
        [[1, -1, -1], [-1]],  # behind
        [[-1, 0, 1], [-1]],  # a branch of a branch
        [[-1, 0, 5], [-1]],  # nowhere
    ],
)
def test_trunks_that_are_none_are_refused(trunks):
    with pytest.raises(UserError, match="trunk must stand before its branches"):
        Documents.of([[2, 2, 2], [6]], trunks=trunks)


DENSE = ModelConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
)
MOE = dataclasses.replace(
    DENSE,
    num_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=16,
    shared_expert_intermediate_size=24,
)


@pytest.mark.parametrize("config", [DENSE, MOE], ids=["dense", "moe"])
def test_a_tree_gives_the_states_and_gradients_of_its_answers_in_rows_of_their_own(config):
    model = Transformer(config)
    model.init_weights(0)
    torch.manual_seed(0)
    trunk, *answers = torch.randint(64, (26,)).split([7, 3, 10, 6])
    slopes = [torch.randn(len(answer), 32) for answer in answers]

    def gradients(states):
        model.zero_grad()
        sum((one * slope).sum() for one, slope in zip(states, slopes, strict=True)).backward()
        return [parameter.grad.clone() for parameter in model.model.parameters()]

    documents = Documents.of([[7, 3, 10, 6, 4]], padding=[4], trunks=[[-1, 0, 0, 0, -1]])
    row = torch.cat([trunk, *answers, torch.zeros(4, dtype=torch.long)])[None]
    outputs = model(row, documents=documents)
    together = outputs.hidden[0, 7:-4].split([3, 10, 6])
    apart = [model(torch.cat([trunk, answer])[None]).hidden[0, 7:] for answer in answers]
    for ours, theirs in zip(together, apart, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)
    for ours, theirs in zip(gradients(together), gradients(apart), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6 * theirs.abs().max().item(), rtol=1e-5)
    if outputs.routing:
        assert outputs.routing.sums.tokens == 26
        assert outputs.routing.sums.counts.sum(1).tolist() == [52, 52]


def test_a_document_is_as_long_as_the_longest_that_shares_its_trunk():
    documents = Documents.of([[4, 5, 2, 3], [6, 8]], trunks=[[-1, 0, 0, -1], [-1, -1]])
    assert documents.together == (9, 9, 9, 3, 6, 8)
    assert Documents.of([[4, 2]]).together == (4, 2)
