import numpy as np
import pytest
import torch

from baiwen import files
from baiwen.data import heldout
from baiwen.errors import UserError


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "heldout.jsonl.zst"
    with files.jsonl_writer(path) as put:
        for words in range(1, 60):
            put({"id": str(words), "text": "the of " * words, "meta": {}})
    return path


def test_all_ranks_together_hold_every_document_that_fits(path, tokenizer):
    whole = heldout.batches(path, tokenizer, 64, micro_tokens=256)
    parts = [heldout.batches(path, tokenizer, 64, 256, rank=rank, ranks=2) for rank in (0, 1)]
    assert [len(b.tokens) for b in parts[0]] == [len(b.tokens) for b in parts[1]]
    rows = torch.cat([batch.tokens for batch in whole])
    shared = torch.cat([batch.tokens for part in parts for batch in part])
    assert torch.equal(shared, rows[: len(shared)])
    assert len(rows) - len(shared) < 2
    texts = [row["text"] for row in files.read_jsonl(path)]
    assert sum(b.count for b in whole) == sum(len(tokenizer.encode(text)) for text in texts)


def test_reading_ends_at_the_limit(path, tokenizer):
    some = heldout.batches(path, tokenizer, 64, 256, most=500)
    assert 500 <= sum(batch.real for batch in some) < 700
    assert np.isclose(some[0].count, some[0].mask.sum())


def test_too_little_text_for_the_ranks_is_refused(path, tokenizer):
    with pytest.raises(UserError, match="fewer than one for each of 1000 ranks"):
        heldout.batches(path, tokenizer, 64, 256, ranks=1000)
