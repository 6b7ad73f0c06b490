import ast
import sys

import pyarrow as pa

from baiwen.data import corpus, filters

SOURCE = '''"""Wrap text."""

# This comment stands alone and is long enough to read like a sentence or two of
# prose, so that it is kept.

x = 1  # trailing comments are not


def wrap(text, width=70, *, tabs=True):
    """Wrap a paragraph.

    It returns lines.
    """
    quoted = """
    # Not a comment: it lies within a string, however long it is and however it begins.
    # Truly not.
    """
    return quoted


if x:
    class Wrapper(object):
        """Wraps."""

        def fill(self):
            """Fill."""

        def _silent(self):
            pass
'''


def test_documentation_is_docstrings_and_long_comments_in_the_order_of_the_source():
    assert corpus.documentation("text/wrap.py", SOURCE) == (
        "text.wrap\n\nWrap text.\n\n"
        "This comment stands alone and is long enough to read like a sentence or two of\n"
        "prose, so that it is kept.\n\n"
        "wrap(text, width=70, *, tabs=True)\n\nWrap a paragraph.\n\nIt returns lines.\n\n"
        "class Wrapper\n\nWraps.\n\nWrapper.fill(self)\n\nFill.\n"
    )


def test_a_module_that_says_nothing_gives_no_documentation():
    assert corpus.documentation("a.py", "x = 1\n") == ""


def test_the_corpus_is_the_library_and_nothing_else():
    names = [path.as_posix() for path in corpus.modules()]
    assert any(name.endswith("/argparse.py") for name in names)
    for alien in (
        "site-packages",
        "/test/",
        "/tests/",
        "idle_test",
        "_sysconfigdata",
        "pydoc_data",
    ):
        assert not any(alien in name.removeprefix(sys.prefix) for name in names)
    assert names == sorted(names)


def test_a_source_and_its_documentation_are_one_family():
    path = next(path for path in corpus.modules() if path.name == "argparse.py")
    code, prose = corpus.sources([(path.parent, path)], corpus.META)
    assert (code.domain, prose.domain) == ("code", "prose")
    assert code.family == prose.family
    assert code.meta["license"] == prose.meta["license"] == "PSF-2.0"
    assert "Command-line parsing library" in prose.text
    assert ast.parse(code.text)


def test_most_topics_are_prose_that_passes_the_filters():
    documents = [
        d for chunk in corpus.chunks() if chunk.reader is corpus.topics for d in chunk.documents()
    ]
    texts = pa.table({"text": [d.text for d in documents]})
    rules = filters.heuristics(texts, {"letters": False})["rule"]  # grammars have many signs
    assert rules.null_count > 0.6 * len(documents)  # tables of operators repeat themselves
