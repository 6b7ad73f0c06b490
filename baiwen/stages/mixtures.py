"""Proxy runs: which mixture of the sources teaches a small model best (spec 3.1, 3.2).

    stage = "mixtures"
    out = "runs/mine/mixtures"
    shards = "runs/mine/shards"
    tokenizer = "runs/mine/tokenizer"
    heldout = "runs/mine/data/heldout.jsonl.zst"
    tokens = 1_000_000           # of each run

    [mixtures.as_it_is]          # no weights: by size
    [mixtures.more_code]
    weights = { code = 0.5 }     # as `mixture` of the stage pretrain

Trains a fresh small model on each mixture with each seed, by the loop of pre-training, and measures
bits per byte of the held-out documents of every domain. A seed means the same weights and the same
order of each source's rows in every mixture, so mixtures are compared seed by seed. Writes

    runs/NAME-SEED.json     the bits per byte of a run
    mixtures.json           the table, and the best by the weighted mean over domains

A run that is finished is not done again; the one that was interrupted goes on in `state/`.
"""

import math
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import fmean, stdev
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator

from baiwen import dist, files, log
from baiwen.config import Count, Input, Knobs
from baiwen.data import mixture, read, shards
from baiwen.data.loader import Loader, Split
from baiwen.data.mixture import Mixture
from baiwen.data.writers import source_name
from baiwen.dist import World
from baiwen.errors import UserError
from baiwen.eval import compression
from baiwen.mistakes import nearest
from baiwen.model import weights
from baiwen.model.config import ModelConfig
from baiwen.model.sizes import SIZES, fitted
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.train import estimate
from baiwen.train.loop import Loop
from baiwen.train.optim import Optim
from baiwen.train.parallel import Parallel, session
from baiwen.train.proxy import taught
from baiwen.train.publish import publish
from baiwen.train.schedule import Schedule
from baiwen.train.work import Work

Weight = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^\w[\w.+]*$")]  # part of a file's name
Result = dict[str, Any]  # of a run, as in its file


class Config(Knobs):
    """What to compare, on what, by how large a run."""

    every_rank: ClassVar[bool] = True

    out: Path  # the run folder
    shards: Input  # folder of a shards stage: one source a subfolder
    tokenizer: Input  # the one that the shards were written with
    heldout: Input  # documents, heldout.jsonl.zst of `data`
    mixtures: Annotated[dict[Name, Mixture], Field(min_length=1)]  # by the name in the table
    # Weights of the domains in the mean that is compared, the others 1; not reported.
    importance: dict[str, Weight] | None = None
    # Of the models: baiwen/model/sizes.py. Report: scaled-down ones (Qwen2); Math: 1.5B; Coder: 7B.
    size: str = "tiny"
    tokens: Count = 1_000_000  # of each run; not reported
    runs: Count = 2  # of each mixture, each with a seed of its own
    characters: Count = 200_000  # of each domain's held-out documents, to the next whole one
    sequence_length: Count = 256  # tokens of a row
    tokens_per_step: Count = 4096  # over all ranks
    micro_tokens: Count = 4096  # that one rank computes at once
    optim: Optim = Optim(lr=1e-3)
    schedule: Schedule = Schedule()
    loop: Loop = Loop()
    parallel: Parallel = Parallel()
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # of matmuls; the weights train in fp32
    threads: Count | None = None  # of the CPU; none: torch's choice
    seed: int = 0  # of the first run; the next one's is one higher

    @property
    def save_dtype(self) -> Literal["float32"]:
        """A model is written only to be measured."""
        return "float32"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.size not in SIZES:
            hint = nearest(self.size, list(SIZES))
            raise ValueError(f"size: {self.size!r} is none of {', '.join(SIZES)}.{hint}")
        if self.loop.keep_best:
            raise ValueError("loop.keep_best: each run is measured once, at its end")
        Split(self.sequence_length, self.tokens_per_step, self.micro_tokens)  # on any ranks
        return self


def run(config: Config, folder: files.RunFolder) -> None:
    """Train and measure what is not finished, then compare."""
    tokenizer = Tokenizer.load(config.tokenizer)
    documents = _documents(config)
    _check(config, sorted({document.source for document in documents}))
    seeds = range(config.seed, config.seed + config.runs)
    runs = [(name, seed) for seed in seeds for name in config.mixtures]
    shape = fitted(_shape(config), len(tokenizer))
    with session(config, shape) as world:
        for name, seed in runs:
            path = folder.path / "runs" / f"{name}-{seed}.json"
            home = folder.path / "state" / f"{name}-{seed}"
            if path.is_file():
                continue
            if world.main:
                log.say(f"mixture {name}, seed {seed}")
            _train(config, config.mixtures[name], seed, shape, tokenizer, world, home)
            if world.main:
                model = weights.load(home, dtype=torch.float32).to(world.device)
                found = compression.measure(model, tokenizer, documents)["sources"]
                files.write_json(path, {"mixture": name, "seed": seed, "domains": found})
                shutil.rmtree(home)
            dist.barrier(world)
        if world.main:
            paths = [folder.path / "runs" / f"{name}-{seed}.json" for name, seed in runs]
            table = compare([files.read_json(path) for path in paths], config.importance or {})
            for name, row in table["mixtures"].items():
                row["weights"] = config.mixtures[name].weights
            files.write_json(folder.path / "mixtures.json", table)
            _tell(table)


def plan(config: Config) -> dict[str, str | int]:
    """What all runs together would take on this machine."""
    return {"runs": _runs(config)} | estimate.figures(work(config), config)


def work(config: Config, shape: ModelConfig | None = None) -> Work:
    """What is to be trained in all runs together, of another shape if one is given."""
    return Work(
        shape or _shape(config),
        config.sequence_length,
        config.tokens_per_step,
        _runs(config) * config.tokens,
        merging=config.optim.merging.itemsize,
        alone=config.optim.alone,
        context=False,
    )


def _runs(config: Config) -> int:
    return len(config.mixtures) * config.runs


def compare(runs: Sequence[Result], importance: Mapping[str, float]) -> dict[str, Any]:
    """The table of all runs.

        {"best": NAME, "importance": {DOMAIN: weight}, "mixtures": {NAME: {
            "mean": {"bits_per_byte", "spread", "runs"}, "domains": {DOMAIN: {the same}},
            "behind": {"bits_per_byte", "standard_error"}}}}

    `spread` is the standard deviation over seeds, `behind` the mean lead of the best over the seeds
    that both have; with one seed there is neither (null).
    """
    domains = sorted(runs[0]["domains"])
    weight = {domain: importance.get(domain, 1.0) for domain in domains}
    bits: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)
    for one in runs:
        own = {domain: one["domains"][domain]["bits_per_byte"] for domain in domains}
        mean = sum(weight[domain] * own[domain] for domain in domains) / sum(weight.values())
        bits[one["mixture"]][one["seed"]] = own | {"": mean}
    best = min(bits, key=lambda name: fmean(found[""] for found in bits[name].values()))
    rows = {}
    for name, seeds in bits.items():
        behind = [found[""] - bits[best][seed][""] for seed, found in seeds.items()]
        over = {key: _spread([found[key] for found in seeds.values()]) for key in ["", *domains]}
        rows[name] = {
            "mean": over.pop(""),
            "domains": over,
            "behind": {
                "bits_per_byte": fmean(behind),
                "standard_error": stdev(behind) / math.sqrt(len(behind)) if behind[1:] else None,
            },
        }
    return {"best": best, "importance": weight, "mixtures": rows}


def _train(
    config: Config,
    sources: Mixture,
    seed: int,
    shape: ModelConfig,
    tokenizer: Tokenizer,
    world: World,
    home: Path,
) -> None:
    """A fresh model, taught on a mixture of the sources: an HF folder at `home`."""
    length = config.sequence_length
    pools = mixture.pools(config.shards, tokenizer.fingerprint, length, sources)
    loader = Loader(pools, Split.of(config, world), seed)
    model = taught(
        shape,
        loader.step,
        config,
        config,
        world,
        home,
        steps=math.ceil(config.tokens / config.tokens_per_step),
        seed=seed,
        length=length,
    )
    publish(model, tokenizer, home, world, dtype=torch.float32, chat=False)


def _shape(config: Config) -> ModelConfig:
    return replace(SIZES[config.size], max_position_embeddings=config.sequence_length)


def _documents(config: Config) -> list[compression.Document]:
    """The held-out documents of each domain, in an order of their own, as far as they are used."""
    found = sorted(read.documents(read.find([config.heldout])), key=lambda one: one.id)
    Random(0).shuffle(found)
    chosen: list[compression.Document] = []
    room: dict[str, int] = defaultdict(lambda: config.characters)
    for document in found:
        domain = source_name(document.domain)
        if document.text and room[domain] > 0:
            room[domain] -= len(document.text)
            chosen.append(compression.Document(document.text, domain))
    if not chosen:
        raise UserError(f"heldout = {config.heldout} holds no document")
    return chosen


def _spread(values: Sequence[float]) -> dict[str, float | int | None]:
    spread = stdev(values) if len(values) > 1 else None
    return {"bits_per_byte": fmean(values), "spread": spread, "runs": len(values)}


def _check(config: Config, domains: Sequence[str]) -> None:
    """Stop before the first run, unless all weights are of what there is."""
    for name, sources in config.mixtures.items():
        try:
            mixture.used(shards.names(config.shards), sources)
        except UserError as error:
            raise UserError(f"mixtures.{name}: {error}") from error
    importance = config.importance or {}
    for domain in importance:
        if domain not in domains:
            raise UserError(
                f"importance: no held-out document is of {domain!r}.{nearest(domain, domains)} "
                f"There are {', '.join(domains)}."
            )
    if not any(importance.get(domain, 1.0) for domain in domains):
        raise UserError("importance: all weights are 0, so there is nothing to compare by")


def _tell(table: Mapping[str, Any]) -> None:
    for name, row in sorted(
        table["mixtures"].items(), key=lambda item: float(item[1]["behind"]["bits_per_byte"])
    ):
        mean, spread = row["mean"]["bits_per_byte"], row["mean"]["spread"]
        domains = ", ".join(f"{d} {v['bits_per_byte']:.3f}" for d, v in row["domains"].items())
        told = "" if spread is None else f" +- {spread:.3f} over {row['mean']['runs']} seeds"
        log.say(f"{name}: {mean:.3f} bits per byte{told} ({domains})")
