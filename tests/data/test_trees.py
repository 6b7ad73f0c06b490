"""Trees as micro-batches, against a walk over prompts and answers one token at a time."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from baiwen.data.tree import Tree
from baiwen.data.trees import batches, pack
from baiwen.errors import UserError

IDS = st.integers(0, 99)


@st.composite
def trees(draw):
    """A tree with a value of each answer and one of each token; some tokens do not count."""
    answers = draw(st.lists(st.lists(IDS, min_size=1, max_size=5), min_size=1, max_size=4))
    number = st.integers(-9, 9)

    def tokens(of):
        return [draw(st.lists(of, min_size=len(a), max_size=len(a))) for a in answers]

    return Tree(
        prompt=draw(st.lists(IDS, min_size=1, max_size=6)),
        answers=answers,
        masks=draw(st.sampled_from([None, tokens(st.sampled_from([0, 0.5, 1]))])),
        values={"score": [draw(number) for _ in answers], "old": tokens(number)},
    )


LISTS = st.lists(trees(), max_size=9)


def brute_force(tree):
    """For each answer, its score and (text so far, next token, weight, value) of what counts."""
    masks = tree.masks or [[1] * len(answer) for answer in tree.answers]
    answers = []
    rows = zip(tree.answers, masks, tree.values["old"], tree.values["score"], strict=True)
    for answer, mask, old, score in rows:
        tokens = [
            ((*tree.prompt, *answer[:i]), answer[i], mask[i], old[i])
            for i in range(len(answer))
            if mask[i]
        ]
        answers.append((score, (*tree.prompt, *answer), sum(mask), tokens))
    return answers


def text(batch, place):
    """All that a place sees, in the order of its positions."""
    seen = batch.documents.mask[0, 0, place].nonzero()[:, 0]
    order = batch.positions[0, seen]
    assert order.sort().values.tolist() == list(range(len(seen)))
    return tuple(batch.tokens[0, seen[order.argsort()]].tolist())


def read(batch):
    """The trees of a batch, in the words of `brute_force`."""
    found = [[] for _ in range(int(batch.tree.max()) + 1)]
    kept = batch.mask[0].nonzero()[:, 0].tolist()
    assert len(kept) == len(batch.answer) == len(batch.values["old"])
    for number, tree in enumerate(batch.tree.tolist()):
        tokens = [
            (
                text(batch, place),
                batch.targets[0, place].item(),
                batch.mask[0, place].item(),
                batch.values["old"][n].item(),
            )
            for n, place in enumerate(kept)
            if batch.answer[n] == number
        ]
        whole = text(batch, int(batch.last[number]))
        score, length = batch.values["score"][number].item(), batch.lengths[number].item()
        found[tree].append((score, whole, length, tokens))
    return found


@given(
    LISTS, st.integers(40, 90), st.integers(1, 4), st.sampled_from(["answers", "tokens", "trees"])
)
def test_every_answer_comes_once_with_its_tokens_weights_and_values(given, size, ranks, count):
    shares = [batches(given, size, count=count, rank=r, ranks=ranks) for r in range(ranks)]
    everything = list(itertools.chain(*shares))
    full = [batch for batch in everything if len(batch.tree)]
    found = list(itertools.chain(*map(read, full)))
    expected = [brute_force(tree) for tree in given]
    assert sorted(found) == sorted(expected)
    wanted = {
        "answers": sum(map(len, expected)),
        "tokens": sum(answer[2] for tree in expected for answer in tree),
        "trees": len(given),
    }
    assert sum(batch.count for batch in everything) == wanted[count]


@settings(max_examples=40)
@given(LISTS, st.integers(40, 90), st.integers(1, 4))
def test_ranks_have_as_many_micro_batches_within_the_size(given, size, ranks):
    shares = [batches(given, size, count="answers", rank=r, ranks=ranks) for r in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    for batch in itertools.chain(*shares):
        shape = batch.tokens.shape
        assert shape[0] == 1 and shape[1] <= size
        assert shape == batch.targets.shape == batch.mask.shape == batch.positions.shape
        assert batch.real in (0, shape[1])
    assert sum(batch.real for share in shares for batch in share) == sum(t.tokens for t in given)


def test_an_empty_batch_is_one_token_of_padding():
    tree = Tree([1, 2], [[3]], values={"reward": [1.0]})
    _, (empty,) = (batches([tree], 9, count="answers", rank=r, ranks=2) for r in range(2))
    assert empty.tokens.shape == (1, 1)
    assert (empty.mask.sum(), empty.count, empty.real) == (0, 0, 0)
    assert empty.documents.real.tolist() == [[False]]
    for one in (empty.answer, empty.tree, empty.last, empty.lengths, empty.values["reward"]):
        assert one.shape == (0,)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 6))
def test_ranks_need_no_more_turns_than_best_fit(lengths, ranks):
    rows = pack(lengths, 50, ranks)
    alone = pack(lengths, 50, 1)
    assert sorted(itertools.chain(*rows)) == list(range(len(lengths)))
    assert len(rows) == max(1, -(-len(alone) // ranks)) * ranks


def test_ranks_share_the_tokens_evenly():
    lengths = np.random.default_rng(0).integers(100, 1000, 100).tolist()
    rows = pack(lengths, 16384, 8)
    shares = [sum(lengths[item] for row in rows[rank::8] for item in row) for rank in range(8)]
    assert max(shares) < 1.02 * min(shares)


def test_a_tree_that_is_too_long_is_named():
    short, long = Tree([1], [[2]]), Tree([1, 2, 3], [[4, 5], [6, 7]])
    with pytest.raises(UserError, match=r"prompt 1 .* 8 tokens, more than micro_tokens = 7"):
        batches([short, long], 7, count="answers")


def test_the_same_trees_give_the_same_batches():
    rng = np.random.default_rng(0)
    drawn = [Tree([1] * n, [[2] * n, [3]]) for n in rng.integers(1, 20, 50).tolist()]
    one, two = (batches(drawn, 64, count="answers") for _ in range(2))
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(one, two, strict=True))
