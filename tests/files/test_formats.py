"""JSON, JSONL, text and Parquet: what is written is read, and what is broken is named."""

import gzip
import io
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baiwen import files
from baiwen.errors import UserError

ENDINGS = ["jsonl", "jsonl.gz", "jsonl.zst"]
ROWS = [
    {"id": str(n), "text": "百问\n\u2028\x00" * n, "meta": {"n": n, "none": None}}
    for n in range(99)
]


def put_all(path, rows):
    with files.jsonl_writer(path) as put:
        for row in rows:
            put(row)


@pytest.mark.parametrize("ending", ENDINGS)
def test_rows_written_are_the_rows_read(tmp_path, ending):
    put_all(tmp_path / f"rows.{ending}", ROWS)
    assert list(files.read_jsonl(tmp_path / f"rows.{ending}")) == ROWS


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.lists(st.text(), max_size=4))
def test_any_text_survives(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("any") / "rows.jsonl"
    rows = [{text: [text, {text: 1e300}]} for text in texts]
    put_all(path, rows)
    assert list(files.read_jsonl(path)) == rows


@pytest.mark.parametrize("ending", ENDINGS)
def test_rows_longer_than_a_block_are_whole(tmp_path, ending):
    rows = [{"text": "x" * 3_000_000}, {"text": "y"}, {"text": "z" * 1_000_001}]
    put_all(tmp_path / f"rows.{ending}", rows)
    assert list(files.read_jsonl(tmp_path / f"rows.{ending}")) == rows


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_same_rows_give_the_same_bytes(tmp_path, ending, monkeypatch):
    put_all(tmp_path / f"one.{ending}", ROWS)
    monkeypatch.setattr("time.time", lambda: 2e9)
    put_all(tmp_path / f"two.{ending}", ROWS)
    assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"two.{ending}").read_bytes()


def test_other_tools_read_what_is_written(tmp_path):
    put_all(tmp_path / "rows.jsonl.gz", ROWS)
    put_all(tmp_path / "rows.jsonl.zst", ROWS)
    unzipped = gzip.decompress((tmp_path / "rows.jsonl.gz").read_bytes())
    with (tmp_path / "rows.jsonl.zst").open("rb") as file:
        unpacked = zstandard.ZstdDecompressor().stream_reader(file).read()
    assert [json.loads(line) for line in unzipped.decode().split("\n")[:-1]] == ROWS
    assert unpacked == unzipped


def test_archives_of_several_members_are_read_to_the_end(tmp_path):
    lines = [b'{"a": 1}\n', b'{"a": 2}\n']
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(map(gzip.compress, lines)))
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(map(zstandard.compress, lines)))
    for name in ("a.jsonl.gz", "a.jsonl.zst"):
        assert list(files.read_jsonl(tmp_path / name)) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("ending", ENDINGS[1:])
def test_an_archive_cut_anywhere_is_an_error_that_names_it(tmp_path, ending):
    path = tmp_path / f"rows.{ending}"
    put_all(path, ROWS)
    whole = path.read_bytes()
    for size in range(1, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=rf"{path}: the archive is cut or damaged"):
            list(files.read_jsonl(path))


@pytest.mark.parametrize("ending", ENDINGS[1:])
def test_an_archive_with_any_flipped_byte_never_gives_other_rows(tmp_path, ending):
    path = tmp_path / f"rows.{ending}"
    put_all(path, ROWS)
    whole = path.read_bytes()
    for index in range(0, len(whole), 5):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 0x10]) + whole[index + 1 :])
        try:
            assert list(files.read_jsonl(path)) == ROWS  # a flag or a time stamp, not the content
        except UserError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"text": "cut', "not JSON: Unterminated string"),
        (b'{"text": "\xff"}', "not JSON: 'utf-8' codec"),
        (b'{"text": "\\ud83d"}', "not JSON: 'utf-8' codec can't encode"),
        (b"[" * 100_000, "not JSON"),
        (b'{"n": ' + b"1" * 5000 + b"}", "not JSON: Exceeds the limit"),
        (b"[1, 2]", "expected an object"),
        (b'"text"', "expected an object"),
        (b'{"a": 1} {"b": 2}', "not JSON: Extra data"),
    ],
)
def test_a_broken_line_is_named_with_file_line_and_beginning(tmp_path, line, words):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n\n' + line + b"\n")
    with pytest.raises(UserError) as error:
        list(files.read_jsonl(path))
    assert str(error.value).startswith(f"{path}:3: ")
    assert words in str(error.value)
    assert line[:6].decode(errors="replace") in str(error.value)
    assert len(str(error.value)) < 400


def test_windows_line_ends_a_byte_order_mark_and_no_last_line_end_are_read(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n{"a": "\\ud83d\\ude00"}')
    assert list(files.read_jsonl(tmp_path / "rows.jsonl")) == [{"a": 1}, {"a": "😀"}]


def test_a_failing_writer_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        put_all(tmp_path / "rows.jsonl.zst", [{"a": 1}, {"a": float("nan")}])
    assert list(tmp_path.iterdir()) == []


def test_rows_are_streamed(tmp_path):
    path = tmp_path / "rows.jsonl.zst"
    put_all(path, ({"text": os.urandom(500_000).hex()} for _ in range(40)))
    script = (
        "import resource, sys; from baiwen import files\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert sum(len(row['text']) for row in files.read_jsonl(sys.argv[1])) == 40_000_000\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 10_000  # KiB, of 40 MB


def test_json_written_is_json_read(tmp_path):
    value = {"ß": [1, 2.5, None, True], "百": {}}
    files.write_json(tmp_path / "value.json", value)
    assert files.read_json(tmp_path / "value.json") == value
    assert "百" in (tmp_path / "value.json").read_text(encoding="utf-8")


def test_broken_json_is_named_with_the_place(tmp_path):
    (tmp_path / "value.json").write_text('{"a": 1,\n "b" 2}')
    with pytest.raises(UserError, match=r"value.json: this is not JSON: .* line 2 column 6"):
        files.read_json(tmp_path / "value.json")


@pytest.mark.parametrize(
    "read", [files.read_json, files.read_text, lambda p: next(files.read_jsonl(p))]
)
def test_a_file_that_is_not_there_is_named(tmp_path, read):
    with pytest.raises(UserError, match="absent: there is no such file"):
        read(tmp_path / "absent")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read(tmp_path)


def test_text_keeps_its_line_ends_and_names_the_byte_that_is_not_utf8(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeff百\r\n".encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("百\r\n".encode()))
    (tmp_path / "c.txt").write_bytes("caf\xe9".encode("latin-1"))
    assert files.read_text(tmp_path / "a.txt") == "百\r\n"
    assert files.read_text(tmp_path / "b.txt.gz") == "百\r\n"
    with pytest.raises(UserError, match=r"c.txt: byte 3 is not UTF-8"):
        files.read_text(tmp_path / "c.txt")


def test_parquet_rows_and_columns(tmp_path):
    pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    assert list(files.read_parquet(tmp_path / "rows.parquet")) == ROWS
    texts = [{"text": row["text"]} for row in ROWS]
    assert list(files.read_parquet(tmp_path / "rows.parquet", ["text"])) == texts
    with_ids = [{"text": row["text"], "id": row["id"]} for row in ROWS]
    assert list(files.read_parquet(tmp_path / "rows.parquet", ["text"], ["id", "lang"])) == with_ids


def test_a_missing_column_is_named_beside_those_there_are(tmp_path):
    pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match=r"has no column 'content'; .* id, text, meta"):
        list(files.read_parquet(tmp_path / "rows.parquet", ["content"]))


def test_a_cut_parquet_file_is_named(tmp_path):
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), buffer)
    for size in (0, 4, 100, len(buffer.getvalue()) - 1):
        (tmp_path / "rows.parquet").write_bytes(buffer.getvalue()[:size])
        with pytest.raises(UserError, match=r"rows.parquet: this is no whole Parquet file"):
            list(files.read_parquet(tmp_path / "rows.parquet"))


def test_reading_files_imports_neither_torch_nor_pyarrow():
    script = (
        "import sys; import baiwen.files; print({'torch', 'pyarrow', 'numpy'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
