"""A side: transformers' generate, as a user types it."""

import json
import sys
import time
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.initialization import no_init_weights

from benchmarks.sides.model import tile
from benchmarks.sides.serving import EPS, THETA, Clock, Request, requests, shape, take_turns
from benchmarks.turns import Figures


def main(settings: dict[str, Any]) -> None:
    """A work whenever it is told."""
    torch.set_num_threads(settings["threads"])
    model = build(settings)
    take_turns(settings, lambda work: run(model, work, settings))


def build(settings: Figures) -> Qwen2ForCausalLM:
    """The model in its dtype, with PyTorch's fused attention."""
    rope = {"rope_type": "default", "rope_theta": THETA}
    config = Qwen2Config(**shape(settings), rope_parameters=rope, rms_norm_eps=EPS)
    config.eos_token_id = config.pad_token_id = None
    dtype = getattr(torch, settings["weights"])
    with no_init_weights():
        model = Qwen2ForCausalLM._from_config(config, attn_implementation="sdpa", dtype=dtype)
    tile(model)
    return model.eval()


def run(model: Qwen2ForCausalLM, work: str, settings: Figures) -> Figures:
    """Answer what has come, together or one by one, then what has come by then."""
    waiting = requests(work, settings)
    clock, begun = Clock(work, list(waiting)), 0
    while waiting:
        now = time.perf_counter() - clock.began
        ready = [request for request in waiting if request.arrival <= now]
        if not ready:
            time.sleep(waiting[0].arrival - now)
            continue
        ready = ready if settings["together"] else ready[:1]
        begun += len(ready)
        generate(model, ready, clock, begun)
        waiting = waiting[len(ready) :]
    return clock.figures()


@torch.inference_mode()
def generate(model: Qwen2ForCausalLM, ready: list[Request], clock: Clock, begun: int) -> None:
    """One call of generate for all, as long as the longest answer; only what was asked counts."""
    longest = max(len(request.prompt) for request in ready)
    padded = [[0] * (longest - len(request.prompt)) + request.prompt for request in ready]
    mask = [[0] * (longest - len(request.prompt)) + [1] * len(request.prompt) for request in ready]
    made = 0

    def tick(ids: Tensor, _scores: Tensor, **_: Any) -> Tensor:
        nonlocal made
        made += 1
        clock.tick(sum(request.tokens >= made for request in ready), begun)
        return torch.zeros(len(ids), dtype=torch.bool)

    model.generate(
        torch.tensor(padded),
        attention_mask=torch.tensor(mask),
        max_new_tokens=max(request.tokens for request in ready),
        do_sample=False,
        pad_token_id=0,
        stopping_criteria=[tick],
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
