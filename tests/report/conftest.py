"""A run's folders, small and made by hand, with text that would like to get out of its cell."""

import json
import math

import pytest

HOSTILE = (
    '<script>alert("1")</script>\'"&amp; | `code` ```` [x](javascript:a) **b** $\\alpha$ '
    "\x00\x1b\x7f"
)


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = value if isinstance(value, list) else [value]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def accuracy(right, n):
    verdicts = {"right": right, "wrong": n - right - 1, "undecided": 1, "error": 0, "timeout": 0}
    score = {"accuracy": right / n, "n": n, "standard_error": 0.1}
    return score | {"low": max(0, right / n - 0.1), "high": right / n + 0.1, "verdicts": verdicts}


def bits(value):
    figures = {"documents": 3, "bytes": 3000, "tokens": 900, "gzip": 3, "xz": 2.5}
    interval = {"standard_error": 0.1, "low": value - 0.2, "high": value + 0.2}
    return figures | {"bits_per_byte": value} | interval


def long(published):
    """A model's entry of the long-context suite: a grid of two depths, one task of RULER."""

    def marks(value):
        mark = {"value": value, "n": 4, "standard_error": 0.1, "low": value / 2, "high": 1.0}
        return {"official": {**mark, "value": 1.0}, "strict": mark}

    grid = {
        length: marks(value) | {"depths": {"0.00": marks(value), "1.00": marks(1.0)}}
        for length, value in (("4096", 0.75), ("131072", 0.25))
    }
    ruler = {"all": marks(0.5), "lengths": {"4096": marks(0.5), "131072": marks(0.125)}}
    tasks = {"passkey": {"all": marks(0.5), "lengths": grid}, "vt": ruler, "ruler": ruler}
    entry = {"form": "chat", "forms": {"chat": tasks}, "tasks": tasks, "haystack": HOSTILE}
    entry |= {"extension": f"4,096 tokens {HOSTILE}", "left_out": {"qa_1": HOSTILE}}
    entry["sparsity"] = {"131072": {"density": 0.125, "recall": 0.97, "lowest_recall": 0.5}}
    known = {"model": "Qwen2.5-7B-Instruct", "ruler": {"4096": 0.967}}
    return entry | {"published": known if published else None}


def aligned(folder):
    """What pairs, dpo, reward and grpo leave behind."""
    kind = {"prompts": 30, "right": 0.25, "prompts with pairs": 20, "pairs": 40}
    length = {"chosen": 17.0, "rejected": 16.0, "chosen longer": 0.3, "chosen shorter": 0.2}
    write(
        folder / "pairs/pairs.json",
        {"prompts": 30, "prompts with pairs": 20, "pairs": 40, "kinds": {HOSTILE: kind}}
        | {"without": {"all right": 4, HOSTILE: 6}, "length": length}
        | {"answers": {"right": 60, "wrong": 178, "undecided": 2}},
    )
    step = {"loss": 0.6, "lr": 1e-4, "tokens": 4000, "margin": 0.2, "accuracy": 0.75}
    rows = [{"step": n, "reward_chosen": 0.1 * n, "reward_rejected": -0.1} for n in range(1, 9)]
    write(folder / "dpo/metrics.jsonl", [step | row for row in rows])
    estimate = {"value": 0.75, "n": 40, "low": 0.6, "high": 0.9}
    margin = {"mean": 0.9, "deviation": 1.2, "p5": -1, "p25": 0, "p50": 1, "p75": 2, "p95": 3}
    bins = [{"predicted": 0.5 + n / 20, "observed": 0.5, "n": 1 + n} for n in range(5)]
    write(
        folder / "reward/scores.json",
        {"accuracy": estimate, "by_kind": {HOSTILE: estimate}, "by_source": {"sums": estimate}}
        | {"longer": estimate, "best": {"chosen": estimate, "drawn": estimate}, "pairs": 80}
        | {"margin": margin, "calibration": {"error": 0.04, "bins": bins}},
    )
    step = {"loss": 0.0, "lr": 1e-4, "entropy": 0.3, "kl": None, "zero_variance": 0.25}
    rows = [{"step": n, "reward": n / 10, "answer_tokens": 17.0} for n in range(1, 6)]
    write(folder / "grpo/metrics.jsonl", [step | row for row in rows])
    answer = {"kind": HOSTILE, "asked": HOSTILE, "answer": HOSTILE, "truth": "7", "score": 0.5}
    groups = [  # of the first step nothing can be learned from the first prompt
        answer
        | {"step": n, "prompt": prompt, "reward": reward, "advantage": reward - 0.5}
        | {"verdict": "right" if reward else "wrong"}
        for n in (1, 5)
        for prompt in (0, 1)
        for reward in ((0.0, 0.0) if n == 1 and prompt == 0 else (0.0, 1.0) * 4)
    ]
    write(folder / "grpo/rollouts.jsonl", groups)
    alarm = {"first": 2, "last": 4, "steps": 3, "value": 0.9, "bound": 0.8}
    endless = {"first": 5, "last": 1005, "steps": 2, "value": None, "bound": 0.5}
    write(folder / "grpo/alarms.json", {HOSTILE: alarm, "kl": endless})


@pytest.fixture(scope="session")
def hostile():
    return HOSTILE


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Folders by name, of every stage that the report shows."""
    tmp_path = tmp_path_factory.mktemp("runs")
    kinds = {"all": accuracy(5, 20), "sums": accuracy(2, 10), HOSTILE: accuracy(3, 10)}
    model = {"form": "chat", "tasks": kinds, "forms": {"chat": kinds}}
    model["compression"] = {"all": bits(1.9), "sources": {"code": bits(1.5), HOSTILE: bits(2.2)}}
    gain = {"value": 0.5, "n": 20, "standard_error": 0.1, "low": 0.3, "high": 0.7, "p": 1e-9}
    differences = {f"sft - {HOSTILE}": {"all": gain, "sums": gain, HOSTILE: gain}}
    models = {HOSTILE: model | {"long": long(True)}, "sft": model | {"long": long(False)}}
    write(tmp_path / "evaluate/scores.json", {"models": models, "differences": differences})
    samples = [
        {"kind": kind, "verdict": verdict, "asked": HOSTILE, "answer": f"{HOSTILE}{n}"}
        | {"prompt": f"<|im_start|>{HOSTILE}", "truth": {"a": HOSTILE}}
        for kind in ("sums", HOSTILE)
        for verdict in ("right", "wrong", "undecided")
        for n in range(2)
    ]
    write(tmp_path / "evaluate/samples-sft-chat.jsonl", samples)
    rows = [
        {"step": n, "loss": 8 / math.sqrt(n), "lr": 1e-3 / n, "tokens": 4096, "mfu": 0.3}
        | {"tokens_per_second": 9000.0, "memory": 2**30, "skipped": 0, "grad_norm": None}
        | ({"heldout_loss": 8.1 / math.sqrt(n)} if n % 10 == 0 else {})
        for n in range(1, 41)
    ]
    rows[7]["loss"] = None  # a step whose loss was not finite
    for name in ("pretrain", "sft"):
        write(tmp_path / name / "metrics.jsonl", rows)
    write(tmp_path / "data/data.json", {"kept": {"code": {"documents": 1032, "bytes": 3_500_000}}})
    write(tmp_path / "shards/code/index.json", {"documents": 9, "tokens": 100, "bytes": 330})
    write(tmp_path / "instruct/instruct.json", {"kinds": {"sums": {"train": 90, "heldout": 10}}})
    aligned(tmp_path)
    stages = ("data", "shards", "instruct", "pretrain", "sft", "pairs", "dpo", "reward", "grpo")
    for name in (*stages, "evaluate"):
        write(tmp_path / name / "recipe.json", {"stage": name, "note": HOSTILE})
        record = {"command": f"baiwen run {HOSTILE}", "versions": {"torch": "2"}, "seconds": 61.0}
        record |= {"host": {"cpu": HOSTILE, "cores": 2}, "started": "2026-01-01T00:00:00+00:00"}
        write(tmp_path / name / "run.json", record)
    return {path.name: path for path in sorted(tmp_path.iterdir())}
