"""The stage on a small model: what it writes, that growth holds more, resuming, and errors."""

import json
from dataclasses import replace

import pytest
import torch

import baiwen
from baiwen import config as recipes
from baiwen import files
from baiwen.engine import recall
from baiwen.errors import UserError
from baiwen.model import patterns as published
from baiwen.model.patterns import Head
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.stages import patterns
from baiwen.stages.patterns import Found
from baiwen.tokenizer import bpe

LENGTH = 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random model with sharp attention, and documents for two samples."""
    folder = tmp_path_factory.mktemp("patterns")
    tokenizer = bpe.train(["one two three"], vocab_size=264)
    shape = replace(
        SIZES["tiny"], num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        hidden_size=64, intermediate_size=96, vocab_size=len(tokenizer), initializer_range=0.5,
        bos_token_id=tokenizer.end_of_text, eos_token_id=tokenizer.end_of_text,
    )  # fmt: skip
    model = Transformer(shape)
    model.init_weights(0)
    baiwen.save(model, tokenizer, folder / "model")
    drawn = torch.randint(97, 123, (5, 120), generator=torch.Generator().manual_seed(0))
    texts = ["".join(map(chr, row)) for row in drawn.tolist()]
    files.write(folder / "long.jsonl", "".join(json.dumps({"text": t}) + "\n" for t in texts))
    return folder


def config(folder, **knobs):
    return patterns.Config(**{
        "out": folder / "out", "model": folder / "model", "documents": (folder / "long.jsonl",),
        "length": LENGTH, "samples": 2, "chunk": 128, "after": 0, "threads": 1, "device": "cpu",
        "candidates": ((29, 100), (45, 100), (31, 130)), "increment": (8, 16), "growths": 2,
        "threshold": 0.97, "dtype": "float32",
    } | knobs)  # fmt: skip


def made(config):
    with files.run_folder(config.out, recipes.resolved(config)) as folder:
        patterns.run(config, folder)
    return config.out


@pytest.fixture(scope="module")
def out(folder):
    return made(config(folder))


def found(out, folder):
    model, _ = baiwen.load(folder / "model")
    return published.read(out / "patterns.json", model.config)


def test_each_head_holds_what_is_written(out, folder):
    model, tokenizer = baiwen.load(folder / "model", dtype=torch.float32)
    texts = patterns._texts(config(folder), tokenizer)
    layers = found(out, folder).layers
    held = [recall.trials(model, ids, [layers], chunk=128)[0] for ids in texts]
    told = files.read_json(out / "recall.json")
    for number, layer in enumerate(layers):
        for head, one in enumerate(layer):
            mean = sum(sample.recall[number][head] for sample in held) / len(held)
            assert one.score == pytest.approx(mean, abs=1e-5)
            assert told["layers"][number]["recall"][head] == one.score


def test_a_head_gets_the_candidate_that_holds_most_of_those_that_are_cheap_enough():
    few, some, many = (
        Found(Head(size, size, score), density)
        for size, score, density in ((1, 0.5, 0.1), (2, 0.7, 0.2), (3, 0.9, 0.4))
    )
    assert patterns._best([few, some, many], most=1.0) is many
    assert patterns._best([few, many, some], most=0.2) is some
    assert patterns._best([many, some, few], most=0.01) is few  # none is cheap: the cheapest
    dear = Found(Head(4, 4, 0.9), 0.6)
    assert patterns._best([dear, many], most=1.0) is many


def test_weak_heads_grow_until_they_hold_enough_or_as_often_as_allowed(out, folder):
    searched = found(made(config(folder, out=folder / "searched", growths=0)), folder)
    for before, after in zip(searched.layers, found(out, folder).layers, strict=True):
        for old, new in zip(before, after, strict=True):
            growths = (new.vertical - old.vertical) // 8
            assert (new.vertical, new.slash) == (
                old.vertical + 8 * growths,
                old.slash + 16 * growths,
            )
            assert (growths > 0) == (old.score < 0.97)
            assert new.score >= 0.97 or growths == 2
            assert new.score >= old.score


def test_a_run_that_was_killed_ends_as_one_that_was_not(out, folder, monkeypatch):
    halves, trials, calls = config(folder, out=folder / "halves"), recall.trials, []

    def counted(*args, **knobs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return trials(*args, **knobs)

    monkeypatch.setattr(recall, "trials", counted)
    with pytest.raises(KeyboardInterrupt):
        made(halves)
    before = len(calls)
    made(halves)
    once = files.read_json(out / "recall.json")
    assert files.read_json(halves.out / "recall.json") == once
    assert (halves.out / "patterns.json").read_bytes() == (out / "patterns.json").read_bytes()
    assert len(calls) - before < 6  # the first sample of the search was not read again


def test_too_little_text_is_told(folder):
    with pytest.raises(UserError, match=r"less than samples \* length = 25,600: give more text"):
        made(config(folder, out=folder / "short", samples=100))


def test_queries_that_do_not_count_leave_some_that_do(folder):
    with pytest.raises(ValueError, match="after = 256 leaves no query of length = 256"):
        config(folder, after=LENGTH)


def test_the_plan_says_how_much_is_read(folder):
    told = patterns.plan(config(folder))
    assert told == {"heads": 8, "tokens read": "at most 1,536 (6 times 256)"}
