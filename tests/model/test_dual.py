"""Dual chunk attention as rectangles against all scores of all turns; what trains with it."""

import pytest
import torch

from baiwen.model import dca, dual, kernels
from baiwen.model.config import ModelConfig
from baiwen.model.documents import Documents
from baiwen.model.positions import DualChunk
from baiwen.model.transformer import Transformer

CONFIG = ModelConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    rope_theta=100.0,
    tie_word_embeddings=True,
    dual_chunk_attention_config=DualChunk(8, 3, 8),
)
DOCUMENTS = {
    "rows": Documents.of([[40], [40]]),
    "packed": Documents.of([[3, 26, 11], [5, 5, 30]]),
    "trees": Documents.of([[13, 20, 7], [2, 30, 8]], trunks=[[-1, 0, 0], [-1, 0, -1]]),
}


def draw(documents, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shape = documents.rows, documents.width
    return [
        torch.randn(*shape, heads, 8, generator=generator).to(dtype).requires_grad_()
        for heads in (4, 2, 2)
    ]


def by_scores(q, k, v, documents, turning):
    """Every pair of tokens, by how many chunks the key is before the query."""
    k, v = (x.repeat_interleave(2, 2) for x in (k, v))
    chunks = documents.positions // turning.length
    apart = (chunks[:, :, None] - chunks[:, None])[:, None]  # [B, 1, T, T]
    near, next_to, far = (
        torch.einsum("bthd,bshd->bhts", turning.turn(q, kind), k)
        for kind in ("intra", "succ", "inter")
    )
    scores = torch.where(apart == 0, near, torch.where(apart == 1, next_to, far)) / 8**0.5
    probs = scores.masked_fill(~documents.mask, -torch.inf).softmax(-1)
    return torch.einsum("bhts,bshd->bthd", probs, v)


def results(form, documents, dtype):
    inputs = draw(documents, dtype)
    turning = dca.turns(CONFIG, documents.positions)
    if dtype == torch.float64:
        wide = [tuple(table.double() for table in pair) for pair in (turning.succ, turning.inter)]
        turning = dca.Turns(turning.length, *wide)
    out = form(*inputs, documents, turning)
    slope = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    return out.detach(), *torch.autograd.grad(out, inputs, slope)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("documents", DOCUMENTS.values(), ids=DOCUMENTS)
def test_rectangles_are_the_matrix_of_distances_with_its_gradients(documents, dtype, tolerance):
    found = results(dual.attend, documents, dtype)
    expected = results(by_scores, documents, torch.float64)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=tolerance)


def test_rows_are_documents_where_none_are_told():
    q, k, v = draw(DOCUMENTS["rows"])
    turning = dca.turns(CONFIG, DOCUMENTS["rows"].positions)
    told = dual.attend(q, k, v, DOCUMENTS["rows"], turning)
    assert dual.attend(q, k, v, None, turning).equal(told)


def test_no_part_is_larger_than_its_documents_chunks():
    """Nor is anything attended that is not seen: pairs are those of causal attention."""
    for documents in DOCUMENTS.values():
        pairs = 0
        for part in (part for parts in dual.lists(documents, 5).values() for part in parts):
            tokens, keys = (stop - first for first, stop in (part.queries, part.keys))
            assert tokens <= 5
            rows = part.rows[1] - part.rows[0]
            pairs += rows * (tokens * (tokens + 1) // 2 if part.causal else tokens * keys)
        assert pairs == documents.mask.sum()


@pytest.mark.parametrize("recompute", [False, True])
def test_a_model_learns_through_it(recompute):
    """Gradients of a model whose documents are longer than its chunks, by both forms."""
    documents = DOCUMENTS["packed"]
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(64, (2, 40), generator=generator)
    slope = torch.randn(2, 40, 32, generator=generator)

    def gradients(form):
        model = Transformer(CONFIG)
        model.init_weights(0)
        model.checkpoint_blocks = recompute
        for block in model.model.layers:
            block.self_attn.attend = form
        (model(tokens, documents=documents).hidden * slope).sum().backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    found = gradients(dual.attend)
    for name, expected in gradients(by_scores).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-4)


def test_within_a_chunk_it_is_plain_attention():
    documents = Documents.of([[5, 4, 3], [2, 5, 5]])
    q, k, v = draw(documents, torch.float32)
    turning = dca.turns(CONFIG, documents.positions)
    torch.testing.assert_close(
        dual.attend(q, k, v, documents, turning), kernels.attend(q, k, v, documents)
    )
