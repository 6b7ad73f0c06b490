"""Bits per byte against the plain definition, one token at a time."""

import copy
import gzip
import lzma
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baiwen.eval.compression import Document, cost, measure, windows
from baiwen.model.config import ModelConfig
from baiwen.model.packed import pack
from baiwen.model.transformer import Transformer
from baiwen.tokenizer import bpe

CONTEXT = 16


@pytest.fixture(scope="module")
def tokenizer():
    return bpe.train(["the cat sat on the mat and the dog sat on the log " * 20], vocab_size=270)


@pytest.fixture(scope="module")
def model(tokenizer):
    config = ModelConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
        tie_word_embeddings=True,
        torch_dtype="float32",
    )
    model = Transformer(config)
    model.init_weights(seed=0)
    return model


def token_by_token(model, ids, first):
    """Each token guessed from what its window shows of the tokens before it."""
    bits = first
    for window in windows(0, len(ids), CONTEXT):
        for at in range(window.scored, window.end):
            logits = model.logits(torch.tensor([ids[window.start : at]]))[0, -1]
            bits -= torch.log_softmax(logits.float(), -1)[ids[at]].item() / math.log(2)
    return bits


def test_a_packed_model_costs_about_the_same(model):
    documents = [np.arange(size, dtype=np.uint32) for size in (2, 16, 40)]
    packed = copy.deepcopy(model)
    pack(packed, "int8")
    assert cost(packed, documents, first=8.0) == pytest.approx(
        cost(model, documents, 8.0), rel=0.01
    )


@torch.no_grad()
def test_the_cost_is_the_sum_over_all_tokens(model):
    rng = random.Random(0)
    documents = [[rng.randrange(270) for _ in range(size)] for size in (1, 2, 7, 16, 17, 40, 90)]
    costs = cost(model, [np.array(ids, dtype=np.uint32) for ids in documents], first=8.0)
    for ids, bits in zip(documents, costs, strict=True):
        assert bits == pytest.approx(token_by_token(model, ids, 8.0), rel=1e-5)


@torch.no_grad()
def test_a_uniform_model_costs_the_logarithm_of_its_vocabulary(model, tokenizer):
    flat = Transformer(model.config)
    flat.init_weights(seed=0)
    flat.model.embed_tokens.weight.zero_()
    documents = [np.arange(40, dtype=np.uint32), np.zeros(0, dtype=np.uint32)]
    bit = math.log2(len(tokenizer))
    assert cost(flat, documents, first=bit) == pytest.approx([40 * bit, 0.0])


@given(length=st.integers(0, 200), context=st.integers(2, 40))
def test_windows_score_every_token_but_the_first_once_and_stay_in_the_context(length, context):
    plan = list(windows(0, length, context))
    scored = [at for window in plan for at in range(window.scored, window.end)]
    assert scored == list(range(1, length))
    for window in plan:
        assert window.start < window.scored < window.end <= window.start + context
        # A quarter of the context at least is seen, or all there is.
        assert window.scored - window.start >= min(window.scored, context // 4)


def test_gzip_and_xz_get_the_same_bytes_as_one_stream(model, tokenizer):
    documents = [Document("the cat sat on the mat. " * 9, "a"), Document("猫在垫子上。" * 9, "b")]
    result = measure(model, tokenizer, documents)
    stream = "".join(document.text for document in documents).encode()
    assert result["all"]["bytes"] == len(stream)
    assert result["all"]["gzip"] == 8 * len(gzip.compress(stream, 9)) / len(stream)
    xz = lzma.compress(stream, preset=9 | lzma.PRESET_EXTREME)
    assert result["all"]["xz"] == 8 * len(xz) / len(stream)


def test_the_whole_is_the_byte_weighted_mean_of_its_sources(model, tokenizer):
    documents = [Document("the cat sat " * n, source) for n, source in ((3, "a"), (9, "b"))]
    result = measure(model, tokenizer, documents)
    parts = result["sources"].values()
    total = sum(part["bits_per_byte"] * part["bytes"] for part in parts)
    assert result["all"]["bits_per_byte"] == pytest.approx(total / result["all"]["bytes"])
    assert result["sources"].keys() == {"a", "b"}


def test_text_is_counted_as_the_tokenizer_reads_it(model, tokenizer):
    decomposed, composed = "cafe\u0301 " * 5, "caf\u00e9 " * 5
    results = [measure(model, tokenizer, [Document(t, "a")]) for t in (decomposed, composed)]
    assert results[0] == results[1]
