"""N-grams in batches, against a reader of one text with a counter and a set."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baiwen.data import filters
from baiwen.data.filters import page, repetition, words

VARIED = " ".join(f"number{i} word{i}" for i in range(99))  # no n-gram twice
LETTERS = st.lists(st.lists(st.sampled_from("abc"), max_size=40).map(" ".join), min_size=1)


def repeats(*texts):
    found = words.split(texts)
    counts = page.counted(found)
    pages = [page.Page(text, "prose", None, None, c) for text, c in zip(texts, counts, strict=True)]
    return list(repetition.measured(found, pages))


def top(parts, n, glue=" "):
    """Characters in the most frequent n-gram that comes twice, the first of equally frequent."""
    grams = Counter(glue.join(parts[i : i + n]) for i in range(len(parts) - n + 1))
    return sum(len(gram) * count for gram, count in grams.most_common(1) if count > 1)


def repeated(parts, n):
    """Characters in n-grams that came before, of which none overlap."""
    seen, place, total = set(), 0, 0
    while place + n <= len(parts):
        gram = tuple(parts[place : place + n])
        total += sum(map(len, gram)) if gram in seen else 0
        place += n if gram in seen else 1
        seen.add(gram)
    return total


@given(LETTERS)
def test_the_most_frequent_ngram_is_that_of_a_counter(texts):
    for text, found in zip(texts, repeats(*texts), strict=True):
        assert found.top == tuple(top(text.split(), n) for n in (2, 3, 4))


@given(LETTERS)
def test_repeated_ngrams_are_those_of_a_set(texts):
    for text, found in zip(texts, repeats(*texts), strict=True):
        for n, most in zip(repetition.LONG, found.covered, strict=True):
            assert found.repeated(n) == repeated(text.split(), n) <= most


@given(st.lists(st.text(alphabet="天地玄黄", max_size=40), min_size=1))
def test_characters_are_words_of_a_script_without_spaces_in_longer_ngrams(texts):
    for text, found in zip(texts, repeats(*texts), strict=True):
        if text:
            assert found.top == tuple(top(text, n, glue="") for n in (3, 5, 6))
            assert found.repeated(5) == repeated(text, 8)


def test_more_words_than_a_key_has_room_for_are_sorted_as_well(monkeypatch):
    texts = ["a b a b c a b c d e a b c d e", "a b c d e f a b c d e f"]
    want = [(found.top, found.covered) for found in repeats(*texts)]
    monkeypatch.setattr(repetition, "_PLACE_BITS", 2)
    assert [(found.top, found.covered) for found in repeats(*texts)] == want


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a line of this\n" * 3 + "\n".join(f"another line {i}" for i in range(8)), None),
        ("a line of this\n" * 5 + "\n".join(f"another line {i}" for i in range(8)), "lines"),
        ("a much longer line of words " * 3 + "\n" + "x" * 400, None),
        (
            ("a much longer line of words " * 4 + "\n") * 2 + "\n".join("bcdefghi"),
            "lines, characters",
        ),
        ("\n\n".join(["one two\nthree"] * 3 + ["four", "five"] * 1), "paragraphs"),
    ],
)
def test_lines_and_paragraphs_go_by_their_share_and_by_their_characters(text, rule):
    only = {one.__name__: one in repetition.RULES for one in filters.ALL}
    found = filters.verdict(text, only)
    assert (found and found.rule) == (rule and f"gopher: duplicate {rule}")


@pytest.mark.parametrize(("n", "bound"), [(2, 0.2), (3, 0.18), (4, 0.16)])
def test_the_most_frequent_ngram_may_have_its_published_share(n, bound):
    run, off = ["tick", "tock", "tack", "tuck"][:n], dict.fromkeys(("two", "three", "four"), 1.0)
    del off[("two", "three", "four")[n - 2]]
    last, first, found = turn(run, only("top_ngrams", **off))
    assert top(last.split(), n) / len(last) <= bound < top(first.split(), n) / len(first)
    assert found == (f"gopher: top {n}-gram", top(first.split(), n) / len(first), bound)


NAMES = ("five", "six", "seven", "eight", "nine", "ten")


@pytest.mark.parametrize(
    ("n", "bound"), [(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.1)]
)
def test_repeated_ngrams_may_have_their_published_share(n, bound):
    off = dict.fromkeys(NAMES, 1.0)
    del off[NAMES[n - 5]]
    last, first, found = turn([f"w{i}" for i in range(n)], only("duplicate_ngrams", **off))
    assert repeated(last.split(), n) / len(last) <= bound < repeated(first.split(), n) / len(first)
    assert found == (f"gopher: duplicate {n}-grams", repeated(first.split(), n) / len(first), bound)


def only(name, **thresholds):
    settings = {one.__name__: False for one in filters.ALL}
    return {**settings, name: thresholds}


def turn(run, settings):
    """The last text with so many repeats that stays, the first that goes, and its verdict."""
    again = [f" {' '.join(run)} x{i}" for i in range(99)]
    texts = [VARIED + "".join(again[:count]) for count in range(99)]
    place = next(i for i, text in enumerate(texts) if filters.verdict(text, settings))
    return texts[place - 1], texts[place], filters.verdict(texts[place], settings)
