import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from baiwen.data.loader import Loader, Split, assemble, sample
from baiwen.data.pack import best_fit
from baiwen.data.pool import Pool, cut
from baiwen.dist import World
from baiwen.errors import UserError


class Numbers:
    """A stream whose every token is its own place, so that a batch tells where it was read."""

    def __init__(self, mask=None):
        self.mask = mask

    def read(self, start, stop):
        return np.arange(start, stop)

    def weights(self, start, stop):
        return 1.0 if self.mask is None else self.mask[start:stop]


def pool_of(lengths, size, name="web", weight=1.0, mask=None):
    pieces = cut(np.cumsum(lengths), size)
    return Pool(name, Numbers(mask), pieces, best_fit(pieces.length, size), weight)


def random_pool(seed, size=16, count=60, **options):
    rng = random.Random(seed)
    return pool_of([rng.randint(1, 3 * size) for _ in range(count)], size, **options)


def naive_row(pool, row, size):
    """tokens, targets, mask, positions and document lengths of a row, a token at a time."""
    tokens, targets, mask, positions, lengths = [], [], [], [], []
    for piece in pool.rows[row]:
        start, n, last = (getattr(pool.pieces, name)[piece] for name in ("start", "length", "last"))
        for place in range(n):
            tokens.append(start + place)
            positions.append(place)
            known = place < n - 1 or not last
            targets.append(start + place + 1 if known else 0)
            weight = pool.stream.weights(start + place + 1, start + place + 2)
            mask.append(float(np.squeeze(weight)) if known else 0.0)
        lengths.append(n)
    padding = size - len(tokens)
    if padding:
        lengths.append(padding)
    zeros = [0] * padding
    return tokens + zeros, targets + zeros, mask + zeros, [*positions, *range(padding)], lengths


@pytest.mark.parametrize("masked", [False, True])
def test_a_batch_is_what_a_naive_loop_over_tokens_gives(masked):
    mask = np.random.default_rng(1).integers(0, 2, 3000).astype(np.uint8) if masked else None
    pool = random_pool(0, mask=mask)
    rows = range(len(pool.rows))
    batch = assemble([(pool, row) for row in rows], 16)
    expected = [naive_row(pool, row, 16) for row in rows]
    for i, name in enumerate(("tokens", "targets", "mask", "positions")):
        wanted = torch.tensor(np.array([row[i] for row in expected]))
        assert torch.equal(getattr(batch, name), wanted.to(getattr(batch, name).dtype)), name
    lengths = [length for row in expected for length in row[4]]
    assert batch.documents.ends.tolist() == [0, *np.cumsum(lengths)]
    assert torch.equal(batch.documents.positions, batch.positions)
    assert batch.count == batch.mask.sum().item()
    assert batch.real == pool.tokens


def test_every_token_after_the_first_of_a_document_is_a_target_once():
    lengths = [1, 2, 17, 33, 48, 5]
    pool = pool_of(lengths, 16)
    batch = assemble([(pool, row) for row in range(len(pool.rows))], 16)
    targets = sorted(batch.targets[batch.mask > 0].tolist())
    ends = np.cumsum(lengths)
    firsts = {0, *ends[:-1].tolist()}
    assert targets == [place for place in range(ends[-1]) if place not in firsts]


def numbers(batches):
    return [batch.tokens.tolist() for batch in batches]


def test_a_step_is_the_same_whatever_was_loaded_before():
    pools = [random_pool(0, name="a", weight=0.7), random_pool(1, name="b", weight=0.3)]
    split = Split(16, 128, 64)
    straight = Loader(pools, split, seed=5)
    steps = [numbers(straight.step(step)) for step in range(30)]
    for step in (29, 3, 17):  # 60 rows an epoch: over the border of epochs, and back
        assert numbers(Loader(pools, split, seed=5).step(step)) == steps[step]
    assert numbers(Loader(pools, split, seed=6).step(3)) != steps[3]


@pytest.mark.parametrize(("ranks", "micro_tokens"), [(1, 16), (2, 32), (4, 16), (1, 128), (8, 16)])
def test_ranks_and_micro_batches_part_the_same_rows(ranks, micro_tokens):
    pools = [random_pool(0, name="a"), random_pool(1, name="b")]
    whole = Loader(pools, Split(16, 128, 128), seed=1)
    for step in (0, 9):
        (batch,) = whole.step(step)
        found = []
        for rank in range(ranks):
            batches = Loader(pools, Split(16, 128, micro_tokens, rank, ranks), seed=1).step(step)
            assert [len(part.tokens) for part in batches] == [micro_tokens // 16] * len(batches)
            found += [row for part in batches for row in part.tokens.tolist()]
        assert found == batch.tokens.tolist()


def test_an_epoch_holds_every_row_once_and_the_next_in_another_order():
    pool = random_pool(2)
    rows = len(pool.rows)
    loader = Loader([pool], Split(16, 16 * rows, 16 * rows))
    first, second = (loader.step(step)[0].tokens.tolist() for step in (0, 1))
    whole = assemble([(pool, row) for row in range(rows)], 16).tokens.tolist()
    assert sorted(first) == sorted(second) == sorted(whole)
    assert first != second


def test_the_last_step_of_the_last_epoch_is_filled_from_the_next():
    pool = random_pool(2)
    loader = Loader([pool], Split(16, 128, 128))
    steps = loader.steps(epochs=2)
    assert (steps - 1) * 8 < 2 * len(pool.rows) <= steps * 8
    drawn = Counter(loader.row(row)[1] for row in range(steps * 8))
    assert set(drawn.values()) <= {2, 3}
    assert len(drawn) == len(pool.rows)


def test_epochs_that_end_with_a_step_have_no_step_more():
    pool = pool_of([16] * 7, 16)
    assert Loader([pool], Split(16, 16 * 25, 16)).steps(epochs=25) == 7


def test_pools_give_rows_in_proportion_to_their_weights():
    pools = [
        random_pool(i, name=name, weight=w) for i, (name, w) in enumerate([("a", 3), ("b", 1)])
    ]
    loader = Loader(pools, Split(16, 16 * 8, 16))
    drawn = Counter(loader.row(row)[0].name for row in range(400 * 8))
    assert drawn == {"a": 2400, "b": 800}


def test_the_order_of_a_pool_does_not_depend_on_which_others_there_are():
    one, two = random_pool(0, name="a"), random_pool(1, name="b")
    alone = Loader([one], Split(16, 16, 16))
    together = Loader([two, one], Split(16, 16, 16))
    rows = (together.row(i) for i in range(100))
    assert [row for pool, row in rows if pool is one][:40] == [alone.row(i)[1] for i in range(40)]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((512, 1000, 512), "tokens_per_step = 1000 must be a multiple of sequence_length = 512"),
        (
            (512, 1024, 256),
            "micro_tokens = 256 must be a multiple of sequence_length = 512: try 512",
        ),
        ((512, 1536, 1024), "tokens_per_step = 1536 must be a multiple of 1 ranks"),
        ((512, 2048, 1024, 0, 4), "4 ranks x micro_tokens = 4096: try 4096"),
    ],
)
def test_numbers_that_do_not_divide_are_named_with_ones_that_do(numbers, message):
    with pytest.raises(UserError, match=message):
        Split(*numbers)


def test_an_empty_source_is_refused_by_name():
    with pytest.raises(UserError, match="web is empty"):
        Loader([pool_of([1, 1], 16)], Split(16, 16, 16))


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_sample_is_fixed_and_parted_among_the_ranks(ranks):
    pool = random_pool(3)
    split = Split(16, 128, 32)
    (whole,) = sample(pool, Split(16, 256, 256), tokens=256)
    found = []
    for rank in range(ranks):
        part = sample(pool, Split(16, 128, 32, rank, ranks), tokens=256)
        assert [len(batch.tokens) for batch in part] == [2] * (8 // ranks)
        found += [row for batch in part for row in batch.tokens.tolist()]
    assert found == whole.tokens.tolist()
    assert len(sample(pool, split, tokens=10**9)) == len(pool.rows) // 2


def test_describe_tells_shares_and_fill():
    pool = random_pool(0)
    told = Loader([pool], Split(16, 128, 16)).describe()
    assert told["tokens"] == pool.tokens
    assert told["fill"] == pool.tokens / (len(pool.rows) * 16)
    assert told["sources"]["web"]["share"] == 1
    assert told["accumulation"] == 8


def test_a_split_is_of_the_knobs_of_its_stage_and_the_place_of_its_rank():
    config = SimpleNamespace(sequence_length=4, tokens_per_step=48, micro_tokens=8)
    world = World(2, 3, torch.device("cpu"), torch.float32)
    assert Split.of(config, world) == Split(4, 48, 8, rank=2, ranks=3)
