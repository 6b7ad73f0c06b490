import random
import shutil

import numpy as np
import pytest

from baiwen.data.shards import Shards, id_type, names, write_index, write_shard
from baiwen.errors import UserError


def texts(count, seed=0):
    rng = random.Random(seed)
    return [
        " ".join(rng.choices(["the", "cat", "猫", ""], k=rng.randint(0, 30))) for _ in range(count)
    ]


@pytest.fixture
def source(tokenizer, tmp_path):
    """Two shards of 20 and 15 documents."""
    folder = tmp_path / "web"
    shards = [write_shard(folder, i, texts(n, i), tokenizer) for i, n in enumerate((20, 15))]
    write_index(folder, shards, tokenizer)
    return folder


def test_documents_are_read_back_with_the_end_of_text_after_each(source, tokenizer):
    shards = Shards.open(source, tokenizer.fingerprint)
    documents = texts(20, 0) + texts(15, 1)
    starts = np.concatenate(([0], shards.ends[:-1]))
    read = [shards.read(*span) for span in zip(starts, shards.ends, strict=True)]
    assert [ids.tolist() for ids in read] == [
        [*tokenizer.encode(text), tokenizer.end_of_text] for text in documents
    ]
    assert shards.bytes == sum(len(text.encode()) for text in documents)
    assert len(shards) == sum(map(len, read)) == shards.lengths.sum()


def test_a_shard_of_many_batches_equals_one_of_one_batch(tokenizer, tmp_path, monkeypatch):
    write_shard(tmp_path / "one", 0, texts(50), tokenizer)
    monkeypatch.setattr("baiwen.data.shards.BATCH_CHARACTERS", 100)
    write_shard(tmp_path / "many", 0, texts(50), tokenizer)
    for name in ("tokens-00000.bin", "ends-00000.bin"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()


def test_ids_take_two_bytes_up_to_65536_tokens_and_four_above():
    assert id_type(65_536).itemsize == 2
    assert id_type(65_537).itemsize == 4
    assert id_type(151_665) == np.dtype("<u4")


@pytest.mark.parametrize("name", ["tokens-00001.bin", "ends-00000.bin"])
def test_a_cut_file_is_refused_by_name(source, name):
    path = source / name
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError, match=f"{name}: has .* bytes, but index.json tells of"):
        Shards.open(source)


def test_a_missing_file_is_refused_by_name(source):
    (source / "tokens-00000.bin").unlink()
    with pytest.raises(UserError, match=r"tokens-00000.bin: is missing"):
        Shards.open(source)


def test_ends_that_do_not_rise_are_refused(source):
    path = source / "ends-00000.bin"
    ends = np.fromfile(path, dtype="<u8")
    ends[3] = ends[2]
    ends.tofile(path)
    with pytest.raises(UserError, match="do not rise"):
        Shards.open(source)


def test_another_tokenizers_ids_are_refused(source):
    with pytest.raises(UserError, match="of another tokenizer"):
        Shards.open(source, "0" * 64)


def test_a_source_without_an_index_is_no_source(source):
    (source / "index.json").unlink()
    with pytest.raises(UserError, match=r"holds no index.json"):
        Shards.open(source)
    with pytest.raises(UserError, match="Run the shards stage first"):
        names(source.parent)


def test_sources_are_named_by_their_folders(source):
    shutil.copytree(source, source.parent / "books")
    assert names(source.parent) == ["books", "web"]
