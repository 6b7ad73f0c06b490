"""A step of GRPO against TRL's `GRPOTrainer`, and the values of the losses against its own.

    python -m venv peers
    peers/bin/pip install torch==2.13.0 transformers==5.23.0 trl==1.16.0 datasets==5.2.0
    python -m benchmarks.grpo --peer-python peers/bin/python

Both train the model of `train_step.py` on the same made prompts with one tokenizer, a step in turn:
groups of answers of a fixed length, rewarded by a count of letters. The losses are computed on the
same answers, weights, advantages and log-probabilities of before, off-policy, in fp32.
"""

import argparse
import json
import os
import random
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import torch

from baiwen.data.tree import Tree
from baiwen.data.trees import batches
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.tokenizer import control, train
from baiwen.train.policy import ALGORITHMS, policy
from benchmarks import page
from benchmarks.sft import SYLLABLES, found_peer
from benchmarks.sides.model import SHAPE, THETA, fill
from benchmarks.train_step import precision
from benchmarks.turns import QUIET, ROOT, Figures, Side, ratio, take_turns

OURS, THEIRS = "baiwen", "TRL"
FASTER, EQUAL = 2.5, 1e-5  # times the steps a CPU second; largest relative difference of a loss
BETA = 0.04


def main() -> None:
    """Measure, print, and write the page when asked."""
    options = arguments()
    peer, versions = found_peer(options.peer_python, "grpo")
    settings = vars(options) | {"dtype": precision(options.dtype), "lr": 1e-6}
    with tempfile.TemporaryDirectory() as folder:
        settings = prepare(Path(folder), settings)
        body = [*losses(Path(folder), settings, peer), "", *compare(settings, peer)]
    page.publish("grpo", "GRPO against TRL", body, options.write, {"of the peer:": versions})


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--peer-python", help="of an environment with trl; default: this one")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--prompts", type=int, default=4, help="of a step")
    parser.add_argument("--samples", type=int, default=8, help="answers of each")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8, help="of each side, after the first two")
    parser.add_argument("--seconds", type=float, default=240, help="after which no step is begun")
    return parser.parse_args()


def prepare(folder: Path, settings: Figures) -> Figures:
    """Write prompts and a tokenizer of theirs, and say where they are."""
    rng = random.Random(0)
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(6000)]
    asked = [" ".join(rng.choices(words, k=12)) for _ in range(64)]
    data, tokenizer = folder / "prompts.jsonl", folder / "tokenizer"
    rows = [{"prompt": [{"role": "user", "content": text}]} for text in asked]
    data.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    spoken = (" ".join(rng.choices(words, k=200)) for _ in range(400))
    train(spoken, SHAPE["vocab_size"] - len(control.NAMES)).save(tokenizer)
    return settings | {"data": str(data), "tokenizer": str(tokenizer)}


def compare(settings: Figures, peer: str) -> list[str]:
    """The two in turn."""
    with ExitStack() as stack:
        made = {
            OURS: Side("benchmarks.sides.baiwen_grpo", settings),
            THEIRS: Side("benchmarks.sides.trl_grpo", settings, peer),
        }
        sides = {name: stack.enter_context(side) for name, side in made.items()}
        rows = take_turns(sides, settings["steps"], settings["seconds"])
    head = ["side", "CPU s a step", "of it sampling", "wall s a step", "peak memory"]
    told = []
    for clock, unit in (("cpu", "CPU seconds"), ("wall", "wall")):
        faster = ratio(rows[OURS], rows[THEIRS], "sampled", clock)
        told.append(
            (f"steps against TRL, {unit}", f">= {FASTER}x", f"{faster:.2f}x", faster >= FASTER)
        )
    return [
        f"{settings['prompts']} prompts x {settings['samples']} answers x {settings['tokens']} "
        f"tokens, {settings['dtype']}, {settings['threads']} threads; {len(rows[OURS])} steps of "
        "each side in turn, medians",
        "",
        *page.table(head, [line(name, found) for name, found in rows.items()]),
        "",
        *page.claims(told),
    ]


def line(name: str, rows: list[Figures]) -> list[str]:
    """A side's line of the table."""
    return [
        name,
        *(f"{median(row[key] for row in rows):.2f}" for key in ("cpu", "sampling", "wall")),
        f"{rows[-1]['memory'] / page.GIB:.2f} GiB",
    ]


def losses(folder: Path, settings: Figures, peer: str) -> list[str]:
    """Every loss on the same answers by both."""
    answers = drawn(settings)
    given = folder / "answers.json"
    given.write_text(json.dumps(answers), encoding="utf-8")
    clips = {name: (way.clip.low, way.clip.high) for name, way in ALGORITHMS.items()}
    asked = settings | {"answers": str(given), "beta": BETA, "clips": clips}
    command = [peer, "-m", "benchmarks.sides.trl_grpo_loss", json.dumps(asked)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **QUIET}
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    theirs = json.loads(done.stdout.splitlines()[-1])
    rows = []
    for name in ALGORITHMS:
        mine = ours(answers, name, settings)
        apart = abs(mine / theirs[name] - 1)
        rows.append(
            (f"loss of {name}: {theirs[name]:.6f}", f"<= {EQUAL}", f"{apart:.1e}", apart <= EQUAL)
        )
    return page.claims(rows)


def drawn(settings: Figures) -> dict[str, list[Any]]:
    """Answers of many lengths, and log-probabilities near to those that such a model gives."""
    generator = torch.Generator().manual_seed(0)
    rng = random.Random(0)
    found: dict[str, list[Any]] = {
        name: [] for name in ("prompts", "answers", "advantages", "old", "ref")
    }
    for _ in range(settings["prompts"]):
        prompt = rng.choices(range(SHAPE["vocab_size"]), k=rng.randint(5, 40))
        for _ in range(settings["samples"]):
            answer = rng.choices(range(SHAPE["vocab_size"]), k=rng.randint(1, settings["tokens"]))
            found["prompts"].append(prompt)
            found["answers"].append(answer)
            found["advantages"].append(rng.gauss(0, 1))
            for name in ("old", "ref"):
                noise = 0.2 * torch.randn(len(answer), generator=generator)
                found[name].append((noise - 8.3).tolist())
    return found


@torch.no_grad()
def ours(given: dict[str, list[Any]], algorithm: Any, settings: Figures) -> float:
    """Our loss, a tree for each prompt."""
    model = Transformer(ModelConfig(**SHAPE, rope_theta=THETA))
    fill(model)
    size = settings["samples"]
    trees = [
        Tree(
            given["prompts"][first],
            given["answers"][first : first + size],
            values={
                "advantages": given["advantages"][first : first + size],
                "old_logprobs": given["old"][first : first + size],
                "ref_logprobs": given["ref"][first : first + size],
            },
        )
        for first in range(0, len(given["prompts"]), size)
    ]
    [batch] = batches(trees, 2**20, count=ALGORITHMS[algorithm].count)
    outputs = model(batch.tokens, positions=batch.positions, documents=batch.documents)
    loss = policy(outputs, batch, algorithm=algorithm, beta=BETA, max_tokens=settings["tokens"])
    return loss.total.item() / batch.count


if __name__ == "__main__":
    main()
