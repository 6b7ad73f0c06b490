"""What the server costs beside its engine, and how long it takes to its first token.

    python -m benchmarks.serve                          # 0.5B shape, random weights, 16 streams
    python -m benchmarks.serve --shape tiny

The engine alone answers the prompts in one call, then the server answers the same ones as streams,
in turns, in one process with the same weights; the clients are a process of their own, which takes
its share of the machine. The start is `baiwen serve` on the tiny model, from the shell to the first
token that a client reads.
"""

import argparse
import contextlib
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import httpx
import torch

import baiwen
from baiwen.engine.engine import Engine
from baiwen.engine.front import Front
from baiwen.engine.sampler import Sampling
from baiwen.model import packed
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.serve import app, server
from baiwen.tokenizer import bpe, template
from baiwen.tokenizer.tokenizer import Tokenizer
from benchmarks import page
from benchmarks.sides.model import tile
from benchmarks.turns import ROOT

PROMPT = 64  # tokens


def main() -> None:
    """Measure, print, and write the page when asked."""
    options = arguments()
    torch.set_num_threads(options.threads)
    sys.setswitchinterval(server.SWITCH)
    tokenizer = bpe.train([template.DEFAULT_SYSTEM, template.TOOLS_INTRODUCTION] * 4, 340)
    over, lines = overhead(options, tokenizer)
    first, more = starting(options, tokenizer)
    rows = [
        (
            f"server beside the engine, {options.streams} streams",
            "<= 5 %",
            f"{over:+.1%}",
            over <= 0.05,
        ),
        ("start to the first token, tiny", "<= 4 s", f"{first:.2f} s", first <= 4),
    ]
    page.publish("serve", "The server", [*page.claims(rows), "", *lines, "", *more], options.write)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--shape", choices=("0.5b", "tiny"), default="0.5b")
    parser.add_argument("--layers", type=int, help="fewer layers than the shape has")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32, help="of an answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--starts", type=int, default=3)
    return parser.parse_args()


def overhead(options: argparse.Namespace, tokenizer: Tokenizer) -> tuple[float, list[str]]:
    """How much longer the server takes than the engine, in median, and a table of both."""
    shape = SIZES[options.shape]
    layers = options.layers or shape.num_hidden_layers
    ends = {"bos_token_id": tokenizer.end_of_text, "eos_token_id": tokenizer.end_of_turn}
    model = Transformer(replace(shape, num_hidden_layers=layers, **ends))
    tile(model)
    packed.pack(model.eval(), "bf16")
    prompts = [
        [(7 * i + 3 * j) % len(tokenizer) for j in range(PROMPT)] for i in range(options.streams)
    ]
    room = options.streams * (PROMPT + options.tokens + 32)
    alone, behind = (
        Engine(model, tokenizer, cache_tokens=room, prefix_cache=False) for _ in range(2)
    )
    sampling = Sampling(max_tokens=options.tokens, min_tokens=options.tokens)
    spent: dict[str, list[float]] = {"engine": [], "server": []}
    with streams(behind, prompts, options.tokens) as ask:
        for turn in range(options.rounds + 1):
            begun = time.perf_counter()
            alone.generate(prompts, sampling)
            seconds = time.perf_counter() - begun
            if turn:  # the first one is a rehearsal
                spent["engine"].append(seconds)
                spent["server"].append(ask())
            else:
                ask()
    pairs = zip(spent["server"], spent["engine"], strict=True)
    ratio = median(served / own for served, own in pairs)
    tokens = options.streams * options.tokens
    rows = [
        [name, f"{median(found):.3f}", f"{tokens / median(found):.0f}"]
        for name, found in spent.items()
    ]
    return ratio - 1, page.table([f"{options.shape}, {layers} layers", "s", "tokens/s"], rows)


@contextlib.contextmanager
def streams(
    engine: Engine, prompts: Sequence[list[int]], tokens: int
) -> Iterator[Callable[[], float]]:
    """A server in a thread and its clients in a process: ask them all, and get the seconds."""
    made = app.build(Front(engine), engine.tokenizer, "bench", engine.context)
    listening = threading.Event()
    with server.bind("127.0.0.1", 0, None) as listener:
        served = server.made(made, listener, 5, listening.set)
        thread = threading.Thread(target=served.run, args=([listener],), daemon=True)
        thread.start()
        listening.wait()
        fields = {"max_tokens": tokens, "min_tokens": tokens, "temperature": 0, "stream": True}
        bodies = [{"prompt": prompt, **fields} for prompt in prompts]
        host, port = listener.getsockname()
        words = [sys.executable, "-m", "benchmarks.sides.streams", host, str(port)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(
            [*words, json.dumps(bodies)], cwd=ROOT, text=True, **pipes
        ) as clients:
            assert clients.stdin is not None and clients.stdout is not None

            def ask() -> float:
                clients.stdin.write("go\n")
                clients.stdin.flush()
                return float(clients.stdout.readline())

            yield ask
            clients.stdin.close()
        served.should_exit = True
        thread.join()


def starting(options: argparse.Namespace, tokenizer: Tokenizer) -> tuple[float, list[str]]:
    """The least seconds from the shell to a first token, and a table of all starts."""
    model = Transformer(SIZES["tiny"])
    model.init_weights(seed=0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "tiny"
        baiwen.save(model, tokenizer, place)
        found = [start(place) for _ in range(options.starts)]
    rows = [
        [f"start {number}", f"{listens:.2f}", f"{first:.2f}", f"{cpu:.2f}"]
        for number, (listens, first, cpu) in enumerate(found, start=1)
    ]
    head = ["tiny", "listens after s", "first token after s", "CPU s"]
    return median(first for _, first, _ in found), page.table(head, rows)


def start(folder: Path) -> tuple[float, float, float]:
    """Seconds until a server listens and until its first token, and what its CPU time is then."""
    begun = time.perf_counter()
    words = [sys.executable, "-m", "baiwen", "serve", str(folder), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = re.search(r" at (\S+)/v1", process.stdout.readline())
        assert told is not None
        listens = time.perf_counter() - begun
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True, "logprobs": True}
        with httpx.stream(
            "POST", f"{told[1]}/v1/chat/completions", json=body, timeout=60
        ) as answer:
            next(line for line in answer.iter_lines() if '"token"' in line)
            first = time.perf_counter() - begun
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        process.terminate()
    return listens, first, (int(fields[11]) + int(fields[12])) / 100


if __name__ == "__main__":
    main()
