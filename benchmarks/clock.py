"""Seconds of training steps on two ranks against what the cost model of `baiwen plan` says.

    python -m benchmarks.clock --write          # two cores; a few minutes

Two ranks of a thread each are started by torchrun. First each trains alone, both at once: that
tells the share of the matmul rate that a step computes at, the one number of the model that is not
arithmetic. Rates of copies and of gloo's collectives are measured too. Then the model
(`baiwen/train/clock.py`) says what a step of every layout takes, and the ranks take it.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from statistics import median
from typing import Any

from baiwen.model.sizes import SIZES
from baiwen.train.clock import LINKS, Clock
from baiwen.train.devices import Device
from baiwen.train.spread import Spread
from benchmarks import page
from benchmarks.turns import ROOT

RANKS = 2
ITEMSIZE = 4  # of fp32: a CPU without bf16 instructions would measure their absence
# Wide enough that matmuls and exchanges, not calls, take the time; small enough for two cores.
CHANGE = {
    "0.5b": {"num_hidden_layers": 2, "vocab_size": 8192},
    "tiny-moe": {"hidden_size": 384, "num_attention_heads": 6, "num_key_value_heads": 2},
}
LAYOUTS: list[tuple[str, dict[str, int]]] = [
    ("0.5b", {}),
    ("0.5b", {"replicate": 2}),
    ("0.5b", {"tensor": 2}),
    ("0.5b", {"context": 2}),
    ("tiny-moe", {}),
    ("tiny-moe", {"expert": 2}),
]


def main() -> None:
    """Measure, predict, print, and write the page when asked."""
    options = arguments()
    settings = {
        "sizes": list(CHANGE),
        "layouts": LAYOUTS,
        "change": CHANGE,
        "rows": options.rows,
        "length": 512,
        "steps": options.steps,
    }
    found = measured(settings)
    page.publish("clock", "Steps of two ranks, planned", body(found, settings), options.write)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--rows", type=int, default=1, help="of 512 tokens, in a micro-batch")
    parser.add_argument("--steps", type=int, default=5, help="whose fastest counts")
    return parser.parse_args()


def measured(settings: dict[str, Any]) -> dict[str, Any]:
    """What rank 0 told."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={RANKS}", "-m", "benchmarks.sides.baiwen_clock"]
    done = subprocess.run(
        [*command, json.dumps(settings)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def body(found: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """The page's tables."""
    device = Device(
        memory=1.0,  # which is not asked here
        flops=found["flops"],
        hbm=found["copies"] / 1e9,
        link=found["gathers"] / 1e9 / LINKS,  # measured is what a collective reaches
        network=1.0,
        node=RANKS,
        overlap=False,  # gloo's threads want the core that computes
        hop=found["hop"],
        sums=found["sums"] / found["gathers"],
        swaps=found["swaps"] / found["gathers"],
    )
    shares = {size: share(size, found["alone"][size], device, settings) for size in CHANGE}
    rows, errors = [], []
    for (size, parts), seconds in zip(LAYOUTS, found["layouts"], strict=True):
        planned = sum(clock(size, parts, device, shares[size], settings).step(1).values())
        off = planned / seconds - 1
        errors.append(abs(off))
        layout = ", ".join(f"{name} {number}" for name, number in parts.items()) or "shard 2"
        rows.append((size, layout, f"{planned:.2f}", f"{seconds:.2f}", f"{off:+.0%}"))
    told = ", ".join(f"{size} {one:.0%}" for size, one in shares.items())
    return [
        f"{found['flops'] / 1e9:.1f} GFLOP/s of fp32 matmuls a rank, of which a step alone "
        f"computes at {told}; copies {found['copies'] / 1e9:.1f} GB/s; of "
        f"gloo's collectives those that gather {found['gathers'] / 1e9:.2f} GB/s, sum "
        f"{found['sums'] / 1e9:.2f}, swap {found['swaps'] / 1e9:.2f}, and {1e3 * found['hop']:.2f} "
        f"ms however little they carry. Micro-batches of {settings['rows']} x "
        f"{settings['length']} tokens; the fastest of {settings['steps']} steps, of the slower "
        "rank.",
        "",
        *page.table(["size", "layout", "planned s", "measured s", "off"], rows),
        "",
        f"Off by {median(errors):.0%} in the median, {max(errors):.0%} at most.",
    ]


def clock(
    size: str, parts: dict[str, int], device: Device, share: float, settings: dict[str, Any]
) -> Clock:
    """The model of a layout's step."""
    shape = replace(SIZES[size], **CHANGE[size])
    rest = dict(parts)
    replicate = rest.pop("replicate", 1)
    used = replicate * rest.get("tensor", 1) * rest.get("context", 1)
    spread = Spread(shard=RANKS // used, **rest)
    tokens = settings["rows"] * settings["length"]
    return Clock(
        shape, settings["length"], spread, replicate, False, tokens, device, share, ITEMSIZE
    )


def share(size: str, seconds: float, device: Device, settings: dict[str, Any]) -> float:
    """Of the matmul rate, that a rank alone computes at."""
    shape = replace(SIZES[size], **CHANGE[size])
    tokens = settings["rows"] * settings["length"]
    told = Clock(shape, settings["length"], Spread(), 1, False, tokens, device, 1.0, ITEMSIZE).step(
        1
    )
    return told["compute"] / (seconds - told["optimizer"])


if __name__ == "__main__":
    main()
