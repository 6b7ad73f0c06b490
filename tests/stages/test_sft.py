"""Supervised fine-tuning on several files of conversations."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import baiwen
from baiwen import files, stages
from baiwen.errors import UserError
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.tokenizer import bpe, template

RECIPE = """
stage = "sft"
out = "out"
start = "base"
sequence_length = 512
tokens_per_step = 1024
micro_tokens = 512
epochs = 1
threads = 1
[data]
short = "short.jsonl"
long = "long.jsonl"
[mixture]
long_share = 0.5
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a random model and two files of conversations."""
    monkeypatch.chdir(tmp_path)
    tokenizer = bpe.train([template.DEFAULT_SYSTEM, "a b c d"] * 4, vocab_size=300)
    model = Transformer(replace(SIZES["tiny"], num_hidden_layers=1, vocab_size=384))
    model.init_weights(seed=0)
    baiwen.save(model, tokenizer, "base")
    for name, words, count in (("short", 2, 40), ("long", 300, 8)):
        said = {"role": "user", "content": "a " * words}, {"role": "assistant", "content": "b"}
        Path(f"{name}.jsonl").write_text(f"{json.dumps({'messages': said})}\n" * count)
    files.write("recipe.toml", RECIPE)
    return Path("recipe.toml")


def test_short_and_long_conversations_share_the_rows_as_the_mixture_says(place):
    recipes = stages.load(place)
    stages.check(recipes)
    planned = recipes[0].module.plan(recipes[0].config)
    assert stages.run(recipes[0])
    rows = files.read_json("out/rows.json")
    assert planned["steps"] == len(list(files.read_jsonl("out/metrics.jsonl")))
    assert planned["steps"] > rows["tokens"] / 1024 + 1  # rows have padding
    assert {name: source["share"] for name, source in rows["sources"].items()} == {
        "long (long)": 0.5,
        "short (short)": 0.5,
    }


def test_a_missing_file_of_the_mixture_is_named_once(place):
    recipes = stages.load(place, ["data.long=lang.jsonl"])
    with pytest.raises(UserError) as error:
        stages.check(recipes)
    assert str(error.value).count('data.long = "lang.jsonl" does not exist') == 1


def test_a_mixture_of_no_files_is_refused(place):
    with pytest.raises(UserError, match=r"data = \{\} must have at least 1"):
        stages.load(place, ["data={}"])


def test_one_file_is_told_once_when_it_is_missing(place):
    text = RECIPE.partition("[data]")[0].replace("epochs", 'data = "shirt.jsonl"\nepochs')
    files.write("one.toml", text)
    with pytest.raises(UserError) as error:
        stages.check(stages.load("one.toml"))
    assert str(error.value).count("Did you mean short.jsonl?") == 1
