import gzip
import json
from dataclasses import replace
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard

from baiwen.data import read
from baiwen.data.read import chunks, find
from baiwen.errors import UserError

ROWS = [
    {"id": "a", "text": "one", "license": "MIT", "lang": "en", "domain": "web"},
    {"text": "二\r\n行", "meta": {"source": "books", "language": "zh"}},
]


def documents(*places, meta=None):
    return [document for chunk in chunks(find(places), meta) for document in chunk.documents()]


def test_text_files_of_a_folder_are_documents_in_order(tmp_path):
    for name in ("b.txt", "a.md", "sub/c.rst", "sub/d.py", "e.csv", ".hidden/f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    found = documents(tmp_path)
    assert [document.text for document in found] == ["a.md", "b.txt", "sub/c.rst", "sub/d.py"]
    assert [document.domain for document in found] == ["prose", "prose", "prose", "code"]


def test_rows_of_every_container_give_the_same_documents(tmp_path):
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(lines))
    columns = ("id", "text", "license", "lang", "domain", "meta")
    table = pa.table({name: [row.get(name) for row in ROWS] for name in columns})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for path in sorted(tmp_path.iterdir()):
        one, two = documents(path, meta={"source": "mine"})
        assert (one.id, one.text, one.domain) == ("a", "one", "web")
        assert one.meta["license"] == "MIT"
        assert one.meta["language"] == "en"
        assert one.meta["source"] == "mine"
        assert two.text == "二\n行"
        assert two.meta["source"] == "books"
        assert two.meta["language"] == "zh"


def test_meta_of_any_type_becomes_plain_json(tmp_path):
    meta = {"when": datetime(2024, 9, 19), "scores": [0.5, float("nan")], "raw": b"x", "n": 3}
    table = pa.table({"text": ["one"], "meta": [meta], "domain": [7]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    (found,) = documents(tmp_path)
    assert found.domain == "7"
    del found.meta["source"]
    assert json.loads(json.dumps(found.meta, allow_nan=False)) == {
        "when": "2024-09-19 00:00:00",
        "scores": [0.5, "nan"],
        "raw": "b'x'",
        "n": 3,
        "domain": "7",
    }


def test_an_id_depends_on_the_text_alone(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    (tmp_path / "a.txt").write_text(composed)
    (tmp_path / "b.txt").write_text(decomposed)
    one, two = documents(tmp_path)
    assert one.id == two.id
    assert two.text == composed


def test_broken_bytes_come_with_their_place_and_offset(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good \xff bad")
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "fine"}\n{"text": "\xff"}\n[1]\n{"body": "x"}\n')
    text, fine, line, no_object, no_text = documents(tmp_path)
    assert text.flaw == "not UTF-8 at byte 5"
    assert text.meta["place"] == str(tmp_path / "a.txt")
    assert text.text == "good \ufffd bad"
    assert fine.flaw is None
    assert line.flaw == "not UTF-8 at byte 10 of the line"
    assert line.meta["place"] == f"{tmp_path / 'b.jsonl'}:2"
    assert no_object.flaw == "not a JSON object"
    assert no_text.flaw == "no string `text` (its fields: body)"


def test_large_files_and_folders_are_read_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "CHUNK", 100)
    rows = [{"text": f"{i} " * 10} for i in range(50)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = list(chunks(find([tmp_path])))
    assert len(found) > 10
    assert [d.text for chunk in found for d in chunk.documents()] == [row["text"] for row in rows]


def test_a_file_that_two_places_name_is_read_once(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    assert find([tmp_path, tmp_path / "a.txt", tmp_path / "*.txt"]) == [tmp_path / "a.txt"]


def test_places_that_hold_nothing_are_named(tmp_path):
    (tmp_path / "table.csv").write_text("a")
    with pytest.raises(UserError, match="there is no file, folder or glob of documents at"):
        find([tmp_path / "tabel"])
    with pytest.raises(
        UserError, match=r"table.csv: documents are read from files that end in .txt"
    ):
        find([tmp_path / "table.csv"])
    for place in (tmp_path, tmp_path / "*.txt"):
        with pytest.raises(UserError, match="holds no file that ends in"):
            find([place])


def test_a_chunk_may_give_all_its_documents_one_domain(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(ROWS[0]))
    (chunk,) = chunks(find([tmp_path]))
    (document,) = replace(chunk, domain="tasks").documents()
    assert document.domain == "tasks"


def test_of_a_parquet_file_only_the_columns_that_a_document_has_are_read(tmp_path, monkeypatch):
    rows = [{"text": "a", "lang": "zh", "embedding": [0.0] * 9}]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    asked = []
    batches = pyarrow.parquet.ParquetFile.iter_batches

    def watched(self, columns):
        asked.append(columns)
        return batches(self, columns=columns)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", watched)
    (found,) = documents(tmp_path / "a.parquet")
    assert (found.text, found.meta["language"]) == ("a", "zh")
    assert asked == [["text", "lang"]]
