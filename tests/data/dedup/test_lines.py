"""Lines and paragraphs that come again are taken out, all but the first."""

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baiwen.data.dedup import lines
from baiwen.data.dedup.lines import RULE, Lines, steps, units
from baiwen.data.words import words

MENU = "home news about us contact\n"
LINE = st.sampled_from(["a b c\n", "A, b... c!\n", "b a c\n", "a b\n", "\n", "a b c", "中 文 字\n"])
TEXTS = st.lists(st.lists(LINE, max_size=6).map("".join), max_size=6)


def test_a_line_stays_where_the_corpus_has_it_first(run, part):
    texts = [f"First.\n{MENU}text of one", f"{MENU}Second.\n", f"Third.\n{MENU.upper()}"]
    found = run(steps(Lines(least=3)), part(texts[:2]), part(texts[2:], 2))
    assert found["text"] == [None, "Second.\n", "Third.\n"]
    assert found["removed"] == [0, 1, 1] and found["rule"] == [None] * 3


def test_a_document_of_which_nothing_is_left_goes_as_it_was(run, part):
    found = run(steps(Lines(least=3)), part([MENU, "\n" + MENU + MENU]))
    assert found["rule"] == [None, RULE] and found["value"] == [None, 2]
    assert found["text"] == [None, None]


def test_short_lines_and_code_stay(run, part):
    short = run(steps(Lines(least=6)), part([MENU, MENU]))
    code = run(steps(Lines(least=3)), part([MENU, MENU, MENU], domain=["code", "code", "prose"]))
    assert short["rule"] == [None] * 2 and code["rule"] == [None] * 3


def test_paragraphs_are_compared_as_a_whole(run, part):
    texts = ["one two three\nfour\n\n\nfive six seven\n", "five six seven\n\none two three\nfour"]
    texts += ["one two three\n\nfour"]
    found = run(steps(Lines(unit="paragraph", least=3)), part(texts))
    assert found["rule"] == [None, RULE, None] and found["text"] == [None] * 3


@pytest.mark.parametrize("most", [1, 2])
@given(texts=TEXTS)
def test_what_is_left_is_what_a_reader_with_a_counter_leaves(run, part, texts, most):
    found = run(steps(Lines(least=3, most=most)), part(texts[:2]), part(texts[2:], 2))
    seen: Counter[tuple[int, ...]] = Counter()
    for text, got, removed in zip(texts, found["text"], found["removed"], strict=True):
        kept = [line for line in text.splitlines(keepends=True) if stays(line, seen, most)]
        left = "".join(kept)
        assert got == (left if left != text and left.strip() else None)
        assert removed == len(text.splitlines()) - len(kept)


def stays(line, seen, most):
    """Whether a line is short, or has not come too often yet."""
    said = tuple(words(pa.array([line])).hashes.tolist())
    seen[said] += 1
    return len(said) < 3 or seen[said] <= most


def test_sorting_in_rounds_finds_the_same(run, part, monkeypatch):
    texts = [f"{MENU}line number {place % 5} of it\n" for place in range(20)]
    whole = run(steps(Lines(least=3)), part(texts))
    monkeypatch.setattr(lines, "SORTED", 7)
    assert run(steps(Lines(least=3)), part(texts)) == whole


def test_a_unit_has_a_hash_of_its_words_in_their_order(part):
    texts = ["a b c\nc b a\nA. B. c\na b c d\na b\n"]
    one, turned, same, longer, short = units(part(texts), "line", 3)["hashes"][0].as_py()
    assert one == same and len({one, turned, longer, short}) == 4 and short == lines.NONE
