"""An engine as the command line describes it, for `baiwen serve` and `baiwen chat`.

    engine = loading.engine(options, folder, world, sequences=8)

What cannot be is told before the weights are read: a context that the memory does not hold, a
ladder that ends before it.
"""

import argparse
from pathlib import Path
from typing import Any

from baiwen import dist
from baiwen.engine import capacity, pretrained
from baiwen.engine.engine import Engine
from baiwen.engine.reach import Extend, Reach
from baiwen.errors import UserError
from baiwen.model import count, weights
from baiwen.model.config import ModelConfig
from baiwen.model.packed import BITS

KEPT = {"fp32": 4, "bf16": 2}  # bytes of a number in the cache
OPTIONS = ("rope", "no_dca", "factors", "kv")  # beside --context, which scoring has, too


def engine(
    options: argparse.Namespace,
    folder: Path,
    world: dist.World,
    **knobs: Any,  # noqa: ANN401 - those of Engine
) -> Engine:
    """The model of a folder, loaded, with the context and the extension that were asked for."""
    packed = getattr(options, "weights", None)
    extend = extend_of(options)
    _check(weights.read_config(folder), options, extend, world, packed)
    model, tokenizer = pretrained.load(folder, world.device, world.dtype, packed)
    return Engine(model, tokenizer, context=options.context, extend=extend, kv=options.kv, **knobs)


def extend_of(options: argparse.Namespace) -> Extend | None:
    """How to go beyond the trained length, if the command line says so."""
    if not (options.rope or options.no_dca or options.factors):
        return None
    return Extend(dca=not options.no_dca, rope=options.rope, factors=_factors(options.factors))


def _factors(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(factor) for factor in text.split(",")) if text else ()
    except ValueError:
        raise UserError(f"--factors {text} must be numbers with commas, as in 1,2,4") from None


def _check(
    config: ModelConfig,
    options: argparse.Namespace,
    extend: Extend | None,
    world: dist.World,
    packed: str | None,
) -> None:
    """UserError where the context cannot be had."""
    if options.context is None and extend is None:
        return
    itemsize = KEPT[options.kv] if options.kv else world.dtype.itemsize
    bits = BITS.get(packed or "", 8 * world.dtype.itemsize)
    size = count.cache_bytes_per_token(config, itemsize)
    stored = count.parameters(config).total * bits // 8
    context = options.context or Reach.of(config, None, extend).context
    capacity.check(size, world.device, context, stored)
    Reach.of(config, options.context, extend)
