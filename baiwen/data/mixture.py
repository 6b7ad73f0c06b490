"""Which share of the rows each source gives, and each length of document or conversation.

    [mixture]
    weights = {tasks = 0.2, code = 0.3}     # of all rows; the other sources share the rest by size
    long_share = 0.4                        # report: 40 % at the longest, 60 % shorter

With `long_share`, every source is parted into its long texts and the rest, packed apart, and each
kind gives its share of the rows. Within a kind the sources keep their weights' proportions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from baiwen import log, mistakes
from baiwen.config import Count, Knobs, Share
from baiwen.data import shards
from baiwen.data.pack import best_fit
from baiwen.data.pool import Pool, cut
from baiwen.data.shards import Shards
from baiwen.errors import UserError

Weight = Annotated[float, Field(ge=0)]


class Mixture(Knobs):
    """The shares of a run's rows."""

    weights: dict[str, Weight] | None = None  # of the rows, by source; the others share the rest
    long_share: Share | None = None  # of the rows, from long texts; report: 0.4 (Turbo), 0.75 (1M)
    long_at: Count | None = None  # tokens that make a text long; none: half of sequence_length


@dataclass(frozen=True)
class Source:
    """What a source has to give: texts of these lengths, and the way to pack some of them."""

    lengths: np.ndarray  # int64 [n]: tokens of each document or conversation
    pack: Callable[[np.ndarray | None], Pool]  # those where bool [n] is true, or all, in rows


def pools(
    folder: Path | str, fingerprint: str, sequence_length: int, mixture: Mixture | None = None
) -> list[Pool]:
    """The sources below `folder`, packed into rows and weighted; `fingerprint`: the tokenizer's."""
    mixture = mixture or Mixture()
    folder, sources = Path(folder), {}
    for name in used(shards.names(folder), mixture):
        source = Shards.open(folder / name, fingerprint)
        if len(source) < sequence_length:
            raise UserError(
                f"{source.folder}: {len(source):,} tokens are less than one row of sequence_length "
                f"= {sequence_length:,}. Give it more text, shorten the rows, or leave it out "
                f"(mixture.weights.{name} = 0)."
            )
        sources[name] = Source(source.lengths, partial(_pool, name, source, sequence_length))
    return mixed(sources, sequence_length, mixture)


def used(names: Sequence[str], mixture: Mixture) -> list[str]:
    """Those of the sources that give any rows; a `UserError` where the weights do not fit them."""
    _check_weights(mixture.weights, names)
    return [name for name in names if not mixture.weights or mixture.weights.get(name) != 0]


def mixed(sources: Mapping[str, Source], sequence_length: int, mixture: Mixture) -> list[Pool]:
    """The sources that are used, packed into rows and weighted."""
    if mixture.long_share is None:
        return _weighted(
            {name: source.pack(None) for name, source in sources.items()}, mixture.weights, 1
        )
    shares = {"long": mixture.long_share, "short": 1 - mixture.long_share}
    return [
        pool
        for kind, share in shares.items()
        if share > 0
        for pool in _weighted(
            _of_length(kind, sources, sequence_length, mixture), mixture.weights, share
        )
    ]


def _check_weights(weights: Mapping[str, float] | None, names: Sequence[str]) -> None:
    if weights is None:
        return
    listed = f"The sources are {', '.join(names)}."
    for name in weights:
        if name not in names:
            hint = mistakes.nearest(name, names)
            raise UserError(f"mixture.weights: there is no source {name!r}.{hint} {listed}")
    others = [name for name in names if name not in weights]
    if others and sum(weights.values()) >= 1:
        raise UserError(
            f"mixture.weights: nothing is left of the rows for {', '.join(others)}. Give every "
            "source a weight (0 leaves it out), or let the weights add up to less than 1."
        )
    if not others and not any(weights.values()):
        raise UserError("mixture.weights: all weights are 0, so there is nothing to train on")


def _of_length(
    kind: str, sources: Mapping[str, Source], sequence_length: int, mixture: Mixture
) -> dict[str, Pool]:
    """The long or the short texts of every source that has a row's worth of them."""
    at = mixture.long_at or sequence_length // 2
    found = {}
    for name, source in sources.items():
        kept = source.lengths >= at if kind == "long" else source.lengths < at
        pool = source.pack(kept)
        if pool.tokens >= sequence_length:
            found[name] = replace(pool, name=f"{name} ({kind})")
        elif kept.any():
            log.say(f"{name}: its {kind} texts do not fill one row, so none of them is learned")
    if not found:
        longest = max(int(source.lengths.max()) for source in sources.values())
        raise UserError(
            f"mixture.long_share = {mixture.long_share}: no source fills a row with texts of "
            f"{'at least' if kind == 'long' else 'fewer than'} {at:,} tokens (the longest has "
            f"{longest:,}). Change long_at or long_share."
        )
    return found


def _pool(name: str, source: Shards, sequence_length: int, kept: np.ndarray | None) -> Pool:
    """A source, or only its documents where `kept` [documents] is true, packed into rows."""
    pieces = cut(source.ends, sequence_length, kept)
    return Pool(name, source, pieces, best_fit(pieces.length, sequence_length))


def _weighted(
    packed: Mapping[str, Pool], weights: Mapping[str, float] | None, share: float
) -> list[Pool]:
    """The pools with their parts of `share`: their weights, or of what is left by their size."""
    weights = weights or {}
    unnamed = sum(pool.tokens for name, pool in packed.items() if name not in weights)
    left = 1 - sum(weights.values())
    own = {
        name: weights[name] if name in weights else left * pool.tokens / unnamed
        for name, pool in packed.items()
    }
    total = sum(own.values())
    return [replace(pool, weight=share * own[name] / total) for name, pool in packed.items()]
