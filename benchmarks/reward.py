"""The reward model's loss against TRL's `RewardTrainer`, on the same pairs and weights in fp32.

    python -m venv peers
    peers/bin/pip install torch==2.13.0 transformers==5.23.0 trl==1.16.0 datasets==5.2.0
    python -m benchmarks.reward --peer-python peers/bin/python

Ours computes each prompt once for its two answers, in packed rows without padding; TRL pads every
sequence. Both read the weights from one HF folder, which Baiwen writes.
"""

import argparse
import json
import os
import random
import subprocess
import tempfile
from pathlib import Path

import torch

from baiwen.data.tree import Tree
from baiwen.data.trees import batches
from baiwen.model import weights
from baiwen.model.config import ModelConfig
from baiwen.model.reward import RewardModel
from baiwen.tokenizer import control, train
from baiwen.train.ranking import ranking
from benchmarks import page
from benchmarks.sft import found_peer
from benchmarks.turns import QUIET, ROOT

EQUAL = 1e-5  # relative
CENTERS = (0.0, 0.01)  # weights of the centring
TEXT = "one two three four five six seven eight nine ten eleven twelve"


def main() -> None:
    """Compute both, print, and write the page when asked."""
    options = arguments()
    peer, versions = found_peer(options.peer_python, "reward")
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        body = compare(Path(folder), options, peer)
    page.publish("reward", "Reward model against TRL", body, options.write, {"peer:": versions})


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--peer-python", help="of an environment with trl; default: this one")
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def compare(folder: Path, options: argparse.Namespace, peer: str) -> list[str]:
    """The claims, one for each weight of the centring and each of loss and gradient."""
    model, pairs = prepare(folder, options.pairs)
    asked = {
        "folder": str(folder),
        "pairs": str(folder / "pairs.json"),
        "centers": CENTERS,
        "threads": options.threads,
    }
    command = [peer, "-m", "benchmarks.sides.trl_reward", json.dumps(asked)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **QUIET}
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    theirs = json.loads(done.stdout.splitlines()[-1])
    rows = []
    for center in CENTERS:
        for what, mine, other in zip(
            ("loss", "gradient's norm"),
            ours(model, pairs, center),
            theirs[str(center)],
            strict=True,
        ):
            apart = abs(mine / other - 1)
            name = f"{what}, center {center}: {other:.6f}"
            rows.append((name, f"<= {EQUAL}", f"{apart:.1e}", apart <= EQUAL))
    tokens = sum(tree.tokens for tree in pairs)
    padded = sum(len(tree.prompt) + len(answer) for tree in pairs for answer in tree.answers)
    return [
        f"{len(pairs)} pairs: {tokens:,} tokens in our rows, {padded:,} in single sequences",
        "",
        *page.claims(rows),
    ]


def prepare(folder: Path, count: int) -> tuple[RewardModel, list[Tree]]:
    """A random reward model in `folder`, and pairs for both sides."""
    tokenizer = train([TEXT] * 4, 280)
    model = RewardModel(
        ModelConfig(
            vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384,
            num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
            eos_token_id=tokenizer.end_of_turn, initializer_range=0.1,
        )
    )  # fmt: skip
    model.init_weights(0)
    weights.save(model.state_dict(), model.config, folder)
    tokenizer.save(folder, control.IM_END)
    rng = random.Random(0)

    def ids(least: int, most: int) -> list[int]:
        return rng.choices(range(len(tokenizer)), k=rng.randint(least, most))

    trees = [
        Tree(ids(5, 80), [ids(2, 60), ids(2, 60)], values={"rank": [1, 0]}) for _ in range(count)
    ]
    rows = [[[*tree.prompt, *answer] for answer in tree.answers] for tree in trees]
    (folder / "pairs.json").write_text(json.dumps(rows), encoding="utf-8")
    return model, trees


def ours(model: RewardModel, pairs: list[Tree], center: float) -> list[float]:
    """Loss and norm of its gradient, over several micro-batches."""
    model.zero_grad()
    total = 0.0
    for batch in batches(pairs, 2048, count="trees"):
        outputs = model(batch.tokens, positions=batch.positions, documents=batch.documents)
        mean = ranking(outputs, batch, center=center).total / len(pairs)
        mean.backward()
        total += mean.item()
    grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return [total, torch.cat(grads).norm().item()]


if __name__ == "__main__":
    main()
