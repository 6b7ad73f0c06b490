"""A run small enough to repeat many times: in a test, in a forked child, or under torchrun.

python tests/train/tiny.py OUT steps=40 model=moe
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np

from baiwen import dist, files
from baiwen.data.loader import Loader, Split
from baiwen.data.pack import best_fit
from baiwen.data.pool import Pool, cut
from baiwen.data.tree import Tree
from baiwen.data.trees import batches
from baiwen.model.config import ModelConfig
from baiwen.model.reward import RewardModel
from baiwen.model.transformer import Transformer
from baiwen.train.loop import Loop, train
from baiwen.train.losses import lm
from baiwen.train.merging import Merging
from baiwen.train.optim import Optim
from baiwen.train.parallel import Parallel, shard
from baiwen.train.ranking import ranking
from baiwen.train.schedule import Schedule

CONFIG = ModelConfig(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
MOE = dataclasses.replace(
    CONFIG,
    num_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=16,
    shared_expert_intermediate_size=24,
    router_aux_loss_coef=0.1,
)
LENGTH = 24  # tokens of a row


class Text:
    """Documents that count upwards from a random start, so that there is something to learn."""

    def __init__(self, documents=70, seed=0):
        rng = np.random.default_rng(seed)
        lengths = rng.integers(3, 30, documents)
        self.ends = np.cumsum(lengths)
        starts = rng.integers(0, CONFIG.vocab_size, documents)
        pairs = zip(starts, lengths, strict=True)
        self.ids = np.concatenate([s + np.arange(n) for s, n in pairs]) % CONFIG.vocab_size

    def read(self, start, stop):
        """The ids."""
        return self.ids[start:stop]

    def weights(self, start, stop):
        """Every third token counts half, some do not count."""
        return np.array([1.0, 0.5, 1.0, 0.0])[np.arange(start, stop) % 4]


def loader(world=None, rows=8, micro_rows=4, seed=0):
    """Rows of `Text`: about 5 steps an epoch."""
    text = Text()
    pieces = cut(text.ends, LENGTH)
    pool = Pool("text", text, pieces, best_fit(pieces.length, LENGTH))
    rank, ranks = (world.share, world.shares) if world else (0, 1)
    split = Split(LENGTH, rows * LENGTH, micro_rows * LENGTH, rank, ranks)
    return Loader([pool], split, seed)


def answers(world=None, prompts=7, seed=0):
    """Prompts that count upwards, with answers of which some go on and the others count down."""
    rank, ranks = (world.share, world.shares) if world else (0, 1)

    def drawn(rng):
        start, length = rng.integers(9, 80), rng.integers(2, 7)
        after, ranks = start + length, rng.permutation([1, 0, *rng.integers(0, 2, 2)])
        ways = [(after, 1) if rank else (after - 2, -1) for rank in ranks]
        runs = [[first + by * i for i in range(rng.integers(2, 6))] for first, by in ways]
        return Tree(list(range(start, after)), runs, values={"rank": ranks.tolist()})

    def step(number):
        rng = np.random.default_rng((seed, number))
        trees = [drawn(rng) for _ in range(prompts)]
        return batches(trees, 4 * LENGTH, count="trees", rank=rank, ranks=ranks)

    return step


def model(config=CONFIG, seed=0):
    """A fresh one, the same for each seed."""
    made = Transformer(config)
    made.init_weights(seed)
    return made


def run(out, **knobs):
    """Train in `out` as the one process, resuming."""
    with dist.session("cpu", "float32", threads=1) as world:
        train_in(Path(out), world, **knobs)


def train_in(
    out,
    world,
    *,
    steps=30,
    save_every=4,
    micro_rows=4,
    kind="dense",
    schedule="cosine",
    muon=False,
    merging="none",
    every=1,
):
    """Train in `out`, resuming; merging takes the checkpoint `base` beside it."""
    out.mkdir(exist_ok=True)
    made = model(MOE if kind == "moe" else CONFIG)
    steps_of = loader(world, micro_rows=micro_rows).step
    heldout = loader(world, micro_rows=micro_rows, seed=9).step(0)
    if kind == "reward":
        made, steps_of, heldout = RewardModel.on(made), answers(world), answers(world, seed=9)(0)
    base = None if merging == "none" else out.parent / "base"
    merged = Merging(method=merging, base=base, alpha=1e-3, p=0.3, every=every)
    train(
        shard(made, Parallel(), world),
        steps_of,
        ranking if kind == "reward" else lm,
        steps=steps,
        optim=Optim(lr=1e-2, muon=muon, merging=merged),
        schedule=Schedule(shape=schedule, warmup=0, final_lr=1e-4),
        loop=Loop(save_every=save_every, eval_every=6),
        world=world,
        out=out,
        heldout=heldout,
        flops_per_token=1e5,
    )


def weights(out):
    """SHA-256 of the newest checkpoint's files."""
    newest = max((Path(out) / "state").glob("step-*"))
    return files.read_json(newest / "manifest.json")["files"]


def metrics(out):
    """The lines of metrics.jsonl without what a clock or a machine says."""
    timing = {"seconds", "tokens_per_second", "mfu", "memory"}
    rows = files.read_jsonl(Path(out) / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in timing} for row in rows]


def parsed(arguments):
    """["A", "steps=4", "B"] -> [("A", {"steps": 4}), ("B", {})]."""
    runs = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals:
            runs[-1][1][name] = int(value) if value.isdigit() else value
        else:
            runs.append((argument, {}))
    return runs


if __name__ == "__main__":
    with dist.session("cpu", "float32", threads=1) as world:
        for out, knobs in parsed(sys.argv[1:]):
            train_in(Path(out), world, **knobs)
