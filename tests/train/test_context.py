"""Ranks that share rows are one: Ulysses and ring attention over gloo against one process."""

import itertools

import pytest
import torch
from safetensors.torch import load_file

from baiwen import dist
from baiwen.errors import UserError
from baiwen.model import dual
from baiwen.model.documents import Documents
from baiwen.train import context, ring
from baiwen.train.parallel import ContextParallel

KINDS, FORMS = ("dense", "moe", "dual", "trees"), ("ulysses", "ring")


@pytest.fixture(scope="module")
def folder(made_by):
    """What two and four ranks made of the cases of `shared_rows.py`."""
    return made_by("shared_rows")


def assert_like_one(expected, folder, name):
    """Gradients within rounding of those of one process; of all that is logged, too."""
    for part, one in zip(("metrics", "gradients"), expected, strict=True):
        found = load_file(folder / f"{name}-{part}")
        assert found.keys() == one.keys()
        for key, tensor in one.items():
            near = 3e-6 * max(1.0, float(tensor.abs().max()))
            torch.testing.assert_close(found[key], tensor, rtol=1e-5, atol=near)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_that_share_rows_have_the_losses_and_gradients_of_one(
    kind, form, shared_rows, world, folder
):
    """And of blocks that are computed again."""
    assert_like_one(shared_rows.step(kind, form, world), folder, f"{kind}-{form}-2-2")


@pytest.mark.slow
@pytest.mark.parametrize("group", [2, 4])
def test_four_ranks_in_groups_of_two_or_four_are_one(group, shared_rows, world, folder):
    for case in shared_rows.FEW:
        expected = shared_rows.step(*case.split("-"), world)
        assert_like_one(expected, folder, f"{case}-4-{group}")


@pytest.mark.parametrize("length", [None, 4])
@pytest.mark.parametrize("ranks", [2, 3])
def test_the_rounds_of_a_ring_meet_every_pair_once(ranks, length):
    """What a rank sees of another, put where it stands in the row, is the documents' mask."""
    documents = Documents.of(
        [[12], [1, 7, 4], [5, 4, 2, 1]], trunks=[[-1], [-1, 0, -1], [-1, 0, 0, -1]]
    )
    row = torch.arange(12)
    places = [torch.cat([row[run] for run in ring.blocks(12, n, ranks)]) for n in range(ranks)]
    met = torch.zeros(3, 12, 12, dtype=torch.int)
    whole = [part for parts in dual.lists(documents, length).values() for part in parts]
    for rank, peer in itertools.product(range(ranks), repeat=2):
        for part in ring.seen(whole, 12, rank, peer, ranks):
            queries, keys = places[rank][slice(*part.queries)], places[peer][slice(*part.keys)]
            pairs = torch.ones(len(queries), len(keys), dtype=torch.int)
            met[slice(*part.rows), queries[:, None], keys] += pairs.tril() if part.causal else pairs
    assert met.equal(documents.mask[:, 0].int())


def test_ranks_of_a_ring_have_as_much_to_do():
    whole, pairs = dual.lists(Documents.of([[64]]), None)["intra"], []
    for rank in range(4):
        parts = [part for peer in range(4) for part in ring.seen(whole, 64, rank, peer, 4)]
        sizes = [(p.queries[1] - p.queries[0], p.keys[1] - p.keys[0], p.causal) for p in parts]
        pairs.append(sum(n * (n + 1) // 2 if causal else n * m for n, m, causal in sizes))
    assert pairs == [64 * 65 // 2 // 4] * 4


@pytest.mark.parametrize(
    ("length", "knobs", "told"),
    [
        (30, {"context": 4}, "sequence_length = 30 must be a multiple of 4"),
        (12, {"context": 4, "context_form": "ring"}, "must be a multiple of 8"),
    ],
)
def test_a_row_that_does_not_divide_is_a_mistake_of_the_recipe(length, knobs, told):
    with pytest.raises(ValueError, match=told):
        ContextParallel(**knobs).check(length)
    ContextParallel(**knobs).check(16)


def test_ranks_that_share_rows_cannot_be_compiled():
    with pytest.raises(ValueError, match="compile = true"):
        ContextParallel(context=2, compile=True)


def test_heads_that_do_not_divide_are_told_with_what_does(tiny):
    with pytest.raises(UserError, match=r'4 heads .* use 2, or parallel\.context_form = "ring"'):
        context.check(tiny.CONFIG, "ulysses", dist.Layout(context=6))
    context.check(tiny.CONFIG, "ring", dist.Layout(context=6))


def test_processes_that_do_not_divide_are_told_with_the_knob():
    told = r"context 2 x tensor 1 = 2 does not divide the 1 ranks there are"
    with pytest.raises(UserError, match=told), dist.session("cpu", layout=dist.Layout(context=2)):
        pass
