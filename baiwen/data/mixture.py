"""Which share of the rows each source gives, and each length of document.

    [mixture]
    weights = {tasks = 0.2, code = 0.3}     # of all rows; the other sources share the rest by size
    long_share = 0.4                        # report: 40 % at the longest, 60 % shorter

With `long_share`, every source is parted into its long documents and the rest, packed apart, and
each kind gives its share of the rows. Within a kind the sources keep their weights' proportions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from baiwen import mistakes
from baiwen.config import Knobs
from baiwen.data import shards
from baiwen.data.pack import best_fit
from baiwen.data.pool import Pool, cut
from baiwen.data.shards import Shards
from baiwen.errors import UserError

Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(gt=0)]


class Mixture(Knobs):
    """The shares of a run's rows."""

    weights: dict[str, Weight] | None = None  # of the rows, by source; the others share the rest
    long_share: Share | None = None  # of the rows, from long documents; report: 0.4 (Turbo 1M)
    long_at: Count | None = None  # tokens that make a document long; none: half of sequence_length


def pools(
    folder: Path | str, fingerprint: str, sequence_length: int, mixture: Mixture | None = None
) -> list[Pool]:
    """The sources below `folder`, packed into rows and weighted; `fingerprint`: the tokenizer's."""
    mixture = mixture or Mixture()
    folder, names = Path(folder), shards.names(folder)
    _check_weights(mixture.weights, names)
    used = [name for name in names if not mixture.weights or mixture.weights.get(name) != 0]
    sources = {name: Shards.open(folder / name, fingerprint) for name in used}
    for name, source in sources.items():
        if len(source) < sequence_length:
            raise UserError(
                f"{source.folder}: {len(source):,} tokens are less than one row of sequence_length "
                f"= {sequence_length:,}. Give it more text, shorten the rows, or leave it out "
                f"(mixture.weights.{name} = 0)."
            )
    if mixture.long_share is None:
        packed = {name: _pool(name, sources[name], sequence_length) for name in sources}
        return _weighted(packed, mixture.weights, 1)
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
    kind: str, sources: Mapping[str, Shards], sequence_length: int, mixture: Mixture
) -> dict[str, Pool]:
    """The long or the short documents of every source that has a row's worth of them."""
    at = mixture.long_at or sequence_length // 2
    found = {}
    for name, source in sources.items():
        kept = source.lengths >= at if kind == "long" else source.lengths < at
        pool = _pool(f"{name} ({kind})", source, sequence_length, kept)
        if pool.tokens >= sequence_length:
            found[name] = pool
    if not found:
        longest = max(int(source.lengths.max()) for source in sources.values())
        raise UserError(
            f"mixture.long_share = {mixture.long_share}: no source has a row of documents with "
            f"{'at least' if kind == 'long' else 'fewer than'} {at:,} tokens (the longest has "
            f"{longest:,}). Change long_at or long_share."
        )
    return found


def _pool(name: str, source: Shards, sequence_length: int, kept: np.ndarray | None = None) -> Pool:
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
