"""A tokenizer, a random model of two layers, and prompts that counts of letters judge."""

import json
from dataclasses import replace

import pytest
import torch

from baiwen.engine.engine import Engine
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.rl.rollout import Local
from baiwen.tokenizer import bpe, template


@pytest.fixture(scope="session")
def tokenizer():
    return bpe.train([template.DEFAULT_SYSTEM, "def f(x): return x"] * 4, vocab_size=300)


@pytest.fixture(scope="session")
def shape(tokenizer):
    return replace(
        SIZES["tiny"],
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        vocab_size=336,
        bos_token_id=tokenizer.end_of_text,
        eos_token_id=tokenizer.end_of_turn,
    )


@pytest.fixture
def model(shape):
    made = Transformer(shape)
    made.init_weights(seed=0)
    with torch.no_grad():  # so that it is not equally sure of all tokens
        for parameter in made.parameters():
            parameter.mul_(3 if parameter.ndim > 1 else 1)
    return made


@pytest.fixture
def sampler(model, tokenizer):
    return Local(Engine(model, tokenizer, cache_tokens=4096, sequences=16))


@pytest.fixture
def asked(tmp_path):
    """A file of prompts, and its path."""
    path = tmp_path / "prompts.jsonl"
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Say {word}."}],
            "answer": word,
            "verifier": "exact",
            "kind": "echo",
        }
        for word in ("a", "b", "def", "return", "x", "f")
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path
