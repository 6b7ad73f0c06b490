"""Code forms: exact strings of spec 2.3, markers by id, names of markers in text as text."""

import pytest
import tokenizers

from baiwen.errors import UserError
from baiwen.tokenizer import control
from baiwen.tokenizer.formats import Hole, fim, repository

HOLE = Hole("def f(", "    return x\n", "x):\n")


def marks(tokenizer, ids):
    return [tokenizer.decode([token]) for token in ids if token >= len(tokenizer.vocabulary.tokens)]


def test_a_file_with_its_middle(small):
    assert small.decode(fim(small, HOLE).ids) == (
        "<|fim_prefix|>def f(<|fim_suffix|>    return x\n<|fim_middle|>x):\n<|endoftext|>"
    )


def test_a_prompt_is_a_prefix_of_the_file_with_its_middle(small):
    prompt = fim(small, Hole(HOLE.prefix, HOLE.suffix)).ids
    assert prompt[-1] == small.id(control.FIM_MIDDLE)
    assert fim(small, HOLE).ids[: len(prompt)] == prompt


def test_the_suffix_may_come_first(small):
    assert small.decode(fim(small, HOLE, order="spm").ids) == (
        "<|fim_suffix|>    return x\n<|fim_prefix|>def f(<|fim_middle|>x):\n<|endoftext|>"
    )


def test_markers_are_ids_and_their_names_are_text(small):
    hole = Hole("<|fim_middle|>", "<|endoftext|>", "<|fim_pad|>")
    expected = [control.FIM_PREFIX, control.FIM_SUFFIX, control.FIM_MIDDLE, control.END_OF_TEXT]
    assert marks(small, fim(small, hole).ids) == expected


def test_a_repository(small):
    form = repository(small, "baiwen", [("a.py", "import b"), ("b.py", HOLE)])
    assert small.decode(form.ids) == (
        "<|repo_name|>baiwen\n<|file_sep|>a.py\nimport b\n<|file_sep|>b.py\n"
        "<|fim_prefix|>def f(<|fim_suffix|>    return x\n<|fim_middle|>x):\n<|endoftext|>"
    )


def test_a_repository_of_whole_files_ends(small):
    form = repository(small, "r", [("a", "1"), ("b", "2")])
    assert (
        small.decode(form.ids) == "<|repo_name|>r\n<|file_sep|>a\n1\n<|file_sep|>b\n2<|endoftext|>"
    )


def test_the_ids_are_those_of_the_whole_string(qwen, shared):
    library = tokenizers.Tokenizer.from_file(
        str(shared / "tokenizer" / "qwen2.5" / "tokenizer.json")
    )
    ids = repository(qwen, "baiwen", [("a.py", "import b\n"), ("b.py", HOLE)]).ids
    assert library.encode(qwen.decode(ids)).ids == ids


def test_answers_stop_at_every_marker_of_the_forms(qwen):
    assert fim(qwen, HOLE).stop == {151_643, 151_645, *range(151_659, 151_665)}


def test_a_hole_in_another_than_the_last_file_is_a_clear_error(small):
    with pytest.raises(UserError, match="only the last file"):
        repository(small, "r", [("a", HOLE), ("b", "2")])
