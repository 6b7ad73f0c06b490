import pytest

from baiwen.data import filters
from baiwen.data.document import document
from baiwen.errors import UserError

PROSE = "The cat sat on the mat and it was happy to be with the dog that lives here. " * 6
CHINESE = "猫坐在垫子上，它很高兴和住在这里的狗在一起。今天天气很好，我们去公园散步。" * 3
CODE = (
    "def add(left, right):\n    return left + right\n\n\n"
    "def double(value):\n    return add(value, value)\n" * 2
)


def lines(*parts):
    return "\n".join(part for part in parts)


@pytest.mark.parametrize(("text", "domain"), [(PROSE, "prose"), (CHINESE, "prose"), (CODE, "code")])
def test_good_text_passes_every_filter(text, domain):
    assert filters.verdict(document(text, {"domain": domain}), {}) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The cat and the dog.", "too few words"),
        ("猫坐在垫子上。", "too few words"),
        ("the and " * 60_000, "too many words"),
        ("a b c the and I o " * 20, "word length"),
        (PROSE + " # whatever" * 30, "symbols"),
        (lines(*[f"- number {i} and the other animal" for i in range(30)]), "bullets"),
        (
            lines(
                *[f"Read on about the {i} and this, that and more ..." for i in range(4)],
                *[
                    f"The cat number {i} sat on the mat and was happy there with the old dog"
                    for i in range(6)
                ],
            ),
            "ellipses",
        ),
        ("the and 1234 5678 90123 " * 20, "few letters"),
        ("chat noir mange souris verte dans jardin " * 10, "no stop words"),
        (lines(*["The same line and the same end."] * 20), "repeated lines"),
        (PROSE + "Lorem ipsum dolor sit amet.", "lorem ipsum"),
    ],
)
def test_each_prose_filter_finds_its_text(text, reason):
    assert filters.verdict(document(text, {"domain": "prose"}), {}) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = 1\n", "too short"),
        (CODE + "table = [" + "1, " * 400 + "]\n", "long lines"),
        (lines(*["call(argument, " * 8] * 4), "long lines"),
        ("[{(<%^&*!+-=/?|~>)}]\n" * 20, "few alphanumeric"),
        ("# This file is auto-generated.\n" + CODE, "generated"),
    ],
)
def test_each_code_filter_finds_its_source(text, reason):
    assert filters.verdict(document(text, {"domain": "code"}), {}) == reason


def test_a_mark_of_generated_code_counts_only_in_the_first_lines():
    text = CODE + "# This file is auto-generated.\n"
    assert filters.generated(document(text, {})) is None


def test_stop_words_are_not_sought_in_a_text_of_another_language():
    text = "chat noir mange souris verte dans jardin " * 10
    assert filters.verdict(document(text, {"language": "fr"}), {}) is None


def test_thresholds_change_and_false_switches_off():
    short = document("The cat and the dog sat.", {})
    assert filters.verdict(short, {"word_count": {"least": 3}}) is None
    assert filters.verdict(short, {"word_count": False}) is None
    assert filters.verdict(short, {"word_count": True}) == "too few words"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"word_cuont": False}, "there is no filter 'word_cuont'. Did you mean word_count?"),
        ({"word_count": {"lest": 3}}, "word_count has no threshold 'lest'. Did you mean least?"),
        ({"generated": {"most": 3}}, "It has: none."),
    ],
)
def test_an_unknown_filter_or_threshold_is_named_with_the_nearest(settings, message):
    with pytest.raises(UserError) as error:
        filters.known(settings)
    assert message in str(error.value)


def test_every_filter_cites_its_source():
    cited = [rule for rule in (*filters.PROSE, *filters.CODE) if "(" in (rule.__doc__ or "")]
    assert {rule.__name__ for rule in (*filters.PROSE, *filters.CODE)} - {
        rule.__name__ for rule in cited
    } == {"characters"}
