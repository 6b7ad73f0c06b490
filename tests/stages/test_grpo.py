"""GRPO as a user runs it: it learns, it resumes in the same bits, and it names what is wrong."""

import json
import re
import runpy
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch

import baiwen
from baiwen import cli, config, files, stages
from baiwen.errors import UserError
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.rl import order
from baiwen.stages import grpo
from baiwen.tokenizer import bpe, template

HERE = Path(__file__).parent
TIMING = {"seconds", "tokens_per_second", "mfu", "memory"}
PATHS = {"out": "out", "start": "start", "prompts": "prompts.jsonl"}
KNOBS = {"prompts_per_step": 6, "max_tokens": 8, "micro_tokens": 600, "threads": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A random model, `start`, and prompts that ask for two words."""
    folder = tmp_path_factory.mktemp("grpo")
    tokenizer = bpe.train([template.DEFAULT_SYSTEM, "def f(x): return x"] * 4, vocab_size=300)
    shape = replace(
        SIZES["tiny"],
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_key_value_heads=2,
        vocab_size=336,
        bos_token_id=tokenizer.end_of_text,
        eos_token_id=tokenizer.end_of_turn,
    )
    model = Transformer(shape)
    model.init_weights(seed=0)
    baiwen.save(model, tokenizer, folder / "start")
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Say two words about {number}."}],
            "answer": [{"is": "word_count", "count": 2}],
            "verifier": "instruction",
            "kind": "two words",
        }
        for number in range(12)
    ]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture
def home(made, tmp_path):
    """A folder of its own with that model and those prompts."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def recipe(home, **knobs):
    paths = {name: home / path for name, path in PATHS.items()}
    parsed = config.parse({**KNOBS, **paths, **knobs}, grpo.Config, "a test")
    return stages.Recipe(Path("grpo.toml"), "grpo", "grpo", parsed)


def metrics(out):
    rows = files.read_jsonl(out / "metrics.jsonl")
    return [{name: row[name] for name in row if name not in TIMING} for row in rows]


@pytest.fixture
def started(home, forks):
    """What `grpo_runs.py` prints there."""

    def done(*words, ranks=1):
        done = forks.run(HERE / "grpo_runs.py", home, *words, ranks=ranks)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return done


@pytest.mark.slow
def test_answers_that_are_rewarded_become_likelier(home):
    stages.run(recipe(home, steps=16, refills=0, optim={"lr": 1e-2}, beta=0.0))
    rewards = [row["reward"] for row in metrics(home / "out")]
    assert fmean(rewards[-4:]) > fmean(rewards[:4]) + 0.1
    model, _ = baiwen.load(home / "out")
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_the_record_holds_every_answer_and_the_figures_agree_with_it(home):
    stages.run(recipe(home, steps=2, samples_per_prompt=4))
    rows = list(files.read_jsonl(home / "out/rollouts.jsonl"))
    for step, told in enumerate(metrics(home / "out"), start=1):
        here = [row for row in rows if row["step"] == step]
        assert len(here) == 4 * told["groups"]
        assert fmean(row["reward"] for row in here) == pytest.approx(told["reward"])
        trained = [row for row in here if row["left_out"] is None]
        assert sum(row["advantage"] for row in trained) == pytest.approx(0, abs=1e-4)
        assert told["mismatch"] < 1e-4
        assert told["ratio"] == pytest.approx(1)
    assert {row["verdict"] for row in rows} == {"right", "wrong"}
    assert (home / "out/alarms.json").is_file()
    orders = list(files.read_jsonl(home / "out/order/step-00000000.jsonl"))
    assert [row["number"] for row in orders] == list(range(12))


@pytest.mark.slow
@pytest.mark.parametrize("updates", [1, 2])
def test_a_run_killed_in_the_middle_of_rollouts_ends_in_the_same_bits(home, started, updates):
    """kill -9 while the order is measured, in a rollout, and again right after resuming."""
    hits = started(f"killed-{updates}", "3", "40", "9")
    assert int(hits) == 3
    whole, killed = home / "whole", home / "killed"
    assert metrics(whole) == metrics(killed)
    for name in ("model.safetensors", "rollouts.jsonl", "alarms.json"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()


@pytest.mark.slow
def test_two_ranks_take_the_steps_of_one_process(home, started):
    """FSDP2, or tensor parallelism, over gloo: each rank rolls out its share with whole weights."""
    started("ranks", ranks=2)
    runpy.run_path(str(HERE / "grpo_runs.py"))["run"](home, "whole")
    for ranks in ("ranks", "tensor"):
        one, two = metrics(home / "whole"), metrics(home / ranks)
        for name in ("loss", "reward", "grad_norm", "kl", "groups", "answer_tokens"):
            assert [row[name] for row in two] == pytest.approx(
                [row[name] for row in one], rel=1e-3, abs=1e-5
            )
        rows = [files.read_jsonl(home / out / "rollouts.jsonl") for out in ("whole", ranks)]
        said = [[(row["prompt"], row["answer"]) for row in some] for some in rows]
        assert said[0] == said[1]


def test_off_policy_steps_measure_their_ratio_and_correct_for_the_sampler(home):
    stages.run(recipe(home, steps=4, prompts_per_step=3, steps_per_rollout=2, optim={"lr": 1e-2}))
    ratios = [row["ratio"] for row in metrics(home / "out")]
    assert ratios[::2] == pytest.approx([1, 1])
    assert all(abs(ratio - 1) > 1e-4 for ratio in ratios[1::2])


def test_the_order_is_measured_anew_when_asked(home):
    stages.run(recipe(home, steps=4, samples_per_prompt=4, order={"refresh": 2}))
    names = sorted(path.name for path in (home / "out/order").iterdir())
    assert names == ["step-00000000.jsonl", "step-00000002.jsonl"]


def test_a_measurement_that_leaves_too_few_prompts_is_named(home, monkeypatch):
    found = order.variances

    def shrinking(path, least):
        return {0: 0.25} if path == order.path_of(path.parent, 1) else found(path, least)

    monkeypatch.setattr(order, "variances", shrinking)
    knobs = {"max_tokens": 4, "samples_per_prompt": 2, "order": {"refresh": 1}}
    with pytest.raises(UserError, match=r"takes 6 prompts .* there are 1 with a variance"):
        stages.run(recipe(home, steps=2, **knobs))


@pytest.mark.parametrize("algorithm", ["dr_grpo", "dapo", "gspo", "cispo"])
def test_every_algorithm_takes_its_steps(home, algorithm):
    stages.run(recipe(home, steps=2, algorithm=algorithm, order={"by_variance": False}))
    assert all(row["grad_norm"] > 0 for row in metrics(home / "out"))


def test_a_clip_from_below_leaves_an_algorithms_higher_one_from_above(home):
    clips = [recipe(home, algorithm=name, eps=0.1).config.clip for name in ("grpo", "dapo")]
    assert [(clip.low, clip.high) for clip in clips] == [(0.1, 0.1), (0.1, 0.28)]
    assert recipe(home, algorithm="dapo", eps_high=0.3).config.clip.high == 0.3


def test_a_verifier_that_is_unknown_stops_the_run_before_it_starts(home):
    path = home / "prompts.jsonl"
    path.write_text(path.read_text().replace('"instruction"', '"instructon"', 1))
    with pytest.raises(UserError, match="row 1 names the verifier 'instructon'"):
        stages.check([recipe(home)])
    with pytest.raises(UserError, match="row 1 names the verifier 'instructon'"):
        stages.run(recipe(home))


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"max_tokens": 590}, r"row 1 has \d+ tokens"),
        ({"prompts_per_step": 40}, "takes 40 prompts .* there are 12"),
        ({"order": {"least": 0.9}}, "leaves no prompt"),
    ],
)
def test_what_cannot_be_rolled_out_is_named(home, knobs, told):
    with pytest.raises(UserError, match=told):
        stages.run(recipe(home, steps=1, **knobs))


def test_a_reward_model_of_another_tokenizer_is_refused(home):
    tokenizer = bpe.train(["something else"] * 4, vocab_size=260)
    tokenizer.save(home / "reward")
    with pytest.raises(UserError, match=r"reward\.model = .* has another tokenizer than start"):
        stages.run(recipe(home, steps=1, reward={"by": "model", "model": str(home / "reward")}))


def test_where_no_answer_can_be_judged_the_step_is_an_error_that_says_so(home):
    path = home / "prompts.jsonl"
    path.write_text(path.read_text().replace("word_count", "word_cont"))
    with pytest.raises(UserError, match=r"step 1: .* 0 have answers .*verdicts: error"):
        stages.run(recipe(home, steps=1, order={"by_variance": False}))


def test_a_plan_says_how_many_answers_there_will_be(home):
    told = grpo.plan(recipe(home, epochs=2).config)
    assert told["steps"] == 4
    assert told["answers"] == 4 * 6 * 8
    assert told["prompts"] == 12
    assert "reference" in told["memory"] and "keys and values" in told["memory"]
    assert told["answers for the order"].startswith(f"{12 * 8}, before the first step: not in")
    known = recipe(home, order={"by_variance": False}).config
    assert "answers for the order" not in grpo.plan(known)


def test_a_plan_of_a_cluster_has_rollouts_and_lines_that_the_stage_takes(home, capsys):
    paths = [f'{name} = "{home}/{path}"' for name, path in PATHS.items()]
    knobs = [f"{name} = {value}" for name, value in KNOBS.items()]
    (home / "grpo.toml").write_text("\n".join(['stage = "grpo"', *paths, *knobs]))
    recipes = str(home / "grpo.toml")
    assert cli.main(["plan", recipes, "--gpus", "4", "--gpu", "h100"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"a step of the first, .* rollout.* reference", told)
    assert "sampler's weights" in told
    lines = tomllib.loads(told.partition("for the recipe:\n")[2])
    assert lines["micro_tokens"] >= 600 // 8
    given = KNOBS | {name: home / path for name, path in PATHS.items()} | lines
    assert grpo.Config(**given).parallel.replicate
    assert cli.main(["plan", recipes, "optim.muon=true", "--gpus", "4", "--gpu", "h100"]) == 2
    assert "whole matrices" in capsys.readouterr().err
