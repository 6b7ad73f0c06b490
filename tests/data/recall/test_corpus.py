"""The corpus of a recall: where documents come from, and parts that give back what they got."""

import json

import numpy as np
import pytest

from baiwen import files
from baiwen.data import read
from baiwen.data.recall.corpus import NOWHERE, Corpus, Storing, source, store


@pytest.mark.parametrize(
    ("meta", "depth", "expected"),
    [
        ({"url": "https://Example.org/maths/7?page=2", "source": "crawl"}, 1, "example.org"),
        ({"url": "https://example.org/maths/7?page=2"}, 2, "example.org/maths"),
        ({"source": "github.com/owner/name@1f0a:a/b.md"}, 3, "github.com/owner/name"),
        ({"source": "books"}, 2, "books"),
        ({}, 1, None),
    ],
)
def test_a_source_is_the_beginning_of_a_url(meta, depth, expected):
    assert source(meta, depth) == expected


def test_parts_give_back_the_documents_in_their_order(tmp_path):
    rows = [
        {
            "id": f"d{i}",
            "text": f"text {i} " * 50,
            "meta": {"url": f"http://h{i % 3}.org/x", "n": i},
        }
        for i in range(90)
    ]
    with files.jsonl_writer(tmp_path / "documents.jsonl") as put:
        for row in rows:
            put(row)
    with open(tmp_path / "documents.jsonl", "ab") as file:
        file.write(b"{broken\n")
    reading = read.Reading(chunk_bytes=10_000)
    chunks = list(read.chunks(read.find([tmp_path / "documents.jsonl"]), reading=reading))
    assert len(chunks) > 2
    for number, chunk in enumerate(chunks):
        store(Storing(chunk, tmp_path / "parts" / f"{number:05}.parquet", 1))
    corpus = Corpus.open(tmp_path / "parts")
    assert (len(corpus), corpus.unreadable, corpus.domains) == (90, 1, ["prose"])
    assert [corpus.sources[code] for code in corpus.source[:4]] == [
        "h0.org",
        "h1.org",
        "h2.org",
        "h0.org",
    ]
    assert NOWHERE not in corpus.source
    places = np.array([0, 1, 40, 89])
    found = corpus.rows(places, ["id", "text", "meta"]).to_pylist()
    expected = [(rows[i]["id"], rows[i]["text"]) for i in places]
    assert [(row["id"], row["text"]) for row in found] == expected
    assert [json.loads(row["meta"])["n"] for row in found] == places.tolist()
    assert corpus.bytes.tolist() == [len(row["text"]) for row in rows]
