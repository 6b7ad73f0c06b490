"""The model's own kernels beside what they replace: attention, norm, rotation, SwiGLU, malloc.

    python -m benchmarks.kernels                # 4,096 tokens, one thread, CPU seconds
    python -m benchmarks.kernels --prefill      # long prompts alone: over pages, all or in lists

They take turns, and the least time of each counts. GFLOP/s of attention count the pairs that
causality leaves: 4 T^2/2 D a head and row forward, and twice that backward (what a form computes
again is not counted); of lists, the pairs in listed blocks.

B rows, T tokens of a row, H query heads, K key heads, D head size, C hidden size.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from baiwen.model import compiled, flash, fused, kernels, rope
from baiwen.model.config import ModelConfig
from baiwen.model.layout import Layout
from baiwen.model.pages import Lists, Pages, Scales, encode
from benchmarks import page
from benchmarks.sides.model import SHAPE
from benchmarks.turns import Side, alternate, take_turns

CHUNKS = ((8192, 512), (8192, 4096), (32768, 512), (131072, 512))  # keys, queries
SHARES = (0.25, 0.1, 0.05)  # of the blocks
DECODED = 32768  # keys of the token that is decoded
PAGE = 16  # tokens of a block of the cache
LENGTHS = (128, 192, 256, 512, 1024, 2048)
CLAIMED = 512  # tokens of a row in the step that is timed with either malloc
CONFIG = ModelConfig(**SHAPE)
EPS = CONFIG.rms_norm_eps
H, K, D, C = (
    CONFIG.num_attention_heads,
    CONFIG.num_key_value_heads,
    CONFIG.head_dim,
    CONFIG.hidden_size,
)

Kernel = Callable[..., Tensor]
Name = TypeVar("Name")


def main() -> None:
    """Measure, print, and write the page when asked."""
    options = arguments()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if options.prefill:
        body = prefill(options)
        page.publish("kernels_prefill", "Attention of long prompts", body, options.write)
        return
    body = [*attention(options), "", *small(options), "", *freed(options)]
    page.publish("kernels", "Kernels", body, options.write)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--tokens", type=int, default=4096, help="of a batch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--prefill", action="store_true", help="attention of long prompts alone")
    parser.add_argument("--steps", type=int, default=5, help="training steps of either malloc")
    return parser.parse_args()


def attention(options: argparse.Namespace) -> list[str]:
    """Attention in C++ beside SDPA, by the length of a row."""
    rows = []
    for length in LENGTHS:
        if length <= options.tokens:
            inputs = heads(options.tokens // length, length)
            rows.append(attention_row(inputs, options.rounds))
    head = ["tokens of a row", "SDPA ms", "C++ ms", "ratio", "SDPA GFLOP/s forward, backward"]
    title = f"matmul: {matmul_rate(options.rounds):.0f} GFLOP/s (fp32, 1024 x 1024, one thread)"
    return [
        title,
        "",
        *page.table([*head, "C++ GFLOP/s forward, backward"], rows),
    ]


def attention_row(inputs: list[Tensor], rounds: int) -> list[str]:
    """One line of the table."""
    batch, length = inputs[0].shape[:2]
    work = 2 * length**2 * D * H * batch / 1e9  # of the forward pass
    spent = measure({"sdpa": sdpa, "flash": flash.attend}, inputs, rounds)
    return [
        str(length),
        *(f"{1000 * sum(both):.1f}" for both in spent.values()),
        f"{sum(spent['flash']) / sum(spent['sdpa']):.2f}",
        *(f"{work / forward:.0f}, {2 * work / back:.0f}" for forward, back in spent.values()),
    ]


def heads(batch: int, length: int) -> list[Tensor]:
    """Queries [B, T, H, D], keys and values [B, T, K, D]."""
    return [torch.randn(batch, length, count, D, requires_grad=True) for count in (H, K, K)]


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """PyTorch's fused attention in the model's layout."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return out.transpose(1, 2)


def prefill(options: argparse.Namespace) -> list[str]:
    """A chunk of a prompt over its pages: all keys, and shares of their blocks."""
    rows = [prefill_row(*chunk, max(1, 20_000 // chunk[0])) for chunk in CHUNKS]
    shares = [f"{share:.0%} of blocks" for share in SHARES]
    head = ["keys, queries of a chunk", "SDPA", "keys gathered", "C++ over pages", *shares]
    return [
        f"matmul: {matmul_rate(options.rounds):.0f} GFLOP/s (fp32, 1024 x 1024, one thread)",
        "",
        "GFLOP/s of computed pairs, one thread:",
        "",
        *page.table([*head, "rate at 10 % / dense", "dense time / at 10 %"], rows),
        "",
        f"One token over {DECODED:,} keys, by the cache they lie in:",
        "",
        *page.table(["cache", "ms", "error"], decode_rows(options.rounds)),
    ]


def decode_rows(rounds: int) -> list[list[str]]:
    """Milliseconds of one layer's decode, and how far it is from that of an fp32 cache."""
    blocks = DECODED // PAGE
    layout = Layout.of(torch.randperm(blocks).int()[None].numpy(), [DECODED - 1], [1], PAGE, "cpu")
    slabs, q = torch.randn(2, blocks, PAGE, K, D), torch.randn(1, H, D)
    codes, scales = encode(slabs)
    kept: dict[str, tuple[Tensor, Scales | None]] = {
        "fp32": (slabs, None),
        "bf16": (slabs.bfloat16(), None),
        "int8": (codes, (scales[0], scales[1])),
    }
    sides = {
        name: partial(kernels.paged, q, pair[0], pair[1], layout, scales=scale)
        for name, (pair, scale) in kept.items()
    }
    spent, truth = least(sides, 3 * rounds), sides["fp32"]()
    errors = {name: (side() - truth).norm() / truth.norm() for name, side in sides.items()}
    return [[name, f"{1000 * spent[name]:.1f}", f"{errors[name]:.1%}"] for name in sides]


def prefill_row(keys: int, queries: int, rounds: int) -> list[str]:
    """One line of the table; the last queries of the keys, in pages of PAGE in any order."""
    slabs = torch.randn(2, keys // PAGE, PAGE, K, D)
    pages = Pages(slabs[0], slabs[1], torch.randperm(keys // PAGE).int())
    q, place = torch.randn(queries, H, D), keys - queries
    sides: dict[str, Callable[[], object]] = {
        "sdpa": partial(whole, sdpa_after, q, pages),
        "gathered": partial(whole, flash_after, q, pages),
        "dense": partial(flash.paged, q, pages, place, 0, keys),
    }
    pairs = dict.fromkeys(sides, queries * (place + keys + 1) / 2)
    for share in SHARES:
        lists = some_blocks(place, queries, share)
        sides[str(share)] = partial(flash.paged, q, pages, place, 0, keys, lists)
        listed = kernels.tile() * len(lists.firsts) / (len(lists.ends) - 1)  # keys of a list
        pairs[str(share)] = queries * listed
    spent = least(sides, rounds)
    rates = {name: 4 * pairs[name] * H * D / spent[name] / 1e9 for name in sides}
    return [
        f"{keys:,}, {queries:,}",
        *(f"{rate:.0f}" for rate in rates.values()),
        f"{rates['0.1'] / rates['dense']:.2f}",
        f"{spent['dense'] / spent['0.1']:.1f}",
    ]


def some_blocks(place: int, queries: int, share: float) -> Lists:
    """For each block of queries and key head a share of the blocks before it, drawn at random."""
    tile, firsts = kernels.tile(), []
    for query in range(0, queries, tile):
        before = (place + query) // tile
        chosen = torch.rand(K, before).argsort(1)[:, : max(1, round(share * before))]
        firsts += list(tile * chosen.sort(1).values)
    ends = torch.tensor([0, *map(len, firsts)]).cumsum(0)
    return Lists(torch.cat(firsts).int(), ends, K)


def whole(kernel: Kernel, q: Tensor, pages: Pages) -> Tensor:
    """All keys gathered first: what pages spare."""
    keys, values = pages.read(torch.arange(len(pages.table) * PAGE))
    return kernel(q[None], keys[None], values[None])


def flash_after(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The training kernel; the queries are the last of the keys."""
    return flash.forward(q, k, v, flash.whole_rows(q))[0]


def sdpa_after(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """SDPA: a causal mask is of the last queries' shape alone where it is told."""
    mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(k.shape[1] - q.shape[1])
    return kernels.causal(q, k, v, mask[None, None])


def small(options: argparse.Namespace) -> list[str]:
    """The small layers: autograd's own backward of the formulas, by hand in PyTorch, in C++."""
    states = torch.randn(1, options.tokens, C, requires_grad=True)
    weight = torch.ones(C, requires_grad=True)
    cosine, sine = rope.tables(CONFIG, torch.arange(options.tokens)[None])
    q, k = (torch.randn(1, options.tokens, n, D, requires_grad=True) for n in (H, K))
    half = cosine[..., : D // 2], sine[..., D // 2 :]
    wide = torch.randn(2, options.tokens, CONFIG.intermediate_size).requires_grad_().unbind()
    cases: dict[str, tuple[dict[str, Kernel], list[Tensor]]] = {
        "RMSNorm": (
            {
                "formula": plain_norm,
                "fused": partial(fused.rms_norm, eps=EPS, dtype=torch.float32),
                "C++": compiled_norm,
            },
            [states, weight],
        ),
        "rotation": (
            {
                "formula": lambda q, k: both(plain_rotation, q, k, *half),
                "fused": lambda q, k: both(fused.rotate, q, k, cosine, sine),
                "C++": lambda q, k: torch.cat(compiled.rotate(q, k, cosine, sine), 2),
            },
            [q, k],
        ),
        "SwiGLU": (
            {"formula": lambda gate, up: F.silu(gate) * up, "C++": compiled.swiglu},
            [x.detach().requires_grad_() for x in wide],
        ),
    }
    rows = []
    for name, (forms, inputs) in cases.items():
        spent = measure(forms, inputs, 3 * options.rounds)
        told = {side: " + ".join(f"{1000 * x:.2f}" for x in pair) for side, pair in spent.items()}
        ratio = sum(spent["C++"]) / sum(spent["formula"])
        rows.append([name, told["formula"], told.get("fused", ""), told["C++"], f"{ratio:.2f}"])
    head = ["layer", "formula, ms forward + backward", "fused.py", "C++", "C++ / formula"]
    return page.table(head, rows)


def both(turn: Kernel, q: Tensor, k: Tensor, *tables: Tensor) -> Tensor:
    """Queries and keys turned, in one tensor."""
    return torch.cat((turn(q, *tables), turn(k, *tables)), 2)


def compiled_norm(x: Tensor, weight: Tensor) -> Tensor:
    """The model's norm."""
    return compiled.add_rms_norm(x, None, weight, EPS, torch.float32)[1]


def plain_norm(x: Tensor, weight: Tensor) -> Tensor:
    """The formula."""
    return x * (x.square().mean(-1, keepdim=True) + EPS).rsqrt() * weight


def plain_rotation(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """The formula, by tables [B, T, 1, D/2]."""
    first, second = x.chunk(2, -1)
    turned = first * cosine - second * sine, second * cosine + first * sine
    return torch.cat(turned, -1)


def freed(options: argparse.Namespace) -> list[str]:
    """A training step with freed memory kept, and with malloc as it was."""
    settings = {"rows": max(1, options.tokens // CLAIMED), "threads": 1, "dtype": "float32"}
    settings["length"] = min(options.tokens, CLAIMED)
    module = "benchmarks.sides.baiwen_step"
    with Side(module, settings) as keeps, Side(module, settings | {"give_back": True}) as gives:
        rows = take_turns({"kept": keeps, "given back": gives}, options.steps, seconds=180)
    spent = {name: median(row["cpu"] for row in found) for name, found in rows.items()}
    saved = 1 - spent["kept"] / spent["given back"]
    lines = [
        [name, f"{spent[name]:.3f}", f"{found[-1]['memory'] / page.GIB:.2f} GiB"]
        for name, found in rows.items()
    ]
    return [
        *page.table(["freed memory", "CPU s a step, median", "peak memory"], lines),
        "",
        f"keeping it saves {saved:.0%} of a step's CPU time; dist.py claims 3 %",
    ]


def measure(
    kernels: dict[str, Kernel], inputs: list[Tensor], rounds: int
) -> dict[str, tuple[float, float]]:
    """CPU seconds of each kernel's forward and backward pass, the kernels in turn."""
    grad = torch.randn_like(kernels[next(iter(kernels))](*inputs))
    sides: dict[tuple[str, str], Callable[[], object]] = {}
    for name, kernel in kernels.items():
        sides[name, "forward"] = partial(kernel, *inputs)
        sides[name, "whole"] = partial(differentiate, kernel, inputs, grad)
    spent = least(sides, rounds)
    return {
        name: (spent[name, "forward"], spent[name, "whole"] - spent[name, "forward"])
        for name in kernels
    }


def differentiate(kernel: Kernel, inputs: list[Tensor], grad: Tensor) -> object:
    """Both passes."""
    return torch.autograd.grad(kernel(*inputs), inputs, grad)


def matmul_rate(rounds: int) -> float:
    """GFLOP/s of a square matmul."""
    side = 1024
    left, right = torch.randn(2, side, side)
    return 2 * side**3 / least({"matmul": lambda: left @ right}, rounds)["matmul"] / 1e9


def least(sides: Mapping[Name, Callable[[], object]], rounds: int) -> dict[Name, float]:
    """The least CPU seconds of each side over rounds in turn, after one that does not count."""
    spent = alternate(sides, rounds + 1)
    return {name: min(found[1:]).cpu for name, found in spent.items()}


if __name__ == "__main__":
    main()
