"""Which share of the rows each source gives, and each length of document.

    [mixture]
    weights = {prose = 0.5, code = 0.3, tasks = 0.2}     # of all rows
    long_share = 0.4                                     # report: 40 % at the longest, 60 % shorter

With `long_share`, every source is parted into its long documents and the rest, packed apart: a long
document then fills its row (nearly) alone, as the long-context stages of Qwen2.5 mean it.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from baiwen import mistakes
from baiwen.config import Knobs
from baiwen.data import shards
from baiwen.data.pack import best_fit
from baiwen.data.pool import Pool, cut
from baiwen.data.shards import Shards
from baiwen.errors import UserError


class Mixture(Knobs):
    """The shares of a run's rows."""

    weights: dict[str, float] | None = None  # of the rows, by source; none: by size
    long_share: float | None = None  # of the rows, from long documents; report: 0.4 (Turbo 1M)
    long_at: int | None = None  # tokens that make a document long; none: half of sequence_length


def pools(
    folder: Path | str, fingerprint: str, sequence_length: int, mixture: Mixture | None = None
) -> list[Pool]:
    """The sources below `folder`, packed into rows and weighted; `fingerprint`: the tokenizer's."""
    mixture = mixture or Mixture()
    names = shards.names(folder)
    sources = {name: Shards.open(Path(folder) / name, fingerprint) for name in names}
    weights = _weights(mixture.weights, sources)
    chosen = {name: sources[name] for name in weights}
    for name, source in chosen.items():
        if len(source) < sequence_length:
            raise UserError(
                f"{source.folder}: {len(source):,} tokens are less than one row of sequence_length "
                f"= {sequence_length:,}. Give it more text, shorten the rows, or set its weight "
                f"to 0 (mixture.weights.{name}=0)."
            )
    if mixture.long_share is None:
        return [_pool(name, chosen[name], sequence_length, weights[name]) for name in chosen]
    return _by_length(chosen, weights, sequence_length, mixture)


def _weights(wanted: Mapping[str, float] | None, sources: Mapping[str, Shards]) -> dict[str, float]:
    """The weight of each source that is used: the recipe's, or else its tokens."""
    if not wanted:
        return {name: float(len(source)) for name, source in sources.items()}
    for name, weight in wanted.items():
        if name not in sources:
            hint = mistakes.nearest(name, list(sources))
            raise UserError(
                f"mixture.weights: there is no source {name!r}.{hint} There are:"
                f" {', '.join(sources)}."
            )
        if weight < 0:
            raise UserError(f"mixture.weights.{name} = {weight} must not be below 0")
    for name in sources:
        if name not in wanted:
            raise UserError(
                f"mixture.weights: {name} has no weight. Give it one, or 0 to leave it out."
            )
    used = {name: weight for name, weight in wanted.items() if weight > 0}
    if not used:
        raise UserError("mixture.weights: all weights are 0, so there is nothing to train on")
    return used


def _by_length(
    sources: Mapping[str, Shards],
    weights: Mapping[str, float],
    sequence_length: int,
    mixture: Mixture,
) -> list[Pool]:
    """Long and short documents of every source as pools of their own.

    Among the long pools the sources keep their weights' proportions, and among the short ones too.
    A source without a row's worth of the one kind gives only of the other.
    """
    share, at = mixture.long_share or 0.0, mixture.long_at or sequence_length // 2
    if not 0 <= share <= 1:
        raise UserError(f"mixture.long_share = {share} must lie within 0 and 1")
    found: list[Pool] = []
    for kind, part in (("long", share), ("short", 1 - share)):
        if part == 0:
            continue
        kept = {
            name: source.lengths >= at if kind == "long" else source.lengths < at
            for name, source in sources.items()
        }
        enough = [
            name
            for name, chosen in kept.items()
            if sources[name].lengths[chosen].sum() >= sequence_length
        ]
        if not enough:
            longest = max(int(source.lengths.max()) for source in sources.values())
            raise UserError(
                f"mixture.long_share = {share}: no source has a row of documents with "
                f"{'at least' if kind == 'long' else 'fewer than'} {at:,} tokens (the longest has "
                f"{longest:,}). Change long_at or long_share."
            )
        total = sum(weights[name] for name in enough)
        found += [
            _pool(
                f"{name} ({kind})",
                sources[name],
                sequence_length,
                part * weights[name] / total,
                kept[name],
            )
            for name in enough
        ]
    return found


def _pool(
    name: str, source: Shards, sequence_length: int, weight: float, kept: np.ndarray | None = None
) -> Pool:
    """A source, or only its documents where `kept` [documents] is true, packed into rows."""
    pieces = cut(source.ends, sequence_length, kept)
    return Pool(name, source, pieces, best_fit(pieces.length, sequence_length), weight)
