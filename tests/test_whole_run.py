"""The whole of `recipes/tiny`, shrunk: raw text in, an aligned chat model and its report out.

It runs without a network, where this machine allows to take it away, and every Python process of it
notes what it tries to reach.
"""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import baiwen
from baiwen import cli, files
from baiwen.instruct import draw

ROOT = Path(__file__).resolve().parents[1]
SHRUNK = [
    # One kind that is learned at once, so that there are right answers to reward.
    f"instruct.kinds={json.dumps([*['counting'] * 4, *draw.KINDS])}",
    "instruct.train=600",
    *(f"instruct.demonstrations.{kind}=9" for kind in ("any_call", "any_person", "any_repeat")),
    "instruct.heldout=4",
    "instruct.prompts=64",
    "instruct.documents=120",
    "data.max_bytes=600_000",
    "data.heldout_share=0.1",
    "tokenizer.vocab_size=600",
    "pretrain.tokens=12_288",
    "pretrain.heldout_tokens=2_048",
    "extend.tokens=8_192",
    "extend.heldout_tokens=2_048",
    "pairs.max_tokens=24",
    "dpo.pairs_per_step=4",
    "reward.prompts_per_step=4",
    "reward.heldout_share=0.5",
    "grpo.steps=2",
    "grpo.prompts_per_step=2",
    "grpo.max_tokens=24",
    "evaluate.max_tokens=12",
    "evaluate.characters=5_000",
    "evaluate.shots=1",
]
WATCH = """import os, sys
def note(event, arguments):
    inet = event == "socket.connect" and isinstance(arguments[1], tuple)
    if inet or event == "socket.getaddrinfo":
        with open(os.environ["REACHED"], "a") as file:
            print(event, arguments, file=file)
sys.addaudithook(note)
"""
UNPLUGGED = ["unshare", "--map-root-user", "--net"]
STAGES = ["instruct", "data", "tokenizer", "shards", "pretrain", "extend", "sft"]
STAGES += ["pairs", "dpo", "reward", "grpo", "evaluate"]


def run(folder, *words):
    (folder / "watch").mkdir(exist_ok=True)
    (folder / "watch" / "sitecustomize.py").write_text(WATCH)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder / "watch"), str(ROOT)]),
        "REACHED": str(folder / "reached"),
        "NO_COLOR": "1",
    }
    unplugged = UNPLUGGED if runs(*UNPLUGGED, "true") else []
    command = [*unplugged, sys.executable, "-m", "baiwen", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def runs(*command):
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    done = run(folder, "run", str(ROOT / "recipes" / "tiny"), *SHRUNK)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_every_stage_leaves_a_sealed_folder(finished):
    runs = finished / "runs" / "tiny"
    assert sorted(path.name for path in runs.iterdir()) == sorted([*STAGES, "report"])
    for folder in runs.iterdir():
        assert json.loads((folder / "manifest.json").read_text())["files"], folder


@pytest.mark.slow
def test_no_process_tried_to_reach_another_machine(finished):
    assert not (finished / "reached").exists()
    here = {"PYTHONPATH": str(finished / "watch"), "REACHED": str(finished / "tried")}
    code = "import socket; socket.socket().connect_ex(('127.0.0.1', 9))"
    subprocess.run([sys.executable, "-c", code], env=os.environ | here, check=True)
    assert "socket.connect" in (finished / "tried").read_text()  # the watch is awake


@pytest.mark.slow
def test_a_second_run_has_nothing_to_do(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished)
    assert cli.main(["run", str(ROOT / "recipes" / "tiny"), *SHRUNK]) == 0
    assert capsys.readouterr().err.count("done: ") == len(STAGES) + 1


@pytest.mark.slow
def test_the_longer_stage_kept_what_it_was_told(finished):
    model, _ = baiwen.load(finished / "runs" / "tiny" / "extend")
    assert model.config.max_position_embeddings == 1024
    assert model.config.rope_theta == 1e5


@pytest.mark.slow
def test_the_scores_hold_every_model_and_the_differences_of_each_two(finished):
    scores = json.loads((finished / "runs/tiny/evaluate/scores.json").read_text())
    assert list(scores["models"]) == ["base", "sft", "dpo", "grpo"]
    for name in ("sft - base", "dpo - sft", "grpo - sft"):
        assert scores["differences"][name]["all"]["n"] == len(draw.KINDS) * 4


@pytest.mark.slow
def test_every_stage_after_sft_moved_the_weights(finished):
    models = [
        finished / "runs/tiny" / name / "model.safetensors" for name in ("sft", "dpo", "grpo")
    ]
    assert len({path.read_bytes() for path in models}) == 3


@pytest.mark.slow
def test_pairs_and_rollouts_are_of_the_prompts_that_were_drawn(finished):
    runs = finished / "runs" / "tiny"
    drawn = [row["prompt"] for row in files.read_jsonl(runs / "instruct" / "prompts.jsonl")]
    assert len(drawn) == 64
    pairs = list(files.read_jsonl(runs / "pairs" / "pairs.jsonl"))
    assert pairs and all(pair["prompt"] in drawn for pair in pairs)
    asked = {prompt[-1]["content"] for prompt in drawn}
    rolled = list(files.read_jsonl(runs / "grpo" / "rollouts.jsonl"))
    assert rolled and all(row["asked"] in asked for row in rolled)


@pytest.mark.slow
def test_the_report_names_every_stage_and_asks_nothing_of_the_network(finished):
    page = (finished / "runs/tiny/report/report.html").read_text()
    assert all(name in page for name in STAGES)
    bare = re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)  # documents may name addresses
    assert "<script" not in page and "https://" not in bare.replace("https://www.w3.org", "")


@pytest.mark.slow
def test_the_model_answers_in_chat(finished, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is 2 + 3?\n"))
    folder = str(finished / "runs/tiny/sft")
    assert cli.main(["chat", folder, "--max-tokens", "32", "--seed", "0"]) == 0
    assert capsys.readouterr().out.strip()
