"""A side: Baiwen's engine on packed weights, where told with DCA, sparse or without C++."""

import json
import os
import sys
import time
from typing import Any

import torch

from baiwen.engine.engine import Engine
from baiwen.engine.sampler import Sampling
from baiwen.model.config import ModelConfig
from baiwen.model.packed import pack
from baiwen.model.positions import DualChunk
from baiwen.model.sparse import Sparse
from baiwen.model.transformer import Transformer
from baiwen.tokenizer import bpe
from benchmarks.sides.model import tile
from benchmarks.sides.serving import EPS, THETA, Clock, requests, shape, take_turns
from benchmarks.turns import Figures


def main(settings: dict[str, Any]) -> None:
    """A work whenever it is told."""
    torch.set_num_threads(settings["threads"])
    if not settings.get("native", True):
        os.environ["BAIWEN_NATIVE"] = "0"
    engine = build(settings)
    run(engine, "prefill 1", settings)  # code is loaded, which is not memory of a prompt
    take_turns(settings, lambda work: run(engine, work, settings))


def build(settings: Figures) -> Engine:
    """The engine on a model with random weights, cached in bf16."""
    with torch.device("meta"):
        model = Transformer(_config(settings))
    model = model.to_empty(device="cpu").bfloat16()
    tile(model)
    pack(model, settings["weights"])
    # Room for the longest work; prompts share nothing but where samples of one prompt are asked.
    sharing = any(work.startswith("samples") for work in settings["works"])
    tokenizer = bpe.train(["hello world this is a text"] * 20, 270)
    room = settings.get("context", 0) + 16384
    return Engine(
        model, tokenizer, cache_tokens=room, prefix_cache=sharing, sparse=_sparse(settings)
    )


def _config(settings: Figures) -> ModelConfig:
    """The shape, with room for `context` tokens; `dca`: in chunks, as if trained at 8K."""
    given = shape(settings)
    given["max_position_embeddings"] = settings.get("context", given["max_position_embeddings"])
    chunks = DualChunk(8192, 512, 8192) if settings.get("dca") else None
    return ModelConfig(
        **given, rope_theta=THETA, rms_norm_eps=EPS, dual_chunk_attention_config=chunks
    )


def _sparse(settings: Figures) -> Sparse | None:
    """A fixed share of the blocks: random weights hold little of their attention in it."""
    if "sparse" not in settings:
        return None
    return Sparse(threshold=4096, mass=1.0, budget=settings["sparse"], floor=0.0)


def run(engine: Engine, work: str, settings: Figures) -> Figures:
    """Answer the requests of a work, each from the moment at which it comes."""
    waiting = requests(work, settings)
    if work.startswith("samples"):
        return samples(engine, waiting[0].prompt, int(work.split()[1]))
    clock, begun = Clock(work, list(waiting)), set()
    while waiting or engine.unfinished:
        now = time.perf_counter() - clock.began
        while waiting and waiting[0].arrival <= now:
            asked = waiting.pop(0)
            engine.add(asked.prompt, Sampling(max_tokens=asked.tokens, stop_ids=()))
        if not engine.unfinished:
            time.sleep(waiting[0].arrival - now)
            continue
        answered = engine.step()
        begun |= {request.number for request, _ in answered}
        fresh = sum(len(delta.tokens) for _, deltas in answered for delta in deltas)
        clock.tick(fresh, len(begun))
    return clock.figures()


def samples(engine: Engine, prompt: list[int], count: int) -> Figures:
    """Seconds to the first token of one sample, and to those of `count`, of a prompt unseen."""
    spent = {}
    for name, wanted in (("one", 1), ("all", count)):
        engine.reset_cache()
        began = time.perf_counter()
        engine.generate([prompt], Sampling(max_tokens=1, stop_ids=(), n=wanted, temperature=1))
        spent[name] = time.perf_counter() - began
    return spent


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
