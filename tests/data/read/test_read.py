import gzip
import json
import pickle
from dataclasses import replace
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from baiwen.data.document import document
from baiwen.data.read import Reading, chunks, documents, find, texts_of
from baiwen.errors import UserError

ROWS = [
    {"id": "a", "text": "one", "license": "MIT", "lang": "en", "domain": "web"},
    {"text": "二\r\n行", "meta": {"source": "books", "language": "zh"}},
]


def test_rows_of_every_container_give_the_same_documents(tmp_path, read):
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(lines))
    columns = ("id", "text", "license", "lang", "domain", "meta")
    table = pa.table({name: [row.get(name) for row in ROWS] for name in columns})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for path in sorted(tmp_path.iterdir()):
        one, two = read(path, meta={"source": "mine"})
        assert (one.id, one.text, one.domain) == ("a", "one", "web")
        assert one.meta["license"] == "MIT"
        assert one.meta["language"] == "en"
        assert one.meta["source"] == "mine"
        assert two.text == "二\n行"
        assert two.meta["source"] == "books"
        assert two.meta["language"] == "zh"


def test_meta_of_any_type_becomes_plain_json(tmp_path, read):
    meta = {"when": datetime(2024, 9, 19), "scores": [0.5, float("nan")], "raw": b"x", "n": 3}
    table = pa.table({"text": ["one"], "meta": [meta], "domain": [7]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    (found,) = read(tmp_path)
    assert found.domain == "7"
    path = str(tmp_path / "a.parquet")
    assert json.loads(json.dumps(found.meta, allow_nan=False)) == {
        "place": f"{path}#1",
        "source": path,
        "when": "2024-09-19 00:00:00",
        "scores": [0.5, "nan"],
        "raw": "b'x'",
        "n": 3,
        "domain": "7",
    }


def test_an_id_depends_on_the_text_alone(tmp_path, read):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    (tmp_path / "a.txt").write_text(composed)
    (tmp_path / "b.txt").write_text(decomposed)
    one, two = read(tmp_path)
    assert one.id == two.id
    assert two.text == composed


@settings(max_examples=25)
@given(st.data())
def test_documents_are_the_same_however_files_are_cut(read, stored, made, data):
    texts = data.draw(st.lists(st.text(st.characters(codec="utf-8")), max_size=12))
    ending = data.draw(st.sampled_from(sorted(made)))
    url = stored(made[ending](texts), ending)
    whole = read(url)
    assert [found.text for found in whole] == [document(text, {}).text for text in texts]
    assert read(url, chunk_bytes=data.draw(st.integers(1, 300))) == whole


def test_another_process_may_read_a_chunk(tmp_path, made):
    for ending, file in made.items():
        (tmp_path / f"a{ending}").write_bytes(file(["one", "two"]))
    for chunk in chunks(find([tmp_path]), reading=Reading(chunk_bytes=1)):
        sent = pickle.loads(pickle.dumps(chunk))
        assert list(sent.documents()) == list(chunk.documents())


def test_small_files_are_read_together_and_large_ones_in_parts(tmp_path, made):
    for number in range(30):
        (tmp_path / f"{number:02}.jsonl").write_bytes(made[".jsonl"]([f"text {number}"]))
    (tmp_path / "x.parquet").write_bytes(made[".parquet"](["long " * 99] * 40))
    found = list(chunks(find([tmp_path]), reading=Reading(chunk_bytes=250)))
    assert max(len(chunk.items) for chunk in found[:3]) >= 2
    assert len(found) >= 5
    (tmp_path / "y.jsonl").write_bytes(made[".jsonl"](["a" * 90] * 40))
    (long,) = find([tmp_path / "y.jsonl"])
    assert len(list(chunks([long], reading=Reading(chunk_bytes=250)))) >= 10


def test_a_chunk_may_give_all_its_documents_one_domain(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(ROWS[0]))
    (chunk,) = chunks(find([tmp_path]))
    (document,) = replace(chunk, domain="tasks").documents()
    assert document.domain == "tasks"


def test_a_flaw_stops_who_wants_every_text(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "fine"}\n{"text": 3}\n')
    with pytest.raises(UserError, match=r"a.jsonl@17: no string `text` \(its fields: text\)"):
        list(documents(find([tmp_path])))
    texts = texts_of(find([tmp_path]))
    assert next(texts) == "fine"
    with pytest.raises(UserError, match="no string `text`"):
        next(texts)


def test_a_file_of_another_format_is_named(tmp_path):
    with pytest.raises(UserError, match=r"read from files that end in \.txt"):
        list(chunks([tmp_path / "a.csv"]))
