"""Pre-training and SFT as a user runs them: recipes in, HF folders out."""

import contextlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from baiwen import files, stages
from baiwen.data import shards
from baiwen.errors import UserError
from baiwen.model import weights
from baiwen.model.positions import DualChunk
from baiwen.stages import pretrain
from baiwen.tokenizer import train
from baiwen.tokenizer.tokenizer import Tokenizer

TEXT = "the cat sat on a mat and saw two dogs run past an old red barn in warm rain"
WORDS = re.findall(r"\w+", TEXT)
PRETRAIN = """
stage = "pretrain"
tokenizer = "tokenizer"
shards = "shards"
heldout = "heldout.jsonl"
size = "tiny"
sequence_length = 32
tokens_per_step = 128
micro_tokens = 64
steps = 8
threads = 1
[optim]
lr = 1e-3
[loop]
eval_every = 3
save_every = 2
keep_best = true
"""
EXTEND = """
stage = "pretrain"
tokenizer = "tokenizer"
shards = "shards"
start = "base"
sequence_length = 64
tokens_per_step = 128
micro_tokens = 64
tokens = 300
rope_theta = 50000.0
threads = 1
"""
BY_LAW = """
stage = "pretrain"
tokenizer = "tokenizer"
shards = "shards"
size = "tiny"
sequence_length = 32
micro_tokens = 64
tokens = 400
threads = 1
[optim]
lr = "law"
"""
SFT = """
stage = "sft"
start = "extend"
data = "train.jsonl"
heldout = "train.jsonl"
sequence_length = 256
tokens_per_step = 1024
micro_tokens = 512
epochs = 1
threads = 1
save_dtype = "float32"
"""


def recipe(name, text, **knobs):
    """A recipe's file in the working directory, whose run folder is `name`."""
    given = "".join(f"{key} = {json.dumps(value)}\n" for key, value in knobs.items())
    files.write(f"{name}.toml", f'out = "{name}"\n{given}{text}')
    return f"{name}.toml"


def run(name, text, **knobs):
    (loaded,) = stages.load(recipe(name, text, **knobs))
    stages.run(loaded)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with tokenizer, shards, held-out documents and conversations; the working one."""
    place, rng = tmp_path_factory.mktemp("runs"), random.Random(0)
    before = os.getcwd()
    os.chdir(place)
    texts = [" ".join(rng.choices(WORDS, k=rng.randrange(5, 60))) for _ in range(120)]
    tokenizer = train(texts, 280)
    tokenizer.save("tokenizer")
    source = place / "shards" / "prose"
    shards.write_index(source, [shards.write_shard(source, 0, texts[20:], tokenizer)], tokenizer)
    with files.jsonl_writer("heldout.jsonl") as put:
        for text in texts[:20]:
            put({"text": text})
    with files.jsonl_writer("train.jsonl") as put:
        for text in texts[:40]:
            question = {"role": "user", "content": text.split()[0]}
            put({"messages": [question, {"role": "assistant", "content": text[:40]}]})
    yield place
    os.chdir(before)


@pytest.fixture(scope="module")
def base(place):
    run("base", PRETRAIN)
    return place / "base"


@pytest.fixture(scope="module")
def extended(base):
    run("extend", EXTEND)
    return base.with_name("extend")


def test_a_law_gives_the_run_of_its_numbers_and_is_recorded(place):
    run("by_law", BY_LAW, law="steplaw", tokens_per_step="law")
    told = files.read_json("by_law/law.json")
    assert 0 < told["lr"] < 0.1 and told["tokens_per_step"] == 64
    assert told["setting"]["tokens"] == 400 and "parameters" in told["setting"]["lr"]["beyond"]
    typed = files.read_json("by_law/recipe.json")
    assert typed["optim"]["lr"] == typed["tokens_per_step"] == "law"
    numbers = BY_LAW.replace('"law"', repr(told["lr"]))
    run("by_number", numbers, tokens_per_step=told["tokens_per_step"])
    one, other = (place / name / "model.safetensors" for name in ("by_law", "by_number"))
    assert one.read_bytes() == other.read_bytes()


def test_ranks_take_the_numbers_of_a_law_together(place, forks):
    """Of a batch that both divide; the steps are those of one process with these numbers."""
    name = recipe("law_of_two", BY_LAW, law="steplaw", tokens_per_step="law")
    done = forks.run("-m", "baiwen", "run", name, ranks=2)
    assert done.returncode == 0, done.stderr
    told = files.read_json("law_of_two/law.json")
    assert told["tokens_per_step"] == 2 * 64
    numbers = BY_LAW.replace('"law"', repr(told["lr"]))
    run("two_by_number", numbers, tokens_per_step=told["tokens_per_step"])
    two, one = (
        list(files.read_jsonl(f"{name}/metrics.jsonl")) for name in ("law_of_two", "two_by_number")
    )
    assert [row["lr"] for row in two] == [row["lr"] for row in one] and len(one) > 1
    losses = [row["loss"] for row in one]
    assert [row["loss"] for row in two] == pytest.approx(losses, rel=1e-3)


def test_the_folder_is_one_that_transformers_reads(base):
    ours, tokenizer = weights.load(base), Tokenizer.load(base)
    theirs = AutoModelForCausalLM.from_pretrained(base)
    assert AutoTokenizer.from_pretrained(base)("a cat").input_ids == tokenizer.encode("a cat")
    tokens = torch.randint(0, len(tokenizer), (1, 16))
    torch.testing.assert_close(
        ours.float().logits(tokens), theirs.float()(tokens).logits, rtol=1e-4, atol=1e-4
    )


def test_a_fresh_model_fits_its_tokenizer_and_ends_with_the_text(base):
    config, tokenizer = weights.read_config(base), Tokenizer.load(base)
    assert config.vocab_size == 384 and 256 < len(tokenizer) < 384  # a multiple of 128
    assert config.eos_token_id == tokenizer.end_of_text
    assert config.max_position_embeddings == 32
    assert config.torch_dtype == "bfloat16"


def test_the_run_is_sealed_without_its_state_and_with_its_record(base):
    files.check(base)
    assert not (base / "state").exists()
    rows = list(files.read_jsonl(base / "metrics.jsonl"))
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert [row["step"] for row in rows if "heldout_loss" in row] == [3, 6, 8]
    assert files.read_json(base / "rows.json")["sources"].keys() == {"prose"}
    assert files.read_json(base / "device.json")["peak_flops"] > 0


def test_the_best_checkpoint_is_kept_when_asked(base):
    assert weights.load(base / "best").config == weights.read_config(base)


def test_longer_context_writes_its_base_and_length(base, extended):
    before, after = weights.read_config(base), weights.read_config(extended)
    assert (before.rope_theta, after.rope_theta) == (10_000.0, 50_000.0)
    assert after.max_position_embeddings == 64
    assert len(list(files.read_jsonl(extended / "metrics.jsonl"))) == 3  # 300 tokens of 128 a step


def test_a_start_that_is_not_of_the_size_beside_it_is_refused(base):
    with pytest.raises(
        UserError, match=r"its hidden_size is 128, but that of size = \"0\.5b\" is 896"
    ):
        run("other", EXTEND, size="0.5b")
    run("same", EXTEND.replace("tokens = 300", "tokens = 100"), size="tiny")


def test_a_plan_knows_the_size_before_there_is_a_start(place):
    text = EXTEND.replace('start = "base"', 'start = "is-yet-to-come"')
    (blind,) = stages.load(recipe("blind", text))
    (told,) = stages.load(recipe("told", text, size="0.5b"))
    with pytest.raises(UserError, match="start = is-yet-to-come: not there yet"):
        pretrain.plan(blind.config)
    figures = pretrain.plan(told.config)
    assert figures["parameters"] == 494_032_768 and figures["tokens"] == 300


def test_dual_chunk_attention_is_trained_with_and_written(extended):
    text = EXTEND.replace("tokens = 300", "tokens = 100")
    run("dual", f"{text}[dual_chunk]\nchunk_size = 24\nlocal_size = 8\n")
    folder = extended.with_name("dual")
    assert weights.read_config(folder).dual_chunk_attention_config == DualChunk(24, 8, 24)
    (dual,) = files.read_jsonl(folder / "metrics.jsonl")
    plain = next(files.read_jsonl(extended / "metrics.jsonl"))
    assert dual["tokens"] == plain["tokens"]
    assert dual["loss"] != plain["loss"]  # of the same rows by the same weights


def test_a_plan_tells_the_memory_of_a_rank_that_has_its_share_of_a_row(place):
    large = PRETRAIN.replace("= 128\n", "= 65536\n").replace("= 64\n", "= 65536\n")

    def activations(context):
        text = f"{large}[parallel]\ncontext = {context}\n"
        (loaded,) = stages.load(recipe("planned", text))
        return float(
            re.search(r"([\d.]+) activations", loaded.module.plan(loaded.config)["memory"])[1]
        )

    # And a little: what attention gave stays on both sides of the exchange.
    assert activations(2) == pytest.approx(activations(1) / 2, rel=0.1)


def test_rows_that_ranks_share_must_divide_and_ranks_be_there(base):
    with pytest.raises(UserError, match=r"32 must be a multiple of 3, since parallel\.context = 3"):
        run("shared", f"{PRETRAIN}[parallel]\ncontext = 3\n")
    with pytest.raises(UserError, match=r"context 2 x tensor 1 = 2 does not divide the 1 ranks"):
        run("shared", f"{PRETRAIN}[parallel]\ncontext = 2\n")


def test_a_chat_model_ends_its_turn(extended):
    run("sft", SFT)
    tokenizer = Tokenizer.load("sft")
    config = weights.read_config("sft")
    generation = files.read_json("sft/generation_config.json")
    assert config.eos_token_id == tokenizer.end_of_turn and config.torch_dtype == "float32"
    assert generation["eos_token_id"] == [tokenizer.end_of_turn, tokenizer.end_of_text]
    assert generation["repetition_penalty"] == 1.05
    assert AutoTokenizer.from_pretrained("sft").eos_token == "<|im_end|>"
    rows = list(files.read_jsonl("sft/metrics.jsonl"))
    assert rows[-1]["heldout_loss"] < rows[0]["loss"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"size": "0.5B"}, r"Did you mean 0\.5b"),
        ({"size": None}, "needs size .* or start"),
        ({"epochs": 1.0}, "needs one of steps, tokens and epochs"),
        ({"micro_tokens": 48}, "micro_tokens = 48 must be a multiple of sequence_length = 32"),
        ({"heldout": None}, "keep_best needs heldout"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(place, change, told):
    text = re.sub(rf"(?m)^({'|'.join(change)}) = .*\n", "", PRETRAIN)
    given = {name: value for name, value in change.items() if value is not None}
    with pytest.raises(UserError, match=told):
        stages.load(recipe("wrong", text, **given))


def test_held_out_documents_without_text_are_named_by_their_line(place):
    files.write("untold.jsonl", '{"text": "a cat"}\n{"txt": "a dog"}\n')
    with pytest.raises(UserError, match=r"untold\.jsonl@\d+: no string `text` \(its fields: txt\)"):
        run("untold", PRETRAIN.replace("heldout.jsonl", "untold.jsonl"))


def test_a_start_with_too_small_a_vocabulary_is_refused(place, base):
    tokenizer = train([f"{a}{b}" for a in WORDS for b in WORDS], 400)
    tokenizer.save("larger")
    source = place / "more" / "prose"
    shards.write_index(source, [shards.write_shard(source, 0, [TEXT * 50], tokenizer)], tokenizer)
    changed = EXTEND.replace('"tokenizer"', '"larger"').replace('"shards"', '"more"')
    with pytest.raises(UserError, match=r"vocabulary has 384 rows, but .* has \d+ tokens"):
        run("vocabulary", changed)


def test_the_plan_tells_size_and_work_without_running(place):
    (loaded,) = stages.load(recipe("planned", PRETRAIN))
    figures = loaded.module.plan(loaded.config)
    assert figures["steps"] == 8 and figures["tokens"] == 8 * 128
    assert not (place / "planned").exists()


def test_the_planned_memory_is_near_what_a_run_takes(place, forks):
    """Of a lone process, whose peak is the run's own; rows long enough that attention counts."""
    text = PRETRAIN.replace("= 32\n", "= 256\n").replace("= 128\n", "= 4096\n")
    text = text.replace("= 64\n", "= 4096\n").replace("steps = 8", "steps = 2")
    plan, run = (
        forks.run("-m", "baiwen", word, recipe("measured", text)) for word in ("plan", "run")
    )
    assert run.returncode == 0, run.stderr
    planned = float(re.search(r"memory +([\d.]+) GiB", plan.stdout)[1])
    rows = files.read_jsonl("measured/metrics.jsonl")
    assert max(row["memory"] for row in rows) / 2**30 == pytest.approx(planned, rel=0.2)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_prints_the_line_that_resumes(base, forks, number, code):
    """And that line ends in the weights of a run that was left alone."""
    name = f"stopped-{code}"
    job = forks.start("-m", "baiwen", "run", recipe(name, PRETRAIN))
    await_steps(base.with_name(name), 1)
    os.kill(job.pids[0], number)
    told = job.wait().stderr
    assert job.returncode == code, told
    assert f"resume with: {sys.executable} -m baiwen run {name}.toml" in told.splitlines()[-1]
    stages.run(stages.load(f"{name}.toml")[0])
    one, other = (folder / "model.safetensors" for folder in (base, base.with_name(name)))
    assert one.read_bytes() == other.read_bytes()


def test_two_ranks_that_are_stopped_save_and_print_one_line_that_resumes(place, forks):
    """As torchrun stops them, which signals each."""
    text = PRETRAIN.replace("steps = 8", "steps = 100000").replace(
        "save_every = 2", "save_every = 9999"
    )
    job = forks.start("-m", "baiwen", "run", recipe("ranks", text), ranks=2)
    await_steps(place / "ranks", 1)
    for pid in job.pids:
        os.kill(pid, signal.SIGTERM)
    told = job.wait().stderr
    assert job.returncode == 143, told
    (line,) = [line for line in told.splitlines() if "resume with" in line]
    resumes = (
        "baiwen: interrupted; resume with: torchrun --nproc-per-node 2 -m baiwen run ranks.toml"
    )
    assert line == resumes
    assert saved_step(place / "ranks") == len(list(files.read_jsonl("ranks/metrics.jsonl")))


@pytest.mark.slow
def test_a_run_is_saved_where_torchrun_is_asked_to_end(place):
    """It passes SIGTERM on, and waits while the step and the checkpoint are finished."""
    text = PRETRAIN.replace("steps = 8", "steps = 100000").replace(
        "save_every = 2", "save_every = 9999"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
    command = [*torchrun, "-m", "baiwen", "run", recipe("asked", text)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    await_steps(place / "asked", 1)
    process.terminate()
    told = process.communicate(timeout=200)[1]
    assert process.returncode != 0 and "interrupted; resume with" in told, told
    assert saved_step(place / "asked") == len(list(files.read_jsonl("asked/metrics.jsonl")))


@pytest.mark.slow
def test_a_job_whose_rank_is_killed_restarts_and_ends_in_the_bits_of_one_left_alone(place):
    """torchrun starts all ranks again; they go on from the last checkpoint. Then the same anew."""
    text = PRETRAIN.replace("steps = 8", "steps = 16").replace("save_every = 2", "save_every = 5")
    os.mkdir("jobs")
    for name in ("1-killed", "2-alone"):
        recipe(f"jobs/{name}", text)
    names = "model.safetensors"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, "--max-restarts=3", "-m", "baiwen", "run", "jobs"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    await_steps(place / "jobs" / "1-killed", 8)
    os.kill(rank_1_of(process.pid), signal.SIGKILL)
    told = process.communicate(timeout=200)[1]
    assert process.returncode == 0, told
    assert re.search(r"baiwen: rank 1 \(.+\) died", told)
    assert len(re.findall("resumed after step (5|10)", told)) == 1  # said by rank 0 alone
    killed, alone = (place / "jobs" / name for name in ("1-killed", "2-alone"))
    assert (killed / names).read_bytes() == (alone / names).read_bytes()
    logged = [
        [{key: row[key] for key in ("step", "loss", "grad_norm")} for row in files.read_jsonl(log)]
        for log in (killed / "metrics.jsonl", alone / "metrics.jsonl")
    ]
    assert logged[0] == logged[1] and [row["step"] for row in logged[0]] == list(range(1, 17))


def await_steps(folder, steps):
    """Return once a run has logged so many steps; fail where it does not."""
    log, limit = folder / "metrics.jsonl", time.monotonic() + 200
    while not log.exists() or log.read_bytes().count(b"\n") < steps:
        assert time.monotonic() < limit, f"{folder} has not come to step {steps}"
        time.sleep(0.01)


def saved_step(folder):
    """The step of the one checkpoint of a run, which is whole."""
    (saved,) = (folder / "state").iterdir()
    files.check(saved)
    return files.read_json(saved / "state.json")["step"]


def rank_1_of(torchrun):
    """The process id of rank 1 among torchrun's children (Linux)."""
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == torchrun and b"\0RANK=1\0" in (status.parent / "environ").read_bytes():
                return int(status.parent.name)
    raise AssertionError("torchrun has no rank 1")


def test_a_run_that_made_no_step_gives_its_place_to_a_mended_recipe(place, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("baiwen.train.loop.advance", interrupted)
        run("mended", PRETRAIN)
    assert (place / "mended" / "rows.json").exists()
    run("mended", PRETRAIN.replace("lr = 1e-3", "lr = 2e-3").replace("steps = 8", "steps = 2"))
    assert "mended was another recipe's" in capsys.readouterr().err
    assert files.read_json(place / "mended" / "recipe.json")["optim"]["lr"] == 2e-3


def test_a_plan_follows_the_device_and_the_precision_of_the_recipe(place):
    large = PRETRAIN.replace("= 128\n", "= 65536\n").replace("= 64\n", "= 65536\n")

    def planned(**knobs):
        (loaded,) = stages.load(recipe("planned", large, **knobs))
        return loaded.module.plan(loaded.config)

    whole, half = (
        float(planned(dtype=dtype)["memory"].split(" GiB")[0]) for dtype in ("float32", "bfloat16")
    )
    assert half < whole
    if not torch.cuda.is_available():
        figures = planned(device="cuda")
        assert "there is no GPU 0 here" in figures["memory, time"]
        assert figures["parameters"] == planned()["parameters"]
