"""Haystacks: long documents in stretches, short ones joined."""

from itertools import islice

import pytest

from baiwen.data.document import Document
from baiwen.data.longrange.haystacks import haystacks


def documents(*lengths):
    texts = ("".join(f"word{i:05} " for i in range(length // 10)) for length in lengths)
    return [Document(f"d{n}", text, {"license": "CC0"}) for n, text in enumerate(texts)]


def drawn(read, count, target=1_000, **knobs):
    """The first haystacks over documents, one character a token."""
    found = haystacks(lambda: read, lambda _: target, len, spare=1.0, **knobs)
    return list(islice(found, count))


def test_a_long_document_gives_its_stretches_in_order():
    (long,) = documents(10_000)
    found = drawn([long], 9)
    text = "".join(haystack.parts[0].text for haystack in found)
    assert long.text.startswith(text) and 9 * 900 <= len(text) <= 9 * 1_000
    assert all(len(haystack.parts) == 1 for haystack in found)
    assert all(haystack.parts[0].text.endswith(" ") for haystack in found), "whole words"


def test_short_documents_are_joined_in_order_until_they_are_enough():
    found = drawn(documents(400, 400, 400, 300, 300, 500), 2)
    assert [[part.id for part in haystack.parts] for haystack in found] == [
        ["d0", "d1", "d2"],
        ["d3", "d4", "d5"],
    ]
    assert found[0].meta == {"lineage": ["d0", "d1", "d2"], "license": "CC0"}


def test_the_rest_of_a_long_document_is_joined_as_well():
    first, second = drawn(documents(1_600, 700), 2)
    assert [part.id for part in first.parts] == ["d0"]
    assert [part.id for part in second.parts] == ["d0", "d1"]
    assert first.parts[0].text + second.parts[0].text == documents(1_600)[0].text


def test_no_haystack_has_a_text_twice_when_the_documents_are_read_again():
    targets = iter([300, 1_700, 300, 1_700, 300, 1_700])
    read = documents(400, 500, 600, 400)
    found = list(islice(haystacks(lambda: read, lambda _: next(targets), len, spare=1.0), 5))
    assert {haystack.target for haystack in found} == {300, 1_700}
    for haystack in found:
        assert len(haystack.parts) == len({part.id for part in haystack.parts})
        assert sum(len(part.text) for part in haystack.parts) >= 0.9 * haystack.target


def test_documents_that_are_shorter_together_than_a_target_are_read_once_more_and_given_up():
    targets = iter([300, 9_000])
    found = list(haystacks(lambda: documents(400, 500), lambda _: next(targets), len, spare=1.0))
    assert [haystack.target for haystack in found] == [300]


def test_without_joining_short_documents_are_left_out():
    found = drawn(documents(400, 1_000, 700, 1_000), 4, join=False)
    assert [haystack.parts[0].id for haystack in found] == ["d1", "d3", "d1", "d3"]


@pytest.mark.parametrize(("lengths", "join"), [((300, 300), True), ((900, 900), False), ((), True)])
def test_documents_that_are_not_enough_give_nothing(lengths, join):
    assert drawn(documents(*lengths), 5, join=join) == []
