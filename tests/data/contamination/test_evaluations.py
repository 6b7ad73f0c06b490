import gzip
import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from baiwen import files
from baiwen.data.contamination.evaluations import found, read
from baiwen.data.words import words
from baiwen.errors import UserError

QUESTION = "How many of the nine planks does the carpenter need for a bench of three metres?"
ROW = {"question": QUESTION, "choices": ["six of them", "all but one"], "answer": 1}


def hashes(text):
    return words(pa.array([text])).hashes.tolist()


def sequences(paths, fields=()):
    tests = read(paths, fields, whole=8, least=13)
    return {place: tests.sequence(i).tolist() for i, place in enumerate(tests.places)}


def written(path, rows):
    with files.jsonl_writer(path) as put:
        for row in rows:
            put(row)
    return path


def test_a_row_gives_its_long_strings_its_short_ones_joined_and_all_of_them(tmp_path):
    path = written(tmp_path / "a.jsonl.zst", [{"id": 1}, ROW])
    assert sequences([path]) == {
        f"{path}:2 question": hashes(QUESTION),
        f"{path}:2 short": hashes("six of them all but one"),
        f"{path}:2": hashes(f"{QUESTION} six of them all but one"),
    }


def test_a_string_of_middling_length_stands_alone_and_with_the_short_ones(tmp_path):
    row = {"question": "which of these planets is the largest of all", "choices": ["Mars", "Venus"]}
    path = written(tmp_path / "a.jsonl", [row])
    assert sequences([path]) == {
        f"{path}:1 question": hashes(row["question"]),
        f"{path}:1 short": hashes(f"{row['question']} Mars Venus"),
    }


def test_only_named_fields_count_and_a_file_without_them_is_refused(tmp_path):
    path = written(tmp_path / "a.jsonl", [ROW])
    assert list(sequences([path], ["question"])) == [f"{path}:1 question"]
    with pytest.raises(UserError, match=r"a.jsonl: holds no text in prompt"):
        read([path], ["prompt"], whole=8, least=13)


def test_what_many_rows_have_counts_once(tmp_path):
    path = written(tmp_path / "a.jsonl", [{"passage": QUESTION}] * 3)
    assert list(sequences([path])) == [f"{path}:1 passage"]


def test_who_speaks_is_no_text(tmp_path):
    row = {"messages": [{"role": "user", "content": QUESTION}]}
    path = written(tmp_path / "a.jsonl", [row])
    assert list(sequences([path])) == [f"{path}:1 messages.0.content"]


def test_json_parquet_text_and_archives_are_read_alike(tmp_path):
    (tmp_path / "b.json").write_text(json.dumps([{"text": QUESTION}]))
    (tmp_path / "c.txt").write_text(QUESTION)
    with gzip.open(tmp_path / "d.txt.gz", "wt") as file:
        file.write(QUESTION)
    pyarrow.parquet.write_table(pa.table({"text": [QUESTION]}), tmp_path / "e.parquet")
    for name in ("b.json", "c.txt", "d.txt.gz", "e.parquet"):
        assert sequences([tmp_path / name]) == {f"{tmp_path / name}:1 text": hashes(QUESTION)}
    (tmp_path / "README.md").write_text("no evaluation")
    assert [path.name for path in found([tmp_path])] == ["b.json", "c.txt", "d.txt.gz", "e.parquet"]


def test_a_folder_without_evaluations_is_refused(tmp_path):
    with pytest.raises(UserError, match="is or holds no evaluation file"):
        found([tmp_path])
