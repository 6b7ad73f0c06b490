import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baiwen.data.filters.c4 import Lines, cleaned, lines

FIVE = "\n".join(f"This is sentence number {i}." for i in range(5))


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("One two three.", "One two three."),
        ("One two three", None),
        ('He said "go on now!"', 'He said "go on now!"'),
        ("One two three...", None),
        ("Two words.", None),
        ("  One two three?  ", "One two three?"),
        ("One two " + "x" * 1000 + " three.", "One two " + "x" * 1000 + " three."),
        ("One two " + "x" * 1001 + " three.", None),
        ("Please enable JavaScript to go on.", None),
        ("We have a Cookie Policy for you.", None),
        ("Rome is old.[12][citation needed]", "Rome is old."),
        ("他坐在椅子上。", "他坐在椅子上。"),
        ("他坐在椅子上", None),
        ("坐。", None),
    ],
)
def test_lines_stay_where_they_are_sentences(line, kept):
    text, verdict = cleaned(f"{FIVE}\n{line}", Lines())
    assert verdict is None
    assert text == (f"{FIVE}\n{kept}" if kept else FIVE)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (FIVE, None),
        (FIVE.replace("4.", "4"), ("c4: too few sentences", 4, 5)),
        ("One here. Two here! Three here? Four here. Five.", None),
        ("We don't. They won’t. I shan't. You can't. He does.", None),
        ("One here. Two here! Three here? Four of Mr. Bo.", ("c4: too few sentences", 4, 5)),
        ("One at 3.14 or so. It is ... by J. S. Bach.", ("c4: too few sentences", 2, 5)),
        ("一在这里。二在这里！三在这里？四在这里。五。", None),
        (FIVE + "\nint main() { return 0; }", None),  # no sentence: the line alone goes
        (FIVE + "\nThis has a { in it.", ("c4: curly bracket", None, None)),
        (FIVE + "\nLorem ipsum dolor sit amet.", ("c4: lorem ipsum", None, None)),
        ("", ("c4: too few sentences", 0, 5)),
    ],
)
def test_pages_go_with_too_little_left_or_a_line_that_speaks_for_them(text, verdict):
    if text.endswith("here.") and "{" in text:
        text = text.rstrip(".")
    assert cleaned(text, Lines())[1] == verdict


@pytest.mark.parametrize(
    ("knob", "line"),
    [
        ({"ends": False}, "One two three"),
        ({"least_words": 1}, "Two words."),
        ({"longest_word": 0}, "One two " + "x" * 1001 + " three."),
        ({"javascript": False}, "Please enable JavaScript to go on."),
        ({"policies": False}, "We have a Cookie Policy for you."),
        ({"citations": False}, "Rome is an old one [1]."),
        ({"curly_brackets": False}, "This has a { in it."),
        ({"lorem_ipsum": False}, "Lorem ipsum dolor sit amet."),
    ],
)
def test_each_rule_of_lines_can_be_switched_off(knob, line):
    text = f"{FIVE}\n{line}"
    assert cleaned(text, Lines())[0] != text or cleaned(text, Lines())[1]
    assert cleaned(text, Lines(**knob)) == (text, None)


def test_curly_quotation_marks_end_lines_that_are_not_english():
    line = "„Wir gehen jetzt nach Hause, sagte er.”"
    assert cleaned(f"{FIVE}\n{line}", Lines(), "de")[0].endswith(line)
    assert cleaned(f"{FIVE}\n{line}", Lines(), "en")[0] == FIVE


def test_the_step_gives_the_text_where_it_changed_and_none_where_the_page_goes():
    table = pa.table({"text": pa.array([FIVE, f"{FIVE}\nMenu", "Menu"], pa.large_string())})
    found = lines(table, Lines())
    assert found["text"].to_pylist() == [None, FIVE, None]
    assert found["rule"].to_pylist() == [None, None, "c4: too few sentences"]


@given(st.lists(st.text(alphabet="ab .!?{[1]\"'\n猫。"), max_size=8).map("\n".join))
def test_what_is_left_of_a_text_is_left_again(text):
    kept, verdict = cleaned(text, Lines(least_sentences=0))
    if verdict is None:
        assert cleaned(kept, Lines(least_sentences=0, citations=False)) == (kept, None)
