import numpy as np
import pytest

from baiwen.data.loader import Loader, Split
from baiwen.data.mixture import Mixture, pools
from baiwen.data.shards import write_index, write_shard
from baiwen.errors import UserError


@pytest.fixture
def folder(tokenizer, tmp_path):
    """Three sources: long documents only, short ones only, and both."""
    lengths = {"long": [90] * 40, "short": [9] * 400, "both": [80] * 20 + [8] * 200}
    for name, counts in lengths.items():
        shard = write_shard(tmp_path / name, 0, ("the " * count for count in counts), tokenizer)
        write_index(tmp_path / name, [shard], tokenizer)
    return tmp_path


def test_without_weights_every_token_is_drawn_once_an_epoch(folder, tokenizer):
    found = pools(folder, tokenizer.fingerprint, 64)
    total = sum(pool.tokens for pool in found)
    assert {pool.name: pool.weight for pool in found} == {
        pool.name: pool.tokens / total for pool in found
    }


def test_weights_are_shares_of_the_rows(folder, tokenizer):
    mixture = Mixture(weights={"long": 1, "short": 3, "both": 0})
    found = pools(folder, tokenizer.fingerprint, 64, mixture)
    assert {pool.name: pool.weight for pool in found} == {"long": 0.25, "short": 0.75}


def test_sources_without_a_weight_share_the_rest_by_size(folder, tokenizer):
    by_size = {pool.name: pool.tokens for pool in pools(folder, tokenizer.fingerprint, 64)}
    found = pools(folder, tokenizer.fingerprint, 64, Mixture(weights={"long": 0.4}))
    rest = by_size["both"] + by_size["short"]
    assert {pool.name: pool.weight for pool in found} == pytest.approx(
        {name: 0.4 if name == "long" else 0.6 * by_size[name] / rest for name in by_size}
    )


def test_long_share_parts_documents_by_length(folder, tokenizer):
    mixture = Mixture(long_share=0.4, long_at=50)
    loader = Loader(pools(folder, tokenizer.fingerprint, 64, mixture), Split(64, 640, 640))
    assert [pool.name for pool in loader.pools] == [
        "both (long)",
        "long (long)",
        "both (short)",
        "short (short)",
    ]
    drawn = [loader.row(row) for row in range(5000)]
    assert sum("(long)" in pool.name for pool, _ in drawn) == 2000
    for pool, row in drawn[:200]:
        pieces = pool.rows[row]
        ends = np.searchsorted(pool.stream.ends, pool.pieces.start[pieces], side="right")
        is_long = pool.stream.lengths[ends] >= 50
        assert is_long.all() if "(long)" in pool.name else not is_long.any()


def test_texts_of_a_length_that_fill_no_row_are_told(folder, tokenizer, capsys):
    found = pools(folder, tokenizer.fingerprint, 3_000, Mixture(long_share=0.5, long_at=50))
    assert [pool.name for pool in found] == ["long (long)", "short (short)"]
    told = capsys.readouterr().err
    assert "both: its long texts do not fill one row" in told
    assert "both: its short texts do not fill one row" in told


def test_weights_keep_their_proportions_within_each_length(folder, tokenizer):
    mixture = Mixture(long_share=0.4, long_at=50, weights={"long": 1, "both": 3, "short": 2})
    weights = {pool.name: pool.weight for pool in pools(folder, tokenizer.fingerprint, 64, mixture)}
    assert weights == pytest.approx(
        {"both (long)": 0.3, "long (long)": 0.1, "both (short)": 0.36, "short (short)": 0.24}
    )


@pytest.mark.parametrize(
    ("mixture", "length", "message"),
    [
        (Mixture(weights={"lon": 1}), 64, "no source 'lon'. Did you mean long?"),
        (Mixture(weights={"long": 1}), 64, "nothing is left of the rows for both, short."),
        (Mixture(weights={"long": 0, "short": 0, "both": 0}), 64, "all weights are 0"),
        (Mixture(), 100_000, "are less than one row of sequence_length = 100,000"),
        (Mixture(long_share=0.5, long_at=500), 64, "of at least 500 tokens (the longest has 94)"),
    ],
)
def test_a_mixture_that_cannot_be_is_explained(folder, tokenizer, mixture, length, message):
    with pytest.raises(UserError) as error:
        pools(folder, tokenizer.fingerprint, length, mixture)
    assert message in str(error.value)
