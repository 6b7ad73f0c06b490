"""Memory of training steps against what `baiwen plan` says, each shape in a process of its own.

    python -m benchmarks.memory                 # tiny to 160 million weights; a few minutes
    python -m benchmarks.memory --large         # 0.5b as published, which needs 11 GiB

A side builds the model, does three of the loop's steps with AdamW, and tells the most memory that
it has held (VmHWM). The plan is `estimate.resident` and the memory of the program before it. What
a checkpoint copies is not in it: `plan` tells it apart.
"""

import argparse
from dataclasses import dataclass, field
from typing import Any

from benchmarks import page
from benchmarks.turns import Figures, Side

WITHIN = 0.1  # of what is measured, the target
STEPS = 3


@dataclass(frozen=True)
class Case:
    """A shape, as changes of a size, and how its steps are cut."""

    size: str
    rows: int
    length: int = 512
    micro: int = 1  # micro-batches of a step
    recompute: bool = False
    dtype: str = "float32"
    change: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        changes = [f"{name} {value}" for name, value in self.change.items()]
        more = [f"{self.micro} x {self.rows * self.length:,}", self.dtype]
        return ", ".join([self.size, *changes, *more, *["checkpointing"] * self.recompute])


def _layers(number: int, vocabulary: int = 16_000, tied: bool = True) -> dict[str, Any]:
    return {
        "num_hidden_layers": number,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    }


CASES = (
    Case("tiny", rows=1),
    Case("tiny", rows=16),
    Case("tiny", rows=16, recompute=True),
    Case("tiny", rows=8, dtype="bfloat16"),
    Case("tiny-moe", rows=8),
    Case("tiny-moe", rows=8, micro=2, recompute=True),
    Case("0.5b", rows=1, change=_layers(4)),
    Case("0.5b", rows=2, change=_layers(4)),
    Case("0.5b", rows=2, change=_layers(4), recompute=True),
    Case("0.5b", rows=1, micro=2, change=_layers(4, tied=False)),
    Case("1.5b", rows=1, change=_layers(2)),
)
LARGE = (Case("0.5b", rows=1),)


def main() -> None:
    """Measure, print, and write the page when asked."""
    options = arguments()
    cases = LARGE if options.large else CASES[: options.cases]
    rows = []
    for case in cases:
        found = measured(case, options.threads)
        rows.append((case, found))
        print(f"{case}: {error(found):+.1%}", flush=True)
    name = "memory_large" if options.large else "memory"
    page.publish(name, "Memory of training steps, planned", body(rows), options.write)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--large", action="store_true", help="0.5b as published: 11 GiB")
    parser.add_argument("--cases", type=int, help="only the first so many")
    return parser.parse_args()


def measured(case: Case, threads: int) -> Figures:
    """Planned and measured bytes of a case."""
    settings = vars(case) | {"threads": threads, "steps": STEPS}
    with Side("benchmarks.sides.baiwen_memory", settings) as side:
        return side.step()


def error(found: Figures) -> float:
    """How far the plan is off, as a share of what was measured."""
    return sum(found["planned"].values()) / found["peak"] - 1


def body(rows: list[tuple[Case, Figures]]) -> list[str]:
    """The tables of the page."""
    head = ["shape, tokens", "weights", "planned GiB", "measured GiB", "off"]
    table = [
        (
            str(case),
            f"{found['weights'] / 1e6:.1f} M",
            f"{sum(found['planned'].values()) / page.GIB:.2f}",
            f"{found['peak'] / page.GIB:.2f}",
            f"{error(found):+.1%}",
        )
        for case, found in rows
    ]
    worst = max(abs(error(found)) for _, found in rows)
    claim = ("the plan's memory against the peak", f"within {WITHIN:.0%}", f"{worst:.1%}")
    return [
        f"{STEPS} steps of the training loop with AdamW, each shape in a process of its own; the "
        "peak is VmHWM, the program itself included",
        "",
        *page.table(head, table),
        "",
        *page.claims([(*claim, worst <= WITHIN)]),
    ]


if __name__ == "__main__":
    main()
