"""DPO as a user runs it: a recipe in, an HF folder out; stopped, resumed, on two ranks."""

import json
import os
import random
import re
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import baiwen
from baiwen import files, stages
from baiwen.data import pairs, trees
from baiwen.errors import UserError
from baiwen.model import weights
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.tokenizer import train
from baiwen.train import references

TEXT = "the cat sat on a mat and saw two dogs run past an old red barn in warm rain"
WORDS = TEXT.split()
DPO = """
stage = "dpo"
start = "sft"
data = "train.jsonl"
heldout = "heldout.jsonl"
epochs = 2
pairs_per_step = 16
micro_tokens = 512
beta = 0.5
threads = 1
dtype = "float32"
save_dtype = "float32"
[optim]
lr = 1e-3
[loop]
eval_every = 2
save_every = 3
keep_best = true
"""
MERGING = """
[optim.merging]
method = "ties"
base = "base"
alpha = 1e-3
p = 0.5
every = 2
"""


def recipe(name, text=DPO, **knobs):
    """A recipe's file in the working directory, whose run folder is `name`."""
    given = "".join(f"{key} = {json.dumps(value)}\n" for key, value in knobs.items())
    kept = re.sub(rf"(?m)^({'|'.join(knobs) or '-'}) = .*\n", "", text)
    files.write(f"{name}.toml", f'out = "{name}"\n{given}{kept}')
    return f"{name}.toml"


def run(name, text=DPO, **knobs):
    (loaded,) = stages.load(recipe(name, text, **knobs))
    stages.run(loaded)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with two models, and pairs whose better answers have words of their own."""
    place, rng = tmp_path_factory.mktemp("dpo"), random.Random(0)
    before = os.getcwd()
    os.chdir(place)
    tokenizer = train([" ".join(rng.choices(WORDS, k=30)) for _ in range(100)], 290)
    shape = replace(SIZES["tiny"], vocab_size=384, num_hidden_layers=2, max_position_embeddings=256)
    for seed, name in enumerate(("base", "sft")):
        model = Transformer(shape)
        model.init_weights(seed)
        baiwen.save(model, tokenizer, name)
    for name, count in (("train", 40), ("heldout", 10)):
        with files.jsonl_writer(f"{name}.jsonl") as put:
            for _ in range(count):
                asked, right, wrong = map(rng.choice, (WORDS, WORDS[:9], WORDS[9:]))
                put({"prompt": asked, "chosen": right, "rejected": wrong, "kind": "words"})
    yield place
    os.chdir(before)


@pytest.fixture(scope="module")
def aligned(place):
    run("dpo")
    return place / "dpo"


def test_the_model_learns_which_answer_is_better(aligned):
    files.check(aligned)
    rows = list(files.read_jsonl(aligned / "metrics.jsonl"))
    assert [row["step"] for row in rows] == list(range(1, 6))  # 2 epochs of 40 pairs, 16 a step
    assert rows[0]["loss"] == pytest.approx(0.6931, abs=1e-3)  # it begins as its reference
    assert rows[-1]["loss"] < 0.5
    assert rows[-1]["accuracy"] > 0.8 and rows[-1]["margin"] > 0
    told = {"reward_chosen", "reward_rejected", "logprobs_chosen", "logprobs_rejected"}
    assert told <= rows[0].keys()
    measured = [row["step"] for row in rows if "heldout_accuracy" in row]
    assert measured == [2, 4, 5]
    assert rows[-1]["heldout_accuracy"] > 0.8


def test_the_folder_is_a_chat_model_with_its_best_and_its_pairs(aligned):
    ours, tokenizer = baiwen.load(aligned)
    assert ours.config.eos_token_id == tokenizer.end_of_turn
    assert weights.load(aligned / "best").config == ours.config
    told = files.read_json(aligned / "pairs.json")
    assert told["pairs"] == 40 and told["kinds"] == {"words": 40}
    assert len(list((aligned / "references").glob("*.safetensors"))) == 2
    assert not (aligned / "state").exists()


def test_another_run_from_the_same_model_reads_the_reference(aligned, monkeypatch):
    def refused(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(references, "compute", refused)
    run("again", references="dpo/references", beta=0.1, epochs=0.5)
    assert not (aligned.with_name("again") / "references").exists()


def test_the_reference_is_what_the_start_model_says(aligned):
    found = pairs.read("heldout.jsonl", "sft", pairs.Limits(256, 512))
    model, _ = baiwen.load("sft")
    wanted = []
    for tree in found:
        for answer in tree.answers:
            tokens = torch.tensor([[*tree.prompt, *answer]])
            logps = model.float().logits(tokens)[0, len(tree.prompt) - 1 : -1].log_softmax(-1)
            wanted.append(logps.gather(1, torch.tensor(answer)[:, None]).sum().item())
    kept = [load_file(path)["logprobs"].tolist() for path in aligned.glob("references/*")]
    assert pytest.approx(wanted, rel=1e-4) in kept


def test_a_stopped_run_with_merging_goes_on_in_the_same_bits(place, monkeypatch):
    text = DPO.replace("keep_best = true\n", "") + MERGING
    run("whole", text)
    step = trees.Loader.step

    def until(self, number):
        if number == 2:  # between two merges
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, number)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trees.Loader, "step", until)
        run("stopped", text)
    run("stopped", text)
    one, other = (place / name / "model.safetensors" for name in ("whole", "stopped"))
    assert one.read_bytes() == other.read_bytes()


def test_a_base_of_another_shape_is_refused_before_anything_is_computed(place, monkeypatch):
    model = Transformer(replace(weights.read_config("sft"), vocab_size=256))
    model.init_weights(0)
    weights.save(model.state_dict(), model.config, "small")
    monkeypatch.setattr(references, "compute", None)
    with pytest.raises(UserError, match=r"small is of another shape .* \[256, \d+\] there,"):
        run("wrong-base", DPO + MERGING.replace('"base"', '"small"'))


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"loss": "ipo", "label_smoothing": 0.1}, "label_smoothing is a knob of the sigmoid loss"),
        ({"loss": "hinge"}, "sigmoid"),
        ({"beta": 0.0}, "beta"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(place, knobs, told):
    with pytest.raises(UserError, match=told):
        stages.load(recipe("wrong", **knobs))


def test_a_prompt_longer_than_the_context_is_named(place):
    files.write("long.jsonl", json.dumps({"prompt": "cat " * 999, "chosen": "a", "rejected": "b"}))
    with pytest.raises(UserError, match=r"long\.jsonl:1: .* the context has 256"):
        run("long", data="long.jsonl")


def test_the_plan_tells_size_and_work_without_running(place):
    (loaded,) = stages.load(recipe("planned"))
    figures = loaded.module.plan(loaded.config)
    assert figures["pairs"] == 40 and figures["steps"] == 5
    asked = loaded.module.work(loaded.config)
    assert float(figures["FLOPs"]) == pytest.approx(asked.flops_per_token * asked.tokens, rel=0.01)
    (before,) = asked.others
    assert before.passes == 1 / 2 and before.held == "no"  # once, of two epochs
    assert not (place / "planned").exists()


def test_two_ranks_train_as_one(aligned, forks):
    done = forks.run("-m", "baiwen", "run", recipe("ranks"), ranks=2)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (
        list(files.read_jsonl(aligned.with_name(name) / "metrics.jsonl"))
        for name in ("dpo", "ranks")
    )
    for left, right in zip(one, two, strict=True):
        for name in ("loss", "margin", "accuracy", "grad_norm", "logprobs_chosen"):
            assert left[name] == pytest.approx(right[name], rel=1e-4, abs=1e-5), name
    for left, right in zip(
        weights.load("dpo").parameters(), weights.load("ranks").parameters(), strict=True
    ):
        torch.testing.assert_close(left, right, rtol=0, atol=2e-4)
