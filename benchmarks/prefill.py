"""Reading a prompt against transformers and llama.cpp: tokens a second until the first answer.

    python -m benchmarks.prefill                          # 0.5B shape, prompts of 2K and 8K
    python -m benchmarks.prefill --layers 4               # a sixth of the layers, and of the time
    python -m benchmarks.prefill --llama llama/bin/python

Rates are of the layers there are; the head, which only the last token passes, is always whole.
"""

import argparse
from collections.abc import Iterator
from statistics import median

from benchmarks import page
from benchmarks.decode import LLAMA, OURS, PEER, Rows, heading, measure, rate, told

TARGETS = {2048: 1.3, 8192: 1.7}  # times the rate of transformers


def main() -> None:
    """Measure, print, and write the page when asked."""
    options = arguments()
    works = [f"prefill {length}" for length in options.lengths]
    names = [
        *((f"baiwen {kind}", OURS, kind) for kind in ("bf16", "int8", "int4", "fp32")),
        *((f"transformers {kind}", PEER, kind) for kind in ("bfloat16", "float32")),
    ]
    if options.llama:
        names += [(f"llama.cpp {kind}", LLAMA, kind) for kind in ("BF16", "Q8_0")]
    if options.sides:
        names = [named for named in names if named[0] in options.sides]
    rows = measure(options, names, works, {"together": True})
    table = page.table(
        ["tokens/s: median (best)", *works],
        [[name, *(told(rows[name, work]) for work in works)] for name, _, _ in names],
    )
    body = [*heading(options)[:1], "", *table, "", *page.claims(claims(rows))]
    page.publish("prefill", f"Prefill, {options.shape} shape", body, options.write)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--shape", choices=("0.5b", "tiny"), default="0.5b")
    parser.add_argument("--layers", type=int, help="fewer layers than the shape has")
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 8192], help="of prompts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--llama", help="a Python with llama-cpp-python and gguf")
    parser.add_argument("--sides", nargs="+", help="these alone, as the table names them")
    parser.set_defaults(tokens=1, rate=1.0, prompt=1)
    return parser.parse_args()


def claims(rows: Rows) -> Iterator[tuple[str, str, str, bool]]:
    """Our bf16 against each of transformers' dtypes."""
    for (name, work), found in rows.items():
        if name.startswith("transformers"):
            pairs = zip(rows["baiwen bf16", work], found, strict=True)
            times = median(rate(a) / rate(b) for a, b in pairs)
            target = TARGETS.get(int(work.split()[1]), 1.0)
            yield f"bf16, {work}, of {name}", f">= {target}x", f"{times:.2f}x", times >= target


if __name__ == "__main__":
    main()
