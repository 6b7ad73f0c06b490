"""A sparse layer, forward and backward, against that of transformers: same weights, same tokens.

    python -m benchmarks.moe                                     # all shapes, 512 to 8,192 tokens
    python -m benchmarks.moe --shapes "few experts" --tokens 512

The peer has two forms, and both are measured: "loop" over the experts, which a
`Qwen2MoeSparseMoeBlock` by itself runs, and "grouped_mm", which a whole model picks where PyTorch
has it. Each side has a process of its own; they take turns case by case, and the norms of outputs
and gradients are compared. How near a layer comes to the machine's own matmul rate says how much
there is to gain.
"""

import argparse
import sys
from contextlib import ExitStack
from statistics import median

import torch

from benchmarks import page
from benchmarks.sides.mixture import SHAPES, Shape
from benchmarks.train_step import precision
from benchmarks.turns import Figures, Side, alternate, ratio, take_turns

OURS = "baiwen"
PEERS = {"loop": "eager", "grouped_mm": "grouped_mm"}  # ours for it: theirs
FASTER = 2.0  # the target: times the peer's rate
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}  # relative, of norms

Key = tuple[str, int]  # shape and tokens


def main() -> None:
    """Measure, print, and write the page when asked."""
    options = arguments()
    settings = vars(options) | {"dtype": precision(options.dtype)}
    page.publish("moe", "A sparse layer against transformers", compare(settings), options.write)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3, help="of all cases, after the first one")
    parser.add_argument("--seconds", type=float, default=600, help="after which no round is begun")
    return parser.parse_args()


def compare(settings: Figures) -> list[str]:
    """All sides in turn."""
    modules = {OURS: ("baiwen_moe", settings)}
    modules |= {
        name: ("transformers_moe", settings | {"experts": how}) for name, how in PEERS.items()
    }
    cases = len(settings["shapes"]) * len(settings["tokens"])
    with ExitStack() as stack:
        sides = {
            name: stack.enter_context(Side(f"benchmarks.sides.{module}", given))
            for name, (module, given) in modules.items()
        }
        rounds, seconds = settings["rounds"], settings["seconds"]
        rows = take_turns(sides, cases * rounds, seconds, warm=cases)
    found = {name: by_case(some) for name, some in rows.items()}
    for key, ours in found[OURS].items():
        for peer in PEERS:
            check(key, ours[0], found[peer][key][0], TOLERANCE[settings["dtype"]])
    rate = matmul_rate(settings["threads"])
    lines = [
        line(key, {name: some[key] for name, some in found.items()}, rate) for key in found[OURS]
    ]
    head = ["shape", "tokens", "CPU ms", "of the matmul rate", *(f"{p}: CPU ms" for p in PEERS)]
    return [
        f"{settings['dtype']}, {settings['threads']} threads, up to {settings['rounds']} rounds of "
        f"each case, medians of CPU seconds; matmul: {rate:.0f} GFLOP/s (fp32, 1024 x 1024)",
        "",
        *page.table([*head, *(f"times {p}" for p in PEERS)], lines),
        "",
        *page.table(
            ["shape", *Shape._fields], [[name, *SHAPES[name]] for name in settings["shapes"]]
        ),
        "",
        *page.claims(verdicts(found)),
    ]


def by_case(rows: list[Figures]) -> dict[Key, list[Figures]]:
    """The turns of each case."""
    found: dict[Key, list[Figures]] = {}
    for row in rows:
        found.setdefault((row["shape"], row["tokens"]), []).append(row)
    return found


def check(key: Key, ours: Figures, theirs: Figures, tolerance: float) -> None:
    """Stop where two sides do not do the same work."""
    for one, other in zip(ours["norms"], theirs["norms"], strict=True):
        if not abs(one - other) <= tolerance * other:
            sys.exit(f"{key}: the sides differ: norms {ours['norms']} and {theirs['norms']}")


def flops(shape: Shape, tokens: int) -> float:
    """Of the matmuls, forward and backward: 6 for a weight that a token meets."""
    met = 3 * shape.hidden * (shape.chosen * shape.width + shape.shared)
    return 6.0 * tokens * (met + shape.hidden * (shape.experts + 1))


def matmul_rate(threads: int) -> float:
    """GFLOP/s of a large fp32 product by the CPU second: the best of 9."""
    torch.set_num_threads(threads)
    a, b = torch.randn(2, 1024, 1024)
    spent = alternate({"mm": lambda: a @ b}, 9)["mm"]
    return 2 * 1024**3 / min(one.cpu for one in spent) / 1e9


def line(key: Key, sides: dict[str, list[Figures]], rate: float) -> list[str]:
    """One of the table."""
    shape, tokens = key
    spent = {name: median(row["cpu"] for row in rows) for name, rows in sides.items()}
    reached = flops(SHAPES[shape], tokens) / min(row["cpu"] for row in sides[OURS]) / 1e9
    return [
        *(shape, f"{tokens:,}", f"{1000 * spent[OURS]:.0f}", f"{reached / rate:.0%}"),
        *(f"{1000 * spent[peer]:.0f}" for peer in PEERS),
        *(f"{ratio(sides[OURS], sides[peer], 'tokens', 'cpu'):.2f}" for peer in PEERS),
    ]


def verdicts(found: dict[str, dict[Key, list[Figures]]]) -> list[tuple[str, str, str, bool]]:
    """What was claimed, and whether it holds in every case."""
    told = []
    for peer in PEERS:
        times = [
            ratio(ours, found[peer][key], "tokens", "cpu") for key, ours in found[OURS].items()
        ]
        claim = f"tokens a CPU second, times the peer's ({peer}), in every case"
        measured = f"{min(times):.2f} to {max(times):.2f}x"
        told.append((claim, f">= {FASTER}x", measured, min(times) >= FASTER))
    return told


if __name__ == "__main__":
    main()
