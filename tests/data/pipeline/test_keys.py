"""Keys: equal where findings are, other where anything differs that they depend on."""

from functools import partial

import fsspec
import numpy as np
import pytest

from baiwen.data.dedup.near import Near, near
from baiwen.data.filters import heuristics
from baiwen.data.pipeline import keys, sidecar
from baiwen.data.pipeline.keys import code, told
from baiwen.data.pipeline.reading import Piece, read
from baiwen.data.read import chunks, find
from baiwen.data.split import held_out

SOURCES = {
    "data/step.py": "from package.data import words\nfrom package.data.deep.found import LEAST\n",
    "data/words.py": "def words():\n    return 1  # a word\n",
    "data/deep/found.py": "LEAST = 3\n",
    "data/other.py": "MOST = 3\n",
    "report/page.py": "WIDE = 1\n",
}


@pytest.fixture
def digest(tmp_path, monkeypatch):
    """The code of a module of a package of `SOURCES`, of which some are others."""

    def of(module, **others):
        package = tmp_path / str(len(list(tmp_path.iterdir()))) / "package"
        for name, text in {**SOURCES, **others}.items():
            (package / name).parent.mkdir(parents=True, exist_ok=True)
            (package / name).write_text(text)
        monkeypatch.setattr(keys, "PACKAGE", package)
        return code.__wrapped__(module)

    return of


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data/step.py", SOURCES["data/step.py"] + "MORE = 1\n"),
        ("data/words.py", "def words():\n    return 2\n"),
        ("data/deep/found.py", "LEAST = 4\n"),
    ],
)
def test_code_that_a_step_runs_changes_its_key(digest, name, text):
    assert digest("package.data.step", **{name: text}) != digest("package.data.step")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data/words.py", 'def words():\n    """Words."""\n\n    return 1  # one\n'),
        ("data/other.py", "MOST = 4\n"),
        ("report/page.py", "WIDE = 2\n"),
    ],
)
def test_comments_and_the_code_of_others_do_not(digest, name, text):
    assert digest("package.data.step", **{name: text}) == digest("package.data.step")


def test_every_step_counts_by_its_own_code():
    modules = {function.__module__ for function in (near, heuristics, read, held_out)}
    assert len({code(module) for module in modules}) == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (partial(near, knobs=Near()), partial(near, knobs=Near(bands=15))),
        (partial(max, [1, 2]), partial(max, [2, 1])),
        (np.array([1, 2]), np.array([[1], [2]])),
        (b"a", "a"),
    ],
)
def test_what_a_function_is_given_changes_its_key(one, other):
    assert told(one) != told(other)


def test_a_file_counts_by_its_content_and_one_of_a_corpus_by_its_time(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a")
    content, stamp = told(path), told(path, keys.stamp)
    path.write_text("b")
    assert told(path) != content and told(path, keys.stamp) != stamp


def test_the_order_of_a_set_is_no_difference():
    assert told(frozenset("abcdef")) == told(frozenset("fedcba")) == told(frozenset("cafebd"))


def test_a_url_is_read_again_where_its_driver_says_that_it_changed(tmp_path):
    memory = fsspec.filesystem("memory")
    keys_of = []
    for text in (b"apple", b"apple", b"apples"):
        if not keys_of or text != b"apple":
            memory.pipe("/keys/a.txt", text)
        (chunk,) = chunks(find(["memory://keys/a.txt"]))
        keys_of.append(read(Piece(0, "corpus", chunk), tmp_path).key)
    assert keys_of[0] == keys_of[1] != keys_of[2]
    assert sidecar.column(tmp_path, "documents", 0, "text").to_pylist() == ["apples"]
