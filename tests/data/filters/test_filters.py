"""Each rule of prose with a text that stays and one that goes, at the published bound."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baiwen.data import filters
from baiwen.data.filters import c4, privacy
from baiwen.errors import UserError

SENTENCE = "The cat sat on the mat and was happy to be with the dog that lives here."
PROSE = """\
It is a truth that few sailors dispute: the sea gives back what it takes, though seldom to the same
shore. In the spring of that year the harbour froze for eleven days, and boys skated between the
hulls of ships that should have been halfway to Lisbon with their salt and timber.

My grandfather kept the light then. Every evening he climbed one hundred and nine steps, trimmed the
wick, and wrote a line in a book with a marbled cover; most nights the line said only that nothing
had happened.
"""
LONG = 100_000
CHINESE = (
    "春天来了，山上的雪慢慢融化，河水又开始流动。孩子们脱下厚厚的棉衣，跑到田野里放风筝。"
    "老人坐在门前的长椅上，看着远处的牛羊，想起自己年轻时走过的路。"
    "村口的那棵大树已经有三百多年了，夏天它给人们遮阳，秋天它的叶子铺满小路。"
    "邮递员骑着自行车经过，车铃声在安静的午后显得格外清脆。"
)
JAPANESE = (
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"
    "何でも薄暗いじめじめした所でニャーニャー泣いていた事だけは記憶している。"
)
LANGUAGES = (None, "en", "zh", "python", "html", "json", "yaml", "java")
WORDS = st.text() | st.lists(
    st.sampled_from(["the", "…", "#", "- a", "{", "\n", "\n\n", "猫", "lorem ipsum", "1.5", "\x00"])
).map(" ".join)


def only(name, **thresholds):
    """Settings with one rule alone."""
    return {**{rule.__name__: False for rule in filters.ALL}, name: thresholds or True}


def lines(*parts):
    return "\n".join(parts)


@pytest.mark.parametrize(
    ("text", "language"),
    [(PROSE, "en"), (PROSE, None), (CHINESE, "zh"), (CHINESE, None), (JAPANESE, "ja")],
)
def test_good_text_passes_every_rule(text, language):
    assert filters.verdict(text, {}, language=language) is None


@pytest.mark.parametrize(
    ("name", "stays", "goes", "verdict"),
    [
        ("word_count", "a " * 50, "a, " * 49, ("gopher: too few words", 49, 50)),
        ("word_count", "猫" * 50, "猫。" * 49, ("gopher: too few words", 49, 50)),
        (
            "word_count",
            "a " * 100_000,
            "a " * 100_001,
            ("gopher: too many words", 100_001, 100_000),
        ),
        ("mean_word_length", "ab abcd.", "ab abc .", ("gopher: short words", 2.5, 3)),
        ("mean_word_length", "a" * 10, "a" * 11, ("gopher: long words", 11, 10)),
        ("mean_word_length", "猫坐在垫子上", "a 猫 bb cc", ("gopher: short words", 1.5, 3)),
        ("symbols", "# " + "a " * 9, "# # " + "a " * 8, ("gopher: symbols", 0.2, 0.1)),
        ("symbols", "… " + "a " * 9, "a... b… c d e", ("gopher: symbols", 2 / 7, 0.1)),
        ("bullets", "- a\n" * 9 + "b", "- a\n" * 10, ("gopher: bullets", 1, 0.9)),
        ("ellipses", "a…\nb...\nc ...\n" + "d\n" * 7, "a…\nb", ("gopher: ellipses", 0.5, 0.3)),
        ("letters", "a b c d 1 .", "a b c 1 2 .", ("gopher: few letters", 0.6, 0.8)),
        ("stop_words", "the cat and", "the cat the", ("gopher: no stop words", 1, 2)),
        ("repeated_lines", "ab\nab\n" + "c" * 16, "ab\nab", ("fineweb: repeated lines", 0.5, 0.1)),
        ("lorem_ipsum", "lorem", "Lorem ipsum", ("c4: lorem ipsum", None, None)),
        ("curly_brackets", "(a)", "if {", ("c4: curly bracket", None, None)),
        (
            "line_punctuation",
            lines("a.", *"bcdefgh"),
            lines("a。", *"bcdefghi"),
            ("fineweb: lines without punctuation", 1 / 9, 0.12),
        ),
        (
            "short_lines",
            lines("a" * 31, "b", "\n", "c"),
            lines("a" * 30, "b"),
            ("fineweb: short lines", 1, 0.67),
        ),
        ("newlines", "a b c d\n\n e f g h i j\n", "a\nb", ("fineweb: line breaks", 0.5, 0.3)),
    ],
)
def test_a_rule_of_prose_lets_pass_what_keeps_to_the_published_bound(name, stays, goes, verdict):
    settings = only(name)
    assert filters.verdict(stays, settings) is None
    assert filters.verdict(goes, settings) == verdict


def test_signs_are_words_of_the_letters_rule_where_asked_for():
    text = "one two three, four five."
    assert filters.verdict(text, only("letters")) is None
    assert filters.verdict(text, only("letters", signs=True)).value == 5 / 7


def test_stop_words_are_not_sought_in_a_text_of_another_language():
    text = "chat noir mange souris verte dans jardin " * 10
    assert filters.verdict(text, only("stop_words"), language="fr") is None
    assert filters.verdict(text, only("stop_words"), language="en").value == 0


def test_stop_words_at_the_end_of_lines_count():
    assert filters.verdict("cats of\nthat,", only("stop_words")) is None


def test_code_is_judged_by_rules_for_code():
    assert filters.verdict("x = 1", {}, domain="code").rule == "code: too short"
    assert filters.verdict("x = 1", {}).rule == "gopher: too few words"


def test_thresholds_change_and_false_switches_off():
    short = "The cat and the dog sat."
    assert filters.verdict(short, only("word_count", least=3)) is None
    assert filters.verdict(short, {"word_count": False}) is None
    assert filters.verdict(short, {"word_count": True}).rule == "gopher: too few words"


def test_rules_for_web_pages_run_where_they_are_named():
    text = PROSE.replace(".", ",")
    assert filters.verdict(text, {}) is None
    named = filters.verdict(text, {"line_punctuation": True})
    assert named == ("fineweb: lines without punctuation", 0, 0.12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"word_cuont": False}, "there is no filter 'word_cuont'. Did you mean word_count?"),
        ({"word_count": {"lest": 3}}, "word_count has no threshold 'lest'. Did you mean least?"),
        ({"generated": {"most": 3}}, "It has: none."),
        ({"word_count": {"least": "3"}}, "word_count: least = '3' has to be a number."),
        ({"word_count": {"least": True}}, "word_count: least = True has to be a number."),
        ({"letters": {"signs": 1}}, "letters: signs = 1 has to be true or false."),
        ({"licenses": {"allow": "MIT"}}, "licenses: allow = 'MIT' has to be a list of strings."),
    ],
)
def test_an_unknown_rule_or_threshold_is_named_with_the_nearest(settings, message):
    with pytest.raises(UserError) as error:
        filters.known(settings)
    assert message in str(error.value)


def test_settings_that_fit_are_known():
    settings = {"word_count": {"least": 20.0}, "licenses": {"allow": ["MIT"], "unknown": True}}
    assert filters.known(settings) == settings


def test_every_rule_tells_what_it_is_for():
    assert all(rule.__doc__ and rule.__module__ != "builtins" for rule in filters.ALL)


def test_names_of_rules_are_unique():
    names = [rule.__name__ for rule in filters.ALL]
    assert len(set(names)) == len(names)


ON = {rule.__name__: True for rule in filters.ALL if rule.__name__ != "licenses"}


@given(st.lists(WORDS, max_size=4), st.sampled_from(["prose", "code"]), st.sampled_from(LANGUAGES))
def test_no_rule_raises_and_a_batch_decides_as_one_document_does(texts, domain, language):
    columns = {"domain": [domain] * len(texts), "language": [language] * len(texts)}
    table = pa.table({"text": pa.array(texts, pa.large_string()), **columns})
    alone = [filters.verdict(text, ON, domain=domain, language=language) for text in texts]
    rows = [tuple(row.values()) for row in filters.heuristics(table, ON).to_pylist()]
    assert rows == [tuple(found or (None, None, None)) for found in alone]
    for step, knobs in ((c4.lines, c4.Lines()), (privacy.mask, privacy.Privacy())):
        assert step(table, knobs).num_rows == len(texts)


def test_batches_of_any_size_give_the_same_verdicts(monkeypatch):
    texts = [PROSE, "short", CHINESE, PROSE * 9, "", SENTENCE * 30, "- a\n" * 80]
    table = pa.table({"text": pa.array(texts, pa.large_string())})
    whole = filters.heuristics(table, {})
    assert 0 < whole["rule"].null_count < len(texts)
    monkeypatch.setattr(filters, "_BATCH", 100)
    assert filters.heuristics(table, {}) == whole


def test_a_table_of_no_documents_has_no_verdicts():
    table = pa.table({"text": pa.array([], pa.large_string())})
    assert filters.heuristics(table, {}).num_rows == 0
