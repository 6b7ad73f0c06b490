"""Files of patterns: the published ones, ours, and those that are none."""

import json
from dataclasses import replace

import pytest

from baiwen.errors import UserError
from baiwen.model import patterns
from baiwen.model.patterns import Head, Patterns
from baiwen.model.sizes import SIZES

PUBLISHED = {  # size, and how many heads have the commonest shape, (1000, 6096), as counted there
    "Qwen2.5_7B_Instruct_128k_instruct_kv_out_v32_fit_o_best_pattern": ("7b", 411),
    "Qwen2.5_7B_Instruct_1M": ("7b", 321),
    "Qwen2.5_14B_Instruct_1M": ("14b", 1002),
}
SHAPE = replace(SIZES["tiny"], num_hidden_layers=2, num_attention_heads=2)
GOOD = ["vertical_and_slash", 30, 800, 0.9]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_load(name, shared):
    size, commonest = PUBLISHED[name]
    config = SIZES[size]
    found = patterns.read(shared / f"configs/minference/{name}.json.gz", config)
    heads = [head for layer in found.layers for head in layer]
    assert len(heads) == config.num_hidden_layers * config.num_attention_heads
    assert sum((head.vertical, head.slash) == (1000, 6096) for head in heads) == commonest


def test_what_is_written_is_read(tmp_path):
    made = Patterns(((Head(30, 800, 0.5), Head(1, 2, 0.25)), (Head(0, 0), Head(7, 0, 1.0))))
    patterns.write(tmp_path / "patterns.json", made)
    assert patterns.read(tmp_path / "patterns.json", SHAPE) == made
    assert json.loads((tmp_path / "patterns.json").read_text())[0]["0"] == [*GOOD[:3], 0.5]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ([{"0": GOOD, "1": GOOD}], "another model's: 1 layers, the model has 2"),
        ([{"0": GOOD}] * 2, r"another model's: 1 heads in layer 0, the model has 2 \(0 ... 1\)"),
        ([{"0": GOOD, "2": GOOD}] * 2, "another model's: 2 heads in layer 0"),
        ([{"0": GOOD, "1": ["stream_llm", 1, 1, 1]}] * 2, "no kind of pattern 'stream_llm'"),
        ([{"0": GOOD, "1": [*GOOD[:1], -1, 3, 1]}] * 2, "layer 0, head 1: vertical = -1 must be"),
        ([{"0": GOOD, "1": [*GOOD[:1], 3, 2.5, 1]}] * 2, "slash = 2.5 must be"),
        ([{"0": GOOD, "1": [*GOOD[:3], "high"]}] * 2, "score = 'high' must be a number"),
        ([{"0": GOOD, "1": GOOD[:3]}] * 2, "expected .'vertical_and_slash', vertical, slash"),
        ({"0": GOOD}, "expected a list by layer"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(raw, told, tmp_path):
    (tmp_path / "patterns.json").write_text(json.dumps(raw))
    with pytest.raises(UserError, match=told) as error:
        patterns.read(tmp_path / "patterns.json", SHAPE)
    assert "patterns.json" in str(error.value)


def test_a_file_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "patterns.json").write_text("[")
    with pytest.raises(UserError, match=r"patterns\.json: this is not JSON"):
        patterns.read(tmp_path / "patterns.json", SHAPE)
    with pytest.raises(UserError, match=r"absent\.json: there is no such file") as error:
        patterns.read(tmp_path / "absent.json", SHAPE)
    assert "not JSON" not in str(error.value)
