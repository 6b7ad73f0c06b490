"""The books of the cache: nothing is lost, nothing is given twice."""

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from baiwen.engine.blocks import Blocks, name

TOTAL = 5


def test_content_outlives_its_holder_until_the_block_is_needed():
    pool = Blocks(2)
    first = pool.take()
    pool.publish(first, b"one")
    pool.give(first)
    assert pool.available == 2 and pool.cached == 1
    assert pool.take() != first  # a blank block goes first
    assert pool.find(b"one") == first
    assert pool.take() == first
    assert pool.find(b"one") is None


def test_the_content_that_was_given_back_the_longest_ago_goes_first():
    pool = Blocks(3)
    for title in (b"one", b"two", b"three"):
        pool.publish(pool.take(), title)
    for title in (b"two", b"three", b"one"):
        pool.give(pool.find(title))
    pool.share(pool.find(b"two"))
    pool.give(pool.find(b"two"))  # used again: the latest
    pool.take()
    assert [pool.find(title) is None for title in (b"one", b"two", b"three")] == [
        False,
        False,
        True,
    ]


def test_equal_content_is_known_once_and_both_blocks_come_back():
    pool = Blocks(2)
    one, other = pool.take(), pool.take()
    pool.publish(one, b"same")
    pool.publish(other, b"same")
    assert pool.find(b"same") == one
    pool.give(one)
    pool.give(other)
    assert sorted((pool.take(), pool.take())) == [0, 1]


def test_a_name_tells_ids_their_order_and_all_that_came_before():
    names = {name(b"", [1, 2]), name(b"", [2, 1]), name(b"x", [1, 2]), name(name(b"", [1]), [2])}
    assert len(names) == 4
    assert name(b"", [1, 2]) in names


class Books(RuleBasedStateMachine):
    """Random use of a pool, beside a list of who holds what."""

    def __init__(self):
        super().__init__()
        self.pool, self.held, self.titles = Blocks(TOTAL), [], 0

    @precondition(lambda self: len(set(self.held)) < TOTAL)
    @rule()
    def take(self):
        block = self.pool.take()
        assert block not in self.held
        self.held.append(block)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give(self, data):
        block = data.draw(st.sampled_from(self.held))
        self.held.remove(block)
        self.pool.give(block)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), title=st.sampled_from([b"a", b"b", b"c"]))
    def publish(self, data, title):
        block = data.draw(st.sampled_from(self.held))
        if block not in self.pool._names:
            self.pool.publish(block, title)

    @rule(title=st.sampled_from([b"a", b"b", b"c"]))
    def share(self, title):
        block = self.pool.find(title)
        if block is not None:
            self.pool.share(block)
            self.held.append(block)

    @precondition(lambda self: not self.held)
    @rule()
    def reset(self):
        self.pool.reset()
        assert self.pool.cached == 0

    @invariant()
    def holders_are_right_and_the_rest_is_available(self):
        assert self.pool.holders == [self.held.count(block) for block in range(TOTAL)]
        assert self.pool.available == TOTAL - len(set(self.held))


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
