"""A training step against the one that one writes with transformers: same model, weights, tokens.

    python -m benchmarks.train_step                      # 8 x 512 tokens, the machine's dtype
    python -m benchmarks.train_step --dtype bfloat16 --steps 3
    python -m benchmarks.train_step --share              # where the time of our step goes

Both sides train 9,969,920 parameters (`sides/model.py`) with fused AdamW and clipping at 1.0, each
in a process of its own, a step in turn; that their losses agree is checked. bfloat16 is autocast
over fp32 weights on both sides; auto is what a training stage chooses on this CPU.
"""

import argparse
import sys
from collections.abc import Sequence
from statistics import median

from baiwen.dist import fast_bf16
from benchmarks import page
from benchmarks.turns import Figures, Side, ratio, take_turns

OURS, PEER = "baiwen", "transformers"
FASTER = 1.5  # the target: times the peer's rate
# Losses of the first counted step differ by rounding alone; of 8.3, about ln(4096).
TOLERANCE = {"float32": 1e-3, "bfloat16": 3e-2}


def main() -> None:
    """Measure, print, and write the page when asked."""
    options = arguments()
    settings = vars(options) | {"dtype": precision(options.dtype)}
    if options.share:
        page.publish("share", "Where a training step goes", shares(settings), options.write)
    else:
        title = "Training step against transformers"
        name = "train_step_spin" if options.spin else "train_step"
        page.publish(name, title, compare(settings), options.write)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=512, help="tokens of a row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--spin",
        action="store_true",
        help="let threads spin for a moment before they sleep, as a plain run does: for wall time",
    )
    parser.add_argument("--steps", type=int, default=12, help="of each side, after the first two")
    parser.add_argument("--seconds", type=float, default=300, help="after which no step is begun")
    parser.add_argument("--share", action="store_true", help="profile our step instead")
    return parser.parse_args()


def precision(name: str) -> str:
    """The dtype, where auto is what `dist.session` chooses on a CPU."""
    if name == "auto":
        return "bfloat16" if fast_bf16() else "float32"
    return name


def compare(settings: Figures) -> list[str]:
    """Both sides in turn."""
    with (
        Side("benchmarks.sides.baiwen_step", settings) as ours,
        Side("benchmarks.sides.transformers_step", settings) as peer,
    ):
        rows = take_turns({OURS: ours, PEER: peer}, settings["steps"], settings["seconds"])
    check(rows[OURS][0]["loss"], rows[PEER][0]["loss"], TOLERANCE[settings["dtype"]])
    head = ["side", "CPU s a step (best)", "wall s a step (best)", "tokens / CPU s", "tokens / s"]
    table = page.table([*head, "peak memory"], [line(name, found) for name, found in rows.items()])
    return [
        f"{shape(settings)}; {len(rows[OURS])} steps of each side in turn, medians; "
        f"first counted loss {rows[OURS][0]['loss']:.4f} and {rows[PEER][0]['loss']:.4f}",
        "",
        *table,
        "",
        *page.claims(verdicts(rows[OURS], rows[PEER])),
    ]


def shape(settings: Figures) -> str:
    """What is computed, in a line."""
    return (
        f"{settings['rows']} x {settings['length']} tokens a step, {settings['dtype']}, "
        f"{settings['threads']} threads that {'spin, then ' if settings.get('spin') else ''}sleep"
    )


def check(ours: float, theirs: float, tolerance: float) -> None:
    """Stop where the two sides do not do the same work."""
    if not abs(ours - theirs) <= tolerance:
        sys.exit(f"the sides train differently: losses {ours:.4f} and {theirs:.4f}")


def line(name: str, rows: Sequence[Figures]) -> list[str]:
    """A side's line of the table."""
    cpu, wall = ([row[clock] for row in rows] for clock in ("cpu", "wall"))
    tokens = rows[0]["tokens"]
    return [
        name,
        f"{median(cpu):.3f} ({min(cpu):.3f})",
        f"{median(wall):.3f} ({min(wall):.3f})",
        f"{tokens / median(cpu):,.0f}",
        f"{tokens / median(wall):,.0f}",
        f"{rows[-1]['memory'] / page.GIB:.2f} GiB",
    ]


def verdicts(ours: list[Figures], theirs: list[Figures]) -> list[tuple[str, str, str, bool]]:
    """The claims, each with its target and whether it holds."""
    rows = []
    for clock, told in (("cpu", "CPU seconds"), ("wall", "wall")):
        faster = ratio(ours, theirs, "tokens", clock)
        rows.append((f"rate, {told}", f">= {FASTER}x", f"{faster:.2f}x", faster >= FASTER))
    memory = ours[-1]["memory"] / theirs[-1]["memory"]
    return [*rows, ("peak memory", "<= 1x", f"{memory:.2f}x", memory <= 1)]


def shares(settings: Figures) -> list[str]:
    """Our step by kind of operation."""
    profiled = settings | {"profiled": settings["steps"]}
    with Side("benchmarks.sides.baiwen_shares", profiled) as ours:
        seconds = ours.step()["seconds"]
    whole = sum(seconds.values())
    outside = 1 - (seconds["matmul"] + seconds["attention"]) / whole
    rows = [
        (name, f"{1000 * spent / settings['steps']:.1f}", f"{spent / whole:.1%}")
        for name, spent in seconds.items()
    ]
    return [
        f"{shape(settings)}; {settings['steps']} steps under torch.profiler",
        "",
        *page.table(["part of our step", "ms a step", "share"], rows),
        "",
        f"outside matmul and attention: {outside:.1%}",
    ]


if __name__ == "__main__":
    main()
