"""Which documents a sample has."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from baiwen.data.document import Document
from baiwen.data.sample import draw, sample, stratum


def documents(sizes):
    return [
        Document(f"{name}-{number}", "text", {"domain": name, "site": str(number % 3)})
        for name, size in sizes.items()
        for number in range(size)
    ]


SIZES = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 30), max_size=4)


@given(SIZES, st.integers(1, 40), st.integers(0, 3))
def test_strata_are_as_even_as_can_be_and_the_order_is_no_matter(sizes, count, seed):
    there = documents(sizes)
    chosen = sample(lambda: there, count, ("domain",), seed)
    assert chosen == sample(lambda: there[::-1], count, ("domain",), seed)
    assert len(chosen) == min(count, len(there))
    found = Counter(one.domain for one in chosen)
    short = [name for name, size in sizes.items() if found[name] < size]  # that have more
    assert all(found[one] <= found[other] + 1 for one in found for other in short)


def test_of_each_stratum_those_with_the_lowest_hashes_are_drawn():
    there = documents({"a": 50})
    chosen = {one.id for one in sample(lambda: there, 10, (), 7)}
    assert chosen == set(sorted((one.id for one in there), key=lambda name: draw(name, 7))[:10])


def test_another_seed_draws_others():
    there = documents({"a": 500})
    one, other = ({d.id for d in sample(lambda: there, 100, (), seed)} for seed in (0, 1))
    assert 5 < len(one & other) < 45  # 20 by chance


def test_blank_documents_and_those_that_come_twice_are_passed_over():
    there = [Document("a", " \n", {}), Document("b", "text", {}), Document("b", "text", {})]
    assert [one.id for one in sample(lambda: there, 5, (), 0)] == ["b"]


@given(SIZES, st.integers(1, 40))
def test_a_corpus_that_is_read_twice_gives_the_same_sample(sizes, count):
    there = documents(sizes)
    once = sample(lambda: there, count, ("domain",), 0)
    assert sample(lambda: there * 2, count, ("domain",), 0) == once


def test_strata_may_be_of_any_field():
    one = Document("a", "text", {"site": 3})
    assert stratum(one, ("domain", "site", "none")) == ("prose", "3", "")
