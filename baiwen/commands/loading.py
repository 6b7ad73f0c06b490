"""An engine as the command line describes it, for `baiwen serve` and `baiwen chat`.

    engine = loading.engine(options, folder, world, sequences=8)

What cannot be is told before the weights are read: a context that the memory does not hold, factors
that end before it, patterns of another model.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from baiwen import dist, mistakes
from baiwen.commands.chat import LOADED
from baiwen.engine import capacity, pretrained
from baiwen.engine.engine import Engine
from baiwen.engine.reach import Extend, Reach
from baiwen.errors import UserError
from baiwen.model import count, patterns, weights
from baiwen.model.config import ModelConfig
from baiwen.model.sparse import Sparse

OPTIONS = tuple(name for name in LOADED if name != "context")  # which a reward model has, too
SPARSE = {  # options and knobs
    "sparse_from": "threshold",
    "sparse_mass": "mass",
    "sparse_budget": "budget",
    "sparse_chunk": "chunk",
}


def engine(
    options: argparse.Namespace,
    folder: Path,
    world: dist.World,
    draft: Path | None = None,
    **knobs: Any,  # noqa: ANN401 - those of Engine
) -> Engine:
    """The model of a folder, loaded, with the context and the extension that were asked for.

    draft: the folder of the model that guesses for it.
    """
    packed = getattr(options, "weights", None)
    config, extend = weights.read_config(folder), extend_of(options)
    sparse = sparse_of(options, config)
    if draft is not None and not draft.is_dir():
        raise UserError(mistakes.missing("draft", draft))
    _check(config, options, extend, world, packed)
    model, tokenizer = pretrained.load(folder, world.device, world.dtype, packed)
    if draft is not None:
        knobs["draft"], other = pretrained.load(draft, world.device, world.dtype, packed)
        if other.vocabulary != tokenizer.vocabulary:
            raise UserError(f"--draft {draft} has another tokenizer than {folder}")
    knobs |= {"context": options.context, "extend": extend, "sparse": sparse, "kv": options.kv}
    return Engine(model, tokenizer, **knobs)


def extend_of(options: argparse.Namespace) -> Extend | None:
    """How to go beyond the trained length, if the command line says so."""
    if not (options.rope or options.no_dca or options.factors is not None):
        return None
    return Extend(dca=not options.no_dca, rope=options.rope, factors=_factors(options.factors))


def sparse_of(options: argparse.Namespace, config: ModelConfig) -> Sparse | None:
    """How long prompts are read sparsely, if the command line says so."""
    given = {knob: getattr(options, option) for option, knob in SPARSE.items()}
    knobs = {knob: value for knob, value in given.items() if value is not None}
    if options.patterns:
        knobs["patterns"] = patterns.read(options.patterns, config)
    return Sparse(**knobs) if options.sparse or knobs else None


def _factors(text: str | None) -> tuple[float, ...]:
    try:
        return () if text is None else tuple(float(factor) for factor in text.split(","))
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
    dtype = torch.float32 if packed == "fp32" else world.dtype
    itemsize = (capacity.KEPT[options.kv] if options.kv else dtype).itemsize
    size = count.cache_bytes_per_token(config, itemsize)
    stored = count.parameters(config).total * dtype.itemsize
    if packed is not None:
        stored = count.stored(config, packed)
    context = options.context or Reach.of(config, None, extend).context
    capacity.check(size, world.device, context, stored)
    Reach.of(config, options.context, extend)
