"""Direct preference optimisation: of two answers the better one (report, section 4.2).

    stage = "dpo"
    out = "runs/tiny/dpo"
    start = "runs/tiny/sft"
    data = "runs/tiny/pairs/pairs.jsonl"
    epochs = 1                   # report: 1
    [optim.merging]
    method = "dare"              # report: the online merging optimizer, in a form it does not name
    base = "runs/tiny/extend"

The start model is the reference: what it thinks of every answer is computed first and kept on disk.
A prompt is computed once for its two answers. Writes an HF folder of a chat model with
`metrics.jsonl`, `pairs.json`, `device.json` and, unless they lie elsewhere, `references/`.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator

from baiwen import files
from baiwen.config import Count, Input, Knobs
from baiwen.data import pairs, trees
from baiwen.data.pairs import Limits, Pairs
from baiwen.data.tree import Tree
from baiwen.data.trees import TreeBatch
from baiwen.dist import World
from baiwen.engine import pretrained
from baiwen.model import count, weights
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.train import estimate
from baiwen.train.loop import Loop, Objective, train
from baiwen.train.merging import check_base
from baiwen.train.optim import Optim
from baiwen.train.parallel import Parallel, session, shard
from baiwen.train.preference import Variant, dpo
from baiwen.train.publish import publish
from baiwen.train.references import Part, reference_logprobs
from baiwen.train.schedule import Schedule
from baiwen.train.work import Other, Work, needed, on_trees

PART = 256  # pairs whose reference log-probabilities are one file


class Config(Knobs):
    """Which model learns which of two answers is better."""

    every_rank: ClassVar[bool] = True

    out: Path  # the run folder
    start: Input  # the model to align, which is the reference too: an HF folder with its tokenizer
    data: Input  # pairs (JSONL: prompt, chosen, rejected, tools); report: about 150,000
    heldout: Input | None = None  # pairs that are measured every loop.eval_every steps
    references: Path | None = None  # where reference log-probabilities are kept; none: in `out`
    epochs: Annotated[float, Field(gt=0)] = 1  # report: 1
    pairs_per_step: Count = 128  # over all ranks; not reported; merging paper: 128
    micro_tokens: Count = 32_768  # that one rank computes at once: at least the longest pair
    too_long: pairs.TooLong = "error"  # pairs longer than context or micro_tokens: error, drop
    loss: Variant = "sigmoid"  # sigmoid (DPO), ipo; not reported
    beta: Annotated[float, Field(gt=0)] = 0.1  # price of leaving the reference; not reported
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0  # share of labels taken for wrong
    normalise: bool = False  # log-ratios as means over an answer's tokens, not sums; not reported
    nll: Annotated[float, Field(ge=0)] = 0.0  # weight of the chosen answers' own loss; not reported
    optim: Optim = Optim(lr=7e-7, weight_decay=0.0)  # report: 7e-7, online merging
    schedule: Schedule = Schedule(warmup=0.1)  # not reported; merging paper: cosine, 100 steps
    loop: Loop = Loop()
    parallel: Parallel = Parallel()
    seed: int = 0  # of the order of pairs
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # of matmuls; the weights train in fp32
    threads: Count | None = None  # of the CPU; none: torch's choice
    workers: Count = 1  # processes that render pairs
    save_dtype: Literal["bfloat16", "float32"] = "bfloat16"  # of the written weights

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.loop.keep_best and self.heldout is None:
            raise ValueError("loop.keep_best needs heldout, whose loss says which is the best")
        if self.label_smoothing and self.loss != "sigmoid":
            raise ValueError("label_smoothing is a knob of the sigmoid loss; set it to 0 for ipo")
        return self


def run(config: Config, folder: files.RunFolder) -> None:
    """Align the model and write it."""
    with session(config, weights.read_config(config.start)) as world:
        tokenizer = Tokenizer.load(config.start)
        model = weights.load(config.start, dtype=torch.float32)
        pretrained.check(model.config, tokenizer, f"start = {config.start}")
        if config.optim.merging.base is not None:
            check_base(model, config.optim.merging.base)
        paths = [path for path in (config.data, config.heldout) if path is not None]
        found = [_read(config, path, model.config.max_position_embeddings) for path in paths]
        if world.main:
            files.write_json(folder.path / "pairs.json", describe(found[0]))
        model = shard(model, config.parallel, world)
        learned, *heldout = (_referenced(some, model, config, folder.path, world) for some in found)
        loader = trees.Loader(
            learned,
            config.pairs_per_step,
            config.micro_tokens,
            seed=config.seed,
            rank=world.share,
            ranks=world.shares,
        )
        best = train(
            model,
            loader.step,
            _objective(config),
            steps=loader.steps(config.epochs),
            optim=config.optim,
            schedule=config.schedule,
            loop=config.loop,
            world=world,
            out=folder.path,
            heldout=[batch for some in heldout for batch in _batches(some, config, world)],
            flops_per_token=count.flops_per_token(model.config, _mean(learned)),
        )
        dtype = getattr(torch, config.save_dtype)
        publish(model, tokenizer, folder.path, world, dtype=dtype, chat=True, best=best)


def work(config: Config, shape: ModelConfig | None = None) -> Work:
    """What is to be trained, of another shape if one is given."""
    needed(start=config.start, data=config.data)
    own = weights.read_config(config.start)
    found = _read(config, config.data, own.max_position_embeddings)
    shape, every = shape or own, found.tokens.tolist()
    # Of every pair a forward pass is the reference's, before the first step.
    before = Other("reference", shape, passes=1 / config.epochs, held="no")
    return replace(
        on_trees(shape, _mean(found), every, config.pairs_per_step, config.epochs, "pairs"),
        others=(before,),
        merging=config.optim.merging.itemsize,
        alone=config.optim.alone,
    )


def plan(config: Config) -> dict[str, str | int]:
    """What a run would take on this machine."""
    return estimate.figures(work(config), config)


def describe(found: Pairs) -> dict[str, Any]:
    """What is learned from, as plain values: for the log and the report."""
    prompt, chosen, rejected = found.lengths.mean(0).tolist()
    return {
        "pairs": len(found),
        "tokens": int(found.tokens.sum()),
        "mean_tokens": {"prompt": prompt, "chosen": chosen, "rejected": rejected},
        "kinds": dict(Counter(found.kinds).most_common()),
        "sources": dict(Counter(found.sources).most_common()),
    }


def _objective(config: Config) -> Objective:
    return partial(
        dpo,
        beta=config.beta,
        variant=config.loss,
        label_smoothing=config.label_smoothing,
        normalise=config.normalise,
        nll=config.nll,
    )


def _read(config: Config, path: Path, context: int) -> Pairs:
    limits = Limits(context, config.micro_tokens, config.too_long)
    return pairs.read(path, config.start, limits, config.workers)


def _referenced(found: Pairs, model: Transformer, config: Config, out: Path, world: World) -> Pairs:
    """The pairs with what the reference says of both answers."""
    ends = [min(first + PART, len(found)) for first in range(0, len(found), PART)]
    parts = [
        Part(
            found.fingerprint(first, last),
            2 * (last - first),
            partial(_numbered, found, first, last, config, world),
        )
        for first, last in pairwise([0, *ends])
    ]
    folder = config.references or out / "references"
    logprobs = reference_logprobs(model, parts, folder, world)
    return found.with_values(ref_logprobs=logprobs.view(-1, 2).numpy())


def _numbered(found: Pairs, first: int, last: int, config: Config, world: World) -> list[TreeBatch]:
    """This rank's share of some pairs, whose answers know their places among these."""
    some = (found[pair] for pair in range(first, last))
    placed = (replace(tree, values={"place": [2 * i, 2 * i + 1]}) for i, tree in enumerate(some))
    return _batches(placed, config, world)


def _batches(some: Iterable[Tree], config: Config, world: World) -> list[TreeBatch]:
    """This rank's share of pairs that are only measured."""
    return trees.batches(
        list(some), config.micro_tokens, count="trees", rank=world.share, ranks=world.shares
    )


def _mean(found: Pairs) -> int:
    """Tokens of a pair: what a query may see of them is about half, as in a row."""
    return math.ceil(found.tokens.mean())
