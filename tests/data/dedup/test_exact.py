"""Exact duplicates: which go, and which one stays."""

import json

import numpy as np
import pyarrow as pa
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128_digest

from baiwen.data.dedup.exact import EARLIER, RULE, Exact, fingerprints, first_of, repeated, steps


def test_all_but_one_of_a_text_go_whatever_their_white_space(run, part):
    found = run(steps(Exact()), part(["a b", "c", " a  b\n"]), part(["a\tb", "A b"], 3))
    assert found["rule"] == [RULE, None, None, RULE, None]
    assert found["cluster"] == ["d2", None, "d2", "d2", None]
    assert found["value"] == [3, None, None, 3, None] and found["bound"][0] == 1


def test_raw_compares_bytes(run, part):
    found = run(steps(Exact(equal="raw")), part(["a b", "a  b", "a b"]))
    assert found["cluster"] == ["d0", None, "d0"]


def test_the_best_score_stays_then_the_longer_then_the_named_source_then_the_first_id(run, part):
    def kept(knobs, **columns):
        return run(steps(knobs), part(["x y", "x  y", "x y"], **columns))["cluster"][0]

    scores = {"classify.educational": [1.0, None, 2.0]}
    sources = {"source": ["corpus", "corpus", "gold"]}
    assert kept(Exact(best="classify.educational"), **scores) == "d2"
    assert kept(Exact()) == "d1"
    assert kept(Exact(sources=("gold",)), **sources, bytes=[3, 3, 3]) == "d2"
    assert kept(Exact(), id=["c", "b", "a"], bytes=[3, 3, 3]) == "a"


def test_what_an_earlier_run_kept_goes_and_is_named(run, part, tmp_path):
    write(tmp_path, [{"id": "old", "text": "x y", "meta": {}}])
    best = {"classify.educational": [9.0, 1.0, 5.0]}
    knobs = Exact(against=(tmp_path,), best="classify.educational")
    found = run(steps(knobs), part(["x y", "z", "z"], **best))
    assert found["rule"] == [EARLIER, RULE, None]
    assert found["cluster"] == ["old", "d2", "d2"]


def test_nothing_is_found_in_nothing(run, part):
    assert run(steps(Exact()), part([]), part(["one"]))["rule"] == [None]


@given(st.lists(st.text(st.sampled_from(" \t\n\r\x0b\x0cab\u00a0中"), max_size=8), max_size=5))
def test_digests_are_those_of_the_texts_with_and_without_their_white_space(texts):
    found = fingerprints(pa.table({"text": pa.array(texts, pa.large_string())}))
    bare = [b" ".join(text.encode().split()) for text in texts]
    assert found["raw"].to_pylist() == [xxh3_128_digest(text.encode()) for text in texts]
    assert found["spaced"].to_pylist() == [xxh3_128_digest(text) for text in bare]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_repeated_digests_are_those_that_are_counted_more_than_once(digests):
    numbers, labels = repeated(np.array(digests, np.uint64).reshape(-1, 2))
    assert numbers.tolist() == [
        place for place, digest in enumerate(digests) if digests.count(digest) > 1
    ]
    pairs = {(digests[number], label) for number, label in zip(numbers, labels, strict=True)}
    assert len(pairs) == len(set(labels.tolist())) == len({digest for digest, _ in pairs})


@given(st.lists(st.integers(0, 4), max_size=20), st.randoms())
def test_the_first_of_a_label_is_the_one_of_the_lowest_rank(labels, random):
    ranks = random.sample(range(len(labels)), len(labels))
    found = first_of(np.array(labels, np.int64), np.array(ranks, np.int64))
    for place, first in enumerate(found):
        own = [rank for rank, label in zip(ranks, labels, strict=True) if label == labels[place]]
        assert ranks[first] == min(own) and labels[first] == labels[place]


def write(folder, rows):
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path = folder / "documents-prose-00000.jsonl.zst"
    path.write_bytes(zstandard.compress(lines.encode()))
