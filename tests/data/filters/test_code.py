"""Each rule of code with a file that stays and one that goes, at the published bound."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baiwen.data import filters
from baiwen.data.filters import code

GOOD = (
    "def add(left, right):\n    return left + right\n\n\n"
    "def double(value):\n    return add(value, value)\n" * 2
)
JAVA = 'class A {\n    // says "hi"\n    String s = "// no comment";\n    /* done */\n}\n'


def only(name, **thresholds):
    return {**{rule.__name__: False for rule in filters.ALL}, name: thresholds or True}


def verdict(text, settings, language="python"):
    return filters.verdict(text, settings, domain="code", language=language)


def test_good_code_passes_every_rule():
    assert verdict(GOOD, {}) is None


@pytest.mark.parametrize(
    ("name", "language", "stays", "goes", "found"),
    [
        ("characters", "python", "a" * 100, "a" * 99, ("code: too short", 99, 100)),
        (
            "line_count",
            "go",
            "\n" * 99_999,
            "\n" * 100_000,
            ("starcoder: too many lines", 100_001, 100_000),
        ),
        (
            "line_count",
            "YAML",
            "\n" * 511,
            "\n" * 512,
            ("starcoder: too many lines", 513, 512),
        ),
        (
            "line_length",
            "go",
            "a" * 1000 + "\n" * 10,
            "a" * 1001 + "\n" * 11,
            ("codex: long line", 1001, 1000),
        ),
        (
            "line_length",
            "go",
            "\n".join(["a" * 100] * 3),
            "\n".join(["a" * 101] * 3),
            ("codex: long lines", 101, 100),
        ),
        (
            "line_length",
            "HTML",
            "a" * 100_000,
            "a" * 100_001,
            ("starcoder: long line", 100_001, 100_000),
        ),
        (
            "alphanumeric",
            "go",
            "a1--" + "----",
            "a---" + "-",
            ("codex: few alphanumeric", 0.2, 0.25),
        ),
        ("alphabetic", "go", "a---", "a1---", ("starcoder: few letters", 0.2, 0.25)),
        ("alphabetic", "go", "é---", "é1---", ("starcoder: few letters", 0.2, 0.25)),
        (
            "generated",
            "go",
            "\n" * 5 + "// auto-generated",
            "// Automatically generated",
            ("starcoder: generated", None, None),
        ),
        (
            "xml",
            "svg",
            " " * 88 + '<?xml version="1.0"?>',
            ' <?xml version="1.0"?>',
            ("starcoder: xml", None, None),
        ),
        (
            "html",
            "html",
            "<p>" + "a" * 100 + "</p>",
            "<script>" + "a" * 100 + "</script><b>b</b>",
            ("starcoder: little visible text", 1, 100),
        ),
        (
            "html",
            "html",
            "<p>" + "a" * 100 + "</p>",
            "<p class='" + "x" * 389 + "'>" + "a" * 100,
            ("starcoder: mostly markup", 100 / 501, 0.2),
        ),
        ("data_file", "json", "a" * 50, "a" * 49, ("starcoder: small data file", 49, 50)),
        ("data_file", "json", "a" * 5000, "a" * 5001, ("starcoder: large data file", 5001, 5000)),
        ("data_file", "yaml", "a-" * 50, "a--" * 50, ("starcoder: data", 1 / 3, 0.5)),
        (
            "encoded",
            "go",
            "x = '" + "Ab0/" * 256 + "'" + "; go on" * 200,
            "x = '" + "Ab0/" * 257 + "'" + "; go on" * 200,
            ("starcoder: encoded data", 1028, 1024),
        ),
        (
            "encoded",
            "go",
            "\\u00e9" * 10 + " " * 60,
            "\\u00e9" * 10 + " " * 40,
            ("starcoder: encoded data, share", 0.6, 0.5),
        ),
        (
            "comments",
            "python",
            "#\n" + "x" * 98,
            "#\n" + "x" * 99,
            ("santacoder: few comments", 1 / 101, 0.01),
        ),
        ("comments", "go", "//34\n" * 4, "//345\n", ("santacoder: mostly comments", 5 / 6, 0.8)),
    ],
)
def test_a_rule_of_code_lets_pass_what_keeps_to_the_published_bound(
    name, language, stays, goes, found
):
    assert verdict(stays, only(name), language) is None
    assert tuple(verdict(goes, only(name), language)) == pytest.approx(found)


@pytest.mark.parametrize(
    ("language", "text", "comments"),
    [
        ("python", 'x = "# none" # one\n', "# one"),
        ("python", "def f():\n    '''Says.'''\n    x = '''text'''\n", "    '''Says.'''"),
        ("Java", JAVA, '// says "hi"/* done */'),
        ("C", "int a; /* open", "/* open"),
        ("shell", 'echo "#no" # yes', "# yes"),
        ("sql", "select '--no' -- yes", "-- yes"),
    ],
)
def test_comments_are_told_from_strings(language, text, comments):
    bound = {"least": 1.0, "most": 1.0}
    assert verdict(text, only("comments", **bound), language).value == len(comments) / len(text)


@pytest.mark.parametrize(
    ("name", "language"),
    [("comments", "cobol"), ("html", "java"), ("data_file", "java"), ("alphabetic", "assembly")],
)
def test_rules_of_some_languages_pass_the_others_by(name, language):
    assert verdict("-" * 9, only(name), language) is None


RUNS = st.sampled_from(
    ["4F", "0x41", "\\x41", ",", " ", "\n", "\u00a0", "\\u4e2d", "é", "-", "A" * 31, "a+/=", "zz"]
)


@given(st.lists(st.tuples(RUNS, RUNS, st.integers(1, 12)), max_size=6))
def test_no_run_of_data_is_passed_over(parts):
    text = "".join((one + other) * count for one, other, count in parts)
    assert code._dense(text) or not code._ENCODED.search(text)


SHOWN = [
    ("<p title='a > b' class=x>Tom &amp; <b>Jerry</b></p><!-- <i>no</i> -->", "Tom & Jerry"),
    ("<head><style>p {}</style></head><SCRIPT src=x>if (a < b) c</SCRIPT >1 < 2", "1 < 2"),
    ('<a href="x" ">stray quotes</a> <p class="y">close', "stray quotes close"),
    ("<![ x", ""),
    ("<!-- never closed", ""),
    ("a <b\nclass=c", "a"),
]


@pytest.mark.parametrize(("text", "shown"), SHOWN)
def test_of_html_counts_what_a_browser_shows(text, shown):
    assert code._visible(text) == shown


@pytest.mark.parametrize(
    "piece", ["<!--", "<a ", "<script>", "</", "<![", "<a b='", '<a b="c', "&"]
)
def test_no_html_takes_more_than_linear_time(piece):
    begin = time.process_time()
    code._visible(piece * 50_000)
    assert time.process_time() - begin < 1
