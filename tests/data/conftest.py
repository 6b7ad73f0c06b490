"""What the data tests share: a small tokenizer and shards in memory."""

import random

import pytest

from baiwen.tokenizer import bpe

WORDS = ["the", "of", "and", "to", "in", "is", "was", "that", "一", "二", "def", "return", "self"]


def text(rng: random.Random, words: int) -> str:
    """Words drawn at random."""
    return " ".join(rng.choices(WORDS, k=words))


@pytest.fixture(scope="session")
def tokenizer():
    rng = random.Random(0)
    return bpe.train((text(rng, 200) for _ in range(50)), vocab_size=290)


@pytest.fixture(scope="session")
def tokenizer_folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder)
    return folder
