"""The tokenizer stage: documents of any of its kinds in, one tokenizer folder out."""

import pyarrow
import pyarrow.parquet
import pytest

from baiwen import files
from baiwen.errors import UserError
from baiwen.stages.tokenizer import Config, run
from baiwen.tokenizer import Tokenizer, train

TEXTS = [f"document {number}: the thing, the theory, the theme\n" for number in range(150)]


def made(config):
    with files.run_folder(config.out, {"stage": "tokenizer"}) as folder:
        run(config, folder)
    return Tokenizer.load(config.out)


def write_rows(path, rows):
    with files.jsonl_writer(path) as put:
        for row in rows:
            put(row)


@pytest.fixture
def documents(tmp_path):
    folder = tmp_path / "data"
    rows = [{"id": str(number), "text": text, "meta": {}} for number, text in enumerate(TEXTS)]
    write_rows(folder / "documents-00000.jsonl.zst", rows[:70])
    write_rows(folder / "documents-00001.jsonl.zst", rows[70:])
    write_rows(folder / "heldout.jsonl.zst", [{"text": "zzz " * 1_000}])
    files.write_json(folder / "data.json", {})
    return folder


def test_the_data_stage_s_documents_make_a_tokenizer(documents, tmp_path):
    tokenizer = made(Config(out=tmp_path / "out", documents=documents, vocab_size=270))
    expected = train(TEXTS[:99] + TEXTS[100:], 270)
    assert tokenizer.fingerprint == expected.fingerprint
    assert files.complete(tmp_path / "out")


def test_the_stage_counts_bytes_and_tokens_of_held_out_documents(documents, tmp_path):
    tokenizer = made(Config(out=tmp_path / "out", documents=documents, vocab_size=270))
    assert files.read_json(tmp_path / "out" / "tokenizer_stats.json") == {
        "vocab_size": 292,
        "documents": 1,
        "bytes": len(TEXTS[99]),
        "tokens": len(tokenizer.encode(TEXTS[99])),
    }


def test_plain_text_makes_a_tokenizer(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("".join(TEXTS[:75]))
    (tmp_path / "texts" / "b.md").write_text("".join(TEXTS[75:]))
    folder = made(Config(out=tmp_path / "of-folder", documents=tmp_path / "texts", vocab_size=265))
    (tmp_path / "all.txt").write_text("".join(TEXTS))
    file = made(Config(out=tmp_path / "of-file", documents=tmp_path / "all.txt", vocab_size=265))
    assert folder.fingerprint == file.fingerprint


def test_an_empty_folder_is_a_clear_error(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="holds no file that ends in"):
        made(Config(out=tmp_path / "out", documents=tmp_path / "data"))


def test_a_row_without_text_is_named(tmp_path):
    write_rows(tmp_path / "rows.jsonl", [{"text": "a"}, {"body": "b"}])
    with pytest.raises(UserError, match=r"rows.jsonl@14: no string `text`"):
        made(Config(out=tmp_path / "out", documents=tmp_path / "rows.jsonl"))
    assert not (tmp_path / "out" / "tokenizer.json").exists()


def test_whatever_the_data_stage_reads_makes_a_tokenizer(documents, tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), tmp_path / "rows.parquet")
    parquet = made(Config(out=tmp_path / "a", documents=tmp_path / "rows.parquet", vocab_size=270))
    jsonl = made(Config(out=tmp_path / "b", documents=documents, vocab_size=270))
    assert parquet.fingerprint == jsonl.fingerprint
