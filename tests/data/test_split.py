import random

import pytest

from baiwen.data.document import document
from baiwen.data.split import HeldOut, family_hash


def split(documents, share, most):
    heldout = HeldOut(share, most)
    trained = [kept for entry in documents for kept in heldout.offer(entry, family_hash(entry))]
    return {d.id for d in heldout.documents()}, {d.id for d in trained}


@pytest.fixture
def documents():
    return [
        document(f"text {i} " * (i % 7 + 1), {"family": f"family {i // 2}"}) for i in range(4000)
    ]


@pytest.mark.parametrize("most", [10**9, 3000, 100, 0])
def test_the_split_does_not_depend_on_the_order(documents, most):
    one = split(documents, 0.1, most)
    shuffled = random.Random(0).sample(documents, len(documents))
    assert split(shuffled, 0.1, most) == one
    assert not one[0] & one[1]
    assert len(one[0]) + len(one[1]) == len(documents)


def test_more_documents_leave_the_fate_of_the_others_as_it_was(documents):
    heldout, _ = split(documents, 0.1, 10**9)
    half, _ = split(documents[:2000], 0.1, 10**9)
    assert half == heldout & {d.id for d in documents[:2000]}


def test_families_are_never_parted(documents):
    for most in (10**9, 3000):
        heldout, _ = split(documents, 0.1, most)
        for left, right in zip(documents[::2], documents[1::2], strict=True):
            assert (left.id in heldout) == (right.id in heldout)


def test_the_share_is_met(documents):
    heldout, _ = split(documents, 0.1, 10**9)
    assert 300 < len(heldout) < 500


def test_a_limit_keeps_the_lowest_hashes_that_fit(documents):
    heldout = HeldOut(0.1, 3000)
    for entry in documents:
        list(heldout.offer(entry, family_hash(entry)))
    kept = heldout.documents()
    families = sorted({family_hash(d): 0 for d in documents if family_hash(d) < 0.1 * 2**64})
    size, expected = 0, set()
    for key in families:
        members = [d for d in documents if family_hash(d) == key]
        size += sum(d.size for d in members)
        if size > 3000:
            break
        expected |= {d.id for d in members}
    assert {d.id for d in kept} == expected
    assert kept == sorted(kept, key=lambda d: (family_hash(d), d.domain, d.id))


def test_without_a_family_the_text_decides_whatever_its_spaces():
    one, two = document("a  b\n", {}), document("a b", {})
    assert family_hash(one) == family_hash(two)
