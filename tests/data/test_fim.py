import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from baiwen.data.document import document
from baiwen.data.fim import Fim, arranged, holed
from baiwen.data.shards import Shards, write_index, write_shard

CODE = "def f(x):\n    return x  # <|fim_middle|> is text here\n"


def code(number, **meta):
    return document(f"{CODE}y = {number}\n", {"domain": "code", **meta}, id=f"d{number}")


def written(folder, laid, tokenizer):
    """The decoded documents of a shard, and what it counts."""
    shard = write_shard(folder, 0, laid, tokenizer)
    write_index(folder, [shard], tokenizer)
    shards = Shards.open(folder)
    parts = np.split(shards.read(0, len(shards)), shards.ends[:-1])
    return [tokenizer.decode(part) for part in parts], shard


def filled(text):
    """What a document with a hole reads once it is filled, and its order."""
    for order, marks in {
        "psm": ("<|fim_prefix|>", "<|fim_suffix|>"),
        "spm": ("<|fim_suffix|>", "<|fim_prefix|>"),
    }.items():
        if text.startswith(marks[0]):
            one, rest = text.removeprefix(marks[0]).split(marks[1], 1)
            two, middle = rest.rsplit("<|fim_middle|>", 1)
            middle = middle.removesuffix("<|endoftext|>")
            return (one + middle + two if order == "psm" else two + middle + one), order
    return None, None


def test_every_document_has_a_hole_and_its_whole_text_at_rate_one(tokenizer, tmp_path):
    documents = [document(CODE.split("#")[0] + str(i), {"domain": "code"}) for i in range(60)]
    decoded, shard = written(tmp_path, arranged(documents, Fim(rate=1.0)), tokenizer)
    found = [filled(text) for text in decoded]
    assert [text for text, _ in found] == [one.text for one in documents]
    assert 15 < sum(order == "spm" for _, order in found) < 45
    assert shard.bytes == sum(one.size for one in documents)


def test_a_marker_spelled_in_a_document_stays_text(tokenizer, tmp_path):
    shard = write_shard(tmp_path, 0, arranged([code(1)], Fim(rate=1.0)), tokenizer)
    ids = np.fromfile(tmp_path / "tokens-00000.bin", "<u2")
    assert len(ids) == shard.tokens
    assert (ids >= len(tokenizer.vocabulary.tokens)).sum() == 4  # three marks and the end


def test_the_rate_is_the_share_of_documents_with_holes():
    laid = list(arranged(map(code, range(2000)), Fim(rate=0.3)))
    assert abs(sum(len(one.pieces) > 2 for one in laid) / 2000 - 0.3) < 0.03
    assert all(len(one.pieces) == 2 for one in arranged(map(code, range(50)), Fim()))


def test_a_hole_hangs_on_the_document_alone():
    forward = list(arranged(map(code, range(20)), Fim(rate=0.5)))
    backward = list(arranged(map(code, range(19, -1, -1)), Fim(rate=0.5)))
    assert forward == backward[::-1]


def test_documents_of_other_domains_have_none():
    prose = document("Some prose.", {"domain": "books"})
    assert [len(one.pieces) for one in arranged([prose], Fim(rate=1.0))] == [2]
    assert [len(one.pieces) for one in arranged([prose], Fim(rate=1.0, domains=("books",)))] == [7]


@given(st.text(max_size=9), st.integers(0, 2**64), st.integers(0, 2**64))
def test_a_hole_loses_nothing(text, first, second):
    hole = holed(text, first, second)
    assert hole.prefix + hole.middle + hole.suffix == text


def test_every_place_is_cut_alike():
    cuts = [len(holed("ab", first, second).prefix) for first in range(3) for second in range(3)]
    assert [cuts.count(place) for place in range(3)] == [5, 3, 1]  # the first of two dice


def test_copies_are_written_again_and_counted(tokenizer, tmp_path):
    documents = [code(1, copies=3), code(2)]
    decoded, shard = written(tmp_path, arranged(documents, Fim()), tokenizer)
    assert decoded == [f"{one.text}<|endoftext|>" for one in [documents[0]] * 3 + documents[1:]]
    assert dataclasses.astuple(shard)[0] == 4
    assert shard.repeated == 2
    assert shard.bytes == 3 * documents[0].size + documents[1].size


def test_no_two_copies_have_the_same_hole():
    laid = [tuple(one.pieces) for one in arranged([code(1, copies=8)], Fim(rate=1.0))]
    assert len(set(laid)) == 8


def test_a_repository_is_one_document_of_its_files_by_path(tokenizer, tmp_path):
    documents = [
        code(1, repo="a", path="z.py"),
        code(2),
        code(3, repo="b", path="m.py"),
        code(4, repo="a", path="c.py"),
    ]
    decoded, _ = written(tmp_path, arranged(documents, Fim(repositories=True)), tokenizer)
    first = f"c.py\n{documents[3].text}\n<|file_sep|>z.py\n{documents[0].text}"
    assert decoded == [
        f"<|repo_name|>a\n<|file_sep|>{first}<|endoftext|>",
        f"{documents[1].text}<|endoftext|>",
        f"{documents[2].text}<|endoftext|>",
    ]


def test_the_file_with_the_hole_is_drawn_and_goes_last(tokenizer, tmp_path):
    documents = [code(i, repo=f"r{i // 3}", path=f"{i}.py") for i in range(90)]
    knobs = Fim(rate=1.0, repositories=True)
    decoded, _ = written(tmp_path, arranged(documents, knobs), tokenizer)
    last = [text.split("<|file_sep|>")[-1] for text in decoded]
    assert all("_prefix|>" in text and text.endswith("<|endoftext|>") for text in last)
    drawn = [int(text.split(".")[0]) % 3 for text in last]
    assert set(drawn) == {0, 1, 2}


def test_a_repeated_file_of_a_repository_is_alone_in_the_further_copies():
    group = [code(1, repo="a", path="1.py", copies=2), code(2, repo="a", path="2.py")]
    laid = list(arranged(group, Fim(repositories=True)))
    assert [(len(one.pieces), one.repeated) for one in laid] == [(7, False), (2, True)]
