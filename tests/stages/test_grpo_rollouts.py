"""GRPO with tools, with workers, and with rollouts ahead of training: as a user runs it."""

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import baiwen
from baiwen import config, files, stages
from baiwen.engine.engine import Engine
from baiwen.errors import UserError
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.rl import workers
from baiwen.rl.episodes import Episodes
from baiwen.rl.rollout import Local
from baiwen.stages import grpo
from baiwen.tokenizer import bpe
from baiwen.tokenizer.tokenizer import Tokenizer

TOLD = "<|im_end|>\n<|im_start|>user\n<tool_response>\n"
HERE = Path(__file__).parent
TIMING = {"seconds", "tokens_per_second", "mfu", "memory"}
KNOBS = {
    "steps": 6,
    "prompts_per_step": 3,
    "samples_per_prompt": 4,
    "max_tokens": 60,
    "micro_tokens": 600,
    "threads": 1,
    "dtype": "float32",
    "save_dtype": "float32",
    "zero_variance": "keep",
    "order": {"by_variance": False},
    "optim": {"lr": 1e-3},
    "loop": {"save_every": 2},
}


def asked(number):
    return [{"role": "system", "content": "s"}, {"role": "user", "content": f"{number}?"}]


def transcript(number):
    call = {"name": "next", "arguments": {"n": number}}
    return [
        *asked(number),
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": f"{number + 1}"},
        {"role": "assistant", "content": f"{number + 1}"},
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A model that has learned, more or less, to ask a tool what follows a number."""
    folder = tmp_path_factory.mktemp("rollouts")
    texts = ['{"name": "next", "arguments": {"n": 3}}', "<tool_response>\n4\n</tool_response>"]
    tokenizer = bpe.train(texts * 4, vocab_size=280)
    shape = replace(
        SIZES["tiny"],
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        vocab_size=336,
        bos_token_id=tokenizer.end_of_text,
        eos_token_id=tokenizer.end_of_turn,
    )
    model = Transformer(shape)
    model.init_weights(seed=0)
    taught(model, [tokenizer.render(transcript(number)) for number in range(6)])
    baiwen.save(model, tokenizer, folder / "start")
    rows = [
        {
            "prompt": asked(number),
            "answer": f"{number + 1}",
            "verifier": "exact",
            "responses": [{"name": "next", "arguments": {"n": number}, "content": f"{number + 1}"}],
        }
        for number in range(6)
    ]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def taught(model, shown):
    """What the assistant says, learned by heart, though not quite."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        for one in shown:
            ids, mask = torch.tensor([one.ids]), torch.tensor(one.mask[1:]).bool()
            logits = model.logits(ids)[0, :-1]
            loss = torch.nn.functional.cross_entropy(logits[mask], ids[0, 1:][mask])
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def run(home, out, **knobs):
    paths = {"out": home / out, "start": home / "start", "prompts": home / "prompts.jsonl"}
    parsed = config.parse({**KNOBS, **paths, **knobs}, grpo.Config, "a test")
    stages.run(stages.Recipe(Path("grpo.toml"), "grpo", "grpo", parsed))


def metrics(out):
    rows = files.read_jsonl(out / "metrics.jsonl")
    return [{name: row[name] for name in row if name not in TIMING} for row in rows]


def same(one, other):
    for name in ("model.safetensors", "rollouts.jsonl", "alarms.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_an_answer_asks_a_tool_and_is_judged_by_its_last_turn(home):
    run(home, "tools", tools={"turns": 2}, steps=2)
    rows = list(files.read_jsonl(home / "tools/rollouts.jsonl"))
    two = [row for row in rows if row["turns"] == 2]
    assert len(two) > len(rows) / 4
    for row in two:
        first, given, last = row["said"].partition(TOLD)
        assert "<tool_call>" in first
        assert given
        assert last.partition("assistant\n")[2].startswith(row["answer"])
    assert any(row["verdict"] == "right" for row in two)
    assert all("said" not in row for row in rows if row["turns"] == 1)
    assert all(1 < row["turns"] <= 2 for row in metrics(home / "tools"))
    assert all(row["mismatch"] < 1e-4 for row in metrics(home / "tools"))


@pytest.mark.slow
def test_with_tools_a_run_killed_within_a_turn_ends_in_the_same_bits(home, forks):
    (home / "knobs.json").write_text(json.dumps({**KNOBS, "tools": {"turns": 2}, "steps": 3}))
    done = forks.run(HERE / "grpo_runs.py", home, "killed-1", "50", "9")
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) == 2
    assert max(row["turns"] for row in files.read_jsonl(home / "whole/rollouts.jsonl")) == 2
    same(home / "whole", home / "killed")


def total(model):
    return sum(float(parameter.detach().sum()) for parameter in model.parameters())


@pytest.fixture
def copied(monkeypatch):
    """Workers that are one engine here, with weights of its own; the sums of all that it got."""
    got = []

    class Copy(Local):
        def update_weights(self, weights):
            super().update_weights(weights)
            got.append(total(self.engine.model))

    @contextmanager
    def cluster(_, spec):
        model = Transformer(spec.config).requires_grad_(False)
        tokenizer = Tokenizer(spec.vocabulary)
        yield Copy(Engine(model, tokenizer, cache_tokens=spec.cache_tokens, sequences=12))

    monkeypatch.setattr(workers, "cluster", cluster)
    return got


@pytest.mark.parametrize("staleness", [0, 1, 2])
def test_answers_come_from_the_weights_of_as_many_updates_before(
    home, copied, monkeypatch, staleness
):
    trained, batches = [], Episodes.batches

    def watched(episodes, step):
        trained.append(total(episodes.model))
        return batches(episodes, step)

    monkeypatch.setattr(Episodes, "batches", watched)
    out = f"stale-{staleness}"
    run(home, out, workers={"count": 1, "staleness": staleness}, max_tokens=6)
    rolled = copied[1:]  # the first are those that the order is measured with
    assert rolled == [trained[max(0, step - staleness)] for step in range(6)]
    assert len(set(trained)) == 6
    told = [row["staleness"] for row in metrics(home / out)]
    assert told == [min(step, staleness) for step in range(6)]
    far = [row["mismatch"] > 1e-4 for row in metrics(home / out)]
    assert far == [step > 0 and staleness > 0 for step in range(6)]


def test_rollouts_that_are_under_way_are_in_the_checkpoint(home, copied, monkeypatch):
    knobs = {
        "workers": {"count": 1, "staleness": 2},
        "max_tokens": 6,
        "order": {"refresh": 2, "samples": 2},
    }
    run(home, "straight", **knobs)
    told = Episodes.metrics

    def stopping(episodes, step):
        if episodes.served == 4:
            raise KeyboardInterrupt
        return told(episodes, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Episodes, "metrics", stopping)
        run(home, "stopped", **knobs)
    assert max(path.stem for path in (home / "stopped/state/order").iterdir()) > "step-00000003"
    run(home, "stopped", **knobs)
    same(home / "straight", home / "stopped")
    assert metrics(home / "straight") == metrics(home / "stopped")


@pytest.mark.slow
def test_rollouts_by_two_workers_end_in_the_bits_of_the_engine_here(home):
    pytest.importorskip("ray", reason="Ray is not installed")
    run(home, "here", steps=3, tools={"turns": 2})
    placed = {"count": 2, "cpus": 0.5, "share": 1, "store": 100 * 2**20}
    run(home, "placed", steps=3, tools={"turns": 2}, workers=placed)
    same(home / "here", home / "placed")


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"workers": {"staleness": 1}}, "staleness needs workers.count"),
        (
            {"workers": {"staleness": 1, "count": 1}, "steps_per_rollout": 2},
            "multiple of steps_per_rollout",
        ),
        ({"tools": {"python": True}}, "tools.python needs tools.turns above 1"),
    ],
)
def test_knobs_that_do_not_go_together_are_named(home, knobs, told):
    with pytest.raises(UserError, match=told):
        run(home, "none", **knobs)
