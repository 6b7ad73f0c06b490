"""Patterns: which columns and diagonals each head needs, searched and refined on your own text.

    stage = "patterns"
    out = "runs/mine/patterns"
    model = "models/Qwen2.5-7B-Instruct-1M"
    documents = ["long.jsonl.zst"]
    length = 131_072

First each head gets the candidate that holds most of its attention (MInference's search, for one
kind of pattern: spec 6.4). Then, while a head holds less than `threshold`, its columns and
diagonals grow by `increment` (the report of Qwen2.5-1M, Algorithm 1). The model reads each sample
once for the search and once for each growth. Writes

    patterns.json    a list by layer of {head: ["vertical_and_slash", vertical, slash, recall]}
    recall.json      {"recall", "lowest", "density", "below", "layers": [{"recall": [...],
                     "density": [...]}]}: means, the lowest layer's, heads below, and each head's

the first in MInference's form, for `Sparse(patterns=...)`. A run that was killed goes on with the
samples that it has not measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
from pydantic import Field, model_validator

from baiwen import dist, files, log
from baiwen.config import Count, Input, Knobs, Share
from baiwen.data import read
from baiwen.engine import pretrained, recall
from baiwen.errors import UserError
from baiwen.model import patterns, weights
from baiwen.model.patterns import Head, Patterns
from baiwen.model.transformer import Transformer
from baiwen.tokenizer.tokenizer import Tokenizer

Size = Annotated[int, Field(ge=0)]
T = TypeVar("T")


class Config(Knobs):
    """Whose patterns, on what text, and when they are good."""

    out: Path  # the run folder
    model: Input  # an HF folder
    documents: Annotated[tuple[Input, ...], Field(min_length=1)]  # long texts; not reported
    length: Count = 131_072  # tokens of a sample; report: 1,000,000 for the refinement
    samples: Count = 1  # texts of that length; not reported; MInference: 1
    chunk: Count = 4096  # tokens that are read, and chosen for, together; report: 32768
    last: Count = 64  # queries of a chunk that choose; report: 64
    # columns and diagonals that a head may get; MInference: these, of kinds that it converts
    candidates: Annotated[tuple[tuple[Size, Size], ...], Field(min_length=1)] = (
        (30, 800),
        (100, 750),
        (500, 700),
        (3500, 100),
        (1000, 6096),
    )
    density: Share = 1.0  # of the keys, that a candidate may be at most; MInference: 1
    after: Size = 2500  # first queries, which do not count; MInference: 2500
    threshold: Share = 0.9  # of a head's attention, that its pattern has to hold; not reported
    # by how much columns and diagonals grow; not reported; published budgets differ by 2048 or 4096
    increment: tuple[Size, Size] = (2048, 2048)
    growths: Size = 9  # of a head at most; not reported; the published files have up to 9
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # of weights and matmuls
    threads: Count | None = None  # of the CPU; none: torch's choice

    @model_validator(mode="after")
    def _counts(self) -> Self:
        if self.after >= self.length:
            raise ValueError(
                f"after = {self.after:,} leaves no query of length = {self.length:,} to count; "
                "lower it"
            )
        return self


@dataclass(frozen=True)
class Found:
    """A head's pattern, whose score is its recall, and the share of the keys that it sees."""

    head: Head
    density: float


def run(config: Config, folder: files.RunFolder) -> None:
    """Search, refine, and write."""
    with dist.session(config.device, config.dtype, 0, config.threads) as world:
        model, tokenizer = pretrained.load(config.model, world.device, world.dtype)
        texts = _texts(config, tokenizer)
        with files.Ledger(folder.path / "state" / "held.jsonl") as ledger:
            calibration = Calibration(config, model, texts, ledger)
            found = _search(config, calibration)
            for growth in range(1, config.growths + 1):
                weak = sum(_weak(one, config) for one in found)
                if not weak:
                    break
                log.say(f"{weak:,} of {len(found):,} heads hold less than {config.threshold}")
                found = _grown(config, calibration, found, growth)
    heads = model.config.num_attention_heads
    layers = _layers([one.head for one in found], heads)
    patterns.write(folder.path / "patterns.json", Patterns(tuple(map(tuple, layers))))
    told = _told(config, found, heads)
    files.write_json(folder.path / "recall.json", told)
    log.say(
        f"recall {told['recall']:.3f}, of the lowest layer {told['lowest']:.3f}, "
        f"density {told['density']:.3f}; {told['below']} heads below {config.threshold}"
    )


def plan(config: Config) -> dict[str, str | int]:
    """How much is read; nothing before the model is there."""
    if not config.model.exists():
        return {}
    shape = weights.read_config(config.model)
    most = config.samples * (1 + config.growths)
    return {
        "heads": shape.num_hidden_layers * shape.num_attention_heads,
        "tokens read": f"at most {most * config.length:,} ({most} times {config.length:,})",
    }


class Calibration:
    """The samples, and what patterns hold of them: measured once, kept in the ledger."""

    def __init__(
        self,
        config: Config,
        model: Transformer,
        texts: Sequence[list[int]],
        ledger: files.Ledger,
    ) -> None:
        self.config, self.model, self.texts, self.ledger = config, model, texts, ledger
        self.heads = model.config.num_attention_heads
        self.count = model.config.num_hidden_layers * self.heads

    def held(self, name: str, tried: Sequence[Sequence[Head | None]]) -> np.ndarray:
        """Recall and density of each candidate's heads, layer after layer: [candidates, 2, L * H].

        None for all heads of a layer: it is not measured.
        """
        samples = log.track(range(len(self.texts)), name, unit="samples")
        return np.mean([self._sample(name, number, tried) for number in samples], 0)

    def _sample(self, name: str, number: int, tried: Sequence[Sequence[Head | None]]) -> np.ndarray:
        key = f"{name}, sample {number}"
        if key not in self.ledger.rows:
            held = recall.trials(
                self.model,
                self.texts[number],
                [_layers(one, self.heads) for one in tried],
                chunk=self.config.chunk,
                last=self.config.last,
                after=self.config.after,
            )
            self.ledger.add(key, {"held": [[one.recall, one.density] for one in held]})
        return np.array(self.ledger.rows[key]["held"]).reshape(len(tried), 2, -1)


def _texts(config: Config, tokenizer: Tokenizer) -> list[list[int]]:
    """The samples: documents, one after the other, cut to the length."""
    ids: list[int] = []
    wanted = config.samples * config.length
    for text in read.texts_of(read.find(config.documents)):
        ids += [*tokenizer.encode(text), tokenizer.end_of_text]
        if len(ids) >= wanted:
            starts = range(0, wanted, config.length)
            return [ids[start : start + config.length] for start in starts]
    raise UserError(
        f"documents hold {len(ids):,} tokens, less than samples * length = {wanted:,}: give more "
        "text, or lower one of them"
    )


def _search(config: Config, calibration: Calibration) -> list[Found]:
    """For each head the candidate that holds most, of those that cost no more than allowed."""
    sizes = [Head(vertical, slash) for vertical, slash in config.candidates]
    tried = [[size] * calibration.count for size in sizes]
    held = calibration.held("search", tried)  # [candidates, 2, L * H]
    every = [_found(size, one) for size, one in zip(sizes, held, strict=True)]
    return [_best(of_head, config.density) for of_head in zip(*every, strict=True)]


def _best(candidates: Sequence[Found], most: float) -> Found:
    cheap = [one for one in candidates if one.density <= most]
    if not cheap:
        return min(candidates, key=lambda one: one.density)
    return max(cheap, key=lambda one: (one.head.score, -one.density))


def _grown(
    config: Config, calibration: Calibration, found: Sequence[Found], growth: int
) -> list[Found]:
    """The same, with the heads that hold too little larger and measured again."""
    sizes = [_larger(one.head, config) if _weak(one, config) else one.head for one in found]
    weak = _layers([_weak(one, config) for one in found], calibration.heads)
    measured = [is_weak for layer in weak for is_weak in [any(layer)] * len(layer)]
    tried = [size if of_weak else None for size, of_weak in zip(sizes, measured, strict=True)]
    (held,) = calibration.held(f"growth {growth}", [tried])  # [2, L * H]
    return [
        Found(replace(size, score=share), density) if _weak(one, config) else one
        for one, size, share, density in zip(found, sizes, *held.tolist(), strict=True)
    ]


def _larger(head: Head, config: Config) -> Head:
    vertical, slash = config.increment
    return Head(
        min(head.vertical + vertical, config.length), min(head.slash + slash, config.length)
    )


def _weak(found: Found, config: Config) -> bool:
    return found.head.score < config.threshold


def _found(size: Head, held: np.ndarray) -> list[Found]:
    """One size for every head, with what it holds, [2, L * H]."""
    return [Found(replace(size, score=share), density) for share, density in held.T.tolist()]


def _layers(items: Sequence[T], heads: int) -> list[list[T]]:
    """The items of all heads, layer after layer, by layer."""
    return [list(items[first : first + heads]) for first in range(0, len(items), heads)]


def _told(config: Config, found: Sequence[Found], heads: int) -> dict[str, Any]:
    """The content of `recall.json`."""
    scores = _layers([one.head.score for one in found], heads)
    densities = _layers([one.density for one in found], heads)
    return {
        "length": config.length,
        "samples": config.samples,
        "threshold": config.threshold,
        "recall": fmean(one.head.score for one in found),
        "lowest": min(map(fmean, scores)),
        "density": fmean(one.density for one in found),
        "below": sum(_weak(one, config) for one in found),
        "layers": [
            {"recall": recall, "density": density}
            for recall, density in zip(scores, densities, strict=True)
        ],
    }
