"""`baiwen serve MODEL`: OpenAI's protocol over one model, and a chat page.

    $ baiwen serve runs/tiny/sft
    sft at http://127.0.0.1:8000/v1, chat page at http://127.0.0.1:8000/
    reads 2,048 tokens, as trained
    $ baiwen serve runs/tiny/reward
    reward at http://127.0.0.1:8000/pooling

A reward model's folder is served for its scores. docs/serving.md has the requests.
"""

import argparse
import json
import os
import webbrowser
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from baiwen import dist, mistakes
from baiwen.commands import loading
from baiwen.commands.chat import said
from baiwen.engine import pretrained
from baiwen.engine.engine import Engine
from baiwen.engine.front import Front
from baiwen.engine.sampler import Sampling
from baiwen.engine.scorer import Scorer
from baiwen.errors import UserError
from baiwen.model import weights
from baiwen.serve import app, server
from baiwen.serve.access import Gate
from baiwen.serve.limits import Limits

GENERATION = "generation_config.json"
LEAST = {
    "context": 2,
    "lookup": 0,
    "max_waiting": 1,
    "max_body": 1,
    "max_seconds": 0,
    "drain": 0,
}


def main(options: argparse.Namespace) -> None:
    """Load the model and serve it until a signal comes."""
    folder = Path(options.model)
    _check(options)
    if not folder.is_dir():
        raise UserError(mistakes.missing("model", folder))
    api_key = options.api_key or os.environ.get("BAIWEN_API_KEY") or None
    with (
        server.bind(options.host, options.port, api_key) as listener,
        dist.session(options.device, options.dtype) as world,
    ):
        limits = Limits(
            waiting=options.max_waiting,
            body=options.max_body,
            request_seconds=options.max_seconds,
        )
        name, gate = options.name or folder.resolve().name, Gate(api_key)
        place = server.url(listener)
        if weights.read_config(folder).reward:
            served = _scoring(options, folder, world, name, gate, limits)
            told = f"{name} at {place}/pooling"
        else:
            engine = _engine(options, folder, world)
            served = _language(engine, folder, name, gate, limits)
            lines = f"{name} at {place}/v1, chat page at {place}/", f"reads {engine.told}"
            told = "\n".join([*lines, *filter(None, [engine.runner.capture()])])

        def ready() -> None:
            print(told, flush=True)
            if options.open:
                webbrowser.open(place)

        server.run(served, listener, options.drain, ready)


def _engine(options: argparse.Namespace, folder: Path, world: dist.World) -> Engine:
    return loading.engine(
        options,
        folder,
        world,
        draft=Path(options.draft) if options.draft else None,
        cache_tokens=options.cache_tokens,
        sequences=options.sequences,
        lookup=options.lookup,
        graphs=False if options.no_graphs else None,
    )


def _language(engine: Engine, folder: Path, name: str, gate: Gate, limits: Limits) -> FastAPI:
    return app.build(
        Front(engine, max_waiting=limits.waiting),
        engine.tokenizer,
        name,
        engine.context,
        gate=gate,
        limits=limits,
        defaults=sampling(folder),
    )


def _scoring(
    options: argparse.Namespace,
    folder: Path,
    world: dist.World,
    name: str,
    gate: Gate,
    limits: Limits,
) -> FastAPI:
    others = "weights", "lookup", "draft", "no_graphs", "cache_tokens", "open"
    plain = [name for name in others if getattr(options, name)]
    for option in (*plain, *said(options, loading.OPTIONS)):
        flag = option.replace("_", "-")
        raise UserError(f"--{flag} is for language models, and {folder} is a reward model")
    model, tokenizer = pretrained.load_reward(folder, world.device, world.dtype)
    scorer = Scorer(model, tokenizer, max_waiting=limits.waiting)
    context = options.context or scorer.context
    if context > scorer.context:
        raise UserError(
            f"--context {context:,} is more than the {scorer.context:,} tokens that the model reads"
        )
    return app.build_scoring(scorer, name, context, gate=gate, limits=limits)


def _check(options: argparse.Namespace) -> None:
    for name, least in LEAST.items():
        value = getattr(options, name)
        if value is not None and not value >= least:  # nan is not, either
            raise UserError(f"--{name.replace('_', '-')} {value} must be at least {least}")


def sampling(folder: Path) -> dict[str, Any]:
    """How the model's folder says to draw; `do_sample: false` is greedy."""
    path = folder / GENERATION
    if not path.is_file():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        names = {"temperature", "top_p", "top_k", "min_p", "repetition_penalty"}
        found = {name: told[name] for name in names if told.get(name) is not None}
        Sampling(**found)  # which complains of values without a meaning
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    return found if told.get("do_sample", True) else {**found, "temperature": 0.0}
