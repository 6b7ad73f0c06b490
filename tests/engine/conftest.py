"""A small tokenizer, a small model, and engines of any size on them."""

import pytest

from baiwen.engine.engine import Engine
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.tokenizer import bpe
from baiwen.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return bpe.train(["hello world this is a text", "1 + 1 = 2 你好 世界"] * 20, 270)


@pytest.fixture(scope="session")
def config(tokenizer) -> ModelConfig:
    return ModelConfig(
        vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.4,
        tie_word_embeddings=True, eos_token_id=tokenizer.end_of_turn,
    )  # fmt: skip


@pytest.fixture(scope="session")
def model(config) -> Transformer:
    model = Transformer(config)
    model.init_weights(0)
    return model


@pytest.fixture
def build(model, tokenizer):
    """An engine of a test's own, with room for 1,024 tokens unless told."""

    def built(**knobs) -> Engine:
        return Engine(model, tokenizer, **{"cache_tokens": 1024, "sequences": 8} | knobs)

    return built


@pytest.fixture
def engine(build) -> Engine:
    return build()
