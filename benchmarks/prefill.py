"""Reading a prompt: against transformers and llama.cpp, and long ones with and without sparsity.

    python -m benchmarks.prefill                          # 0.5B shape, prompts of 2K and 8K
    python -m benchmarks.prefill --layers 4               # a sixth of the layers, and of the time
    python -m benchmarks.prefill --llama llama/bin/python
    python -m benchmarks.prefill --long                   # seconds to the first token, 8K to 128K
    python -m benchmarks.prefill --long --lengths 32768:4 --sides full "sparse 10 %"

Rates are of the layers there are; the head, which only the last token passes, is always whole. With
`--long` a length may say how many layers it is read with; the ratios are of the same layers.
Sparse sides see a fixed share of the blocks before them, whatever they hold: what it costs in
answers is measured on trained models (`long.py`). transformers reads long prompts in fp32, the
best dtype of a CPU without bf16 arithmetic, and, up to 32,768 tokens, in bf16 too, the dtype of
the published weights and so the one that it takes unasked. The memory of keys, values and
activations is set beside the computed figure: activations do not grow with the layers, whose cache
is counted.
"""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from statistics import median

from baiwen.engine.engine import STEP
from baiwen.model import count, kernels
from baiwen.model.config import ModelConfig
from baiwen.model.positions import DualChunk
from baiwen.model.sparse import Sparse
from benchmarks import page
from benchmarks.decode import LLAMA, OURS, PEER, Rows, heading, measure, rate, told
from benchmarks.sides.serving import shape
from benchmarks.turns import Figures, Side

Found = Mapping[int, dict[str, list[Figures]]]  # of each length, by side

TARGETS = {2048: 1.3, 8192: 1.7}  # times the rate of transformers
LONG = {8192: 4, 32768: 2, 65536: 1, 131072: 1}  # layers by length: full attention in minutes
TRANSFORMERS, PLAIN = "transformers", "without a compiler, sparse 10 %"
PUBLISHED = "transformers, bfloat16"  # the dtype of the weights, in which it loads them unasked
PEERS = (TRANSFORMERS, PUBLISHED)
MAIN = ("full", "sparse 10 %", TRANSFORMERS)  # sides of the longest prompts, where none are named
MANY = 32768  # tokens up to which all sides are measured
SIDES: dict[str, dict[str, object]] = {
    "full": {},
    "sparse 10 %": {"sparse": 0.1},
    "sparse 5 %": {"sparse": 0.05},
    "DCA, full": {"dca": True},
    "DCA, sparse 10 %": {"dca": True, "sparse": 0.1},
    PLAIN: {"sparse": 0.1, "native": False},
    TRANSFORMERS: {"weights": "float32"},
    PUBLISHED: {"weights": "bfloat16"},
}
# (a side, tokens, how many times as fast as transformers)
AGAINST = (
    ("full", 8192, 1.6),
    ("full", 32768, 2.0),
    ("sparse 10 %", 32768, 4.5),
    ("sparse 10 %", 65536, 6.0),
    ("sparse 10 %", 131072, 8.0),
    (PLAIN, 32768, 3.5),
)
# (a side, of which other, tokens, how many times as fast)
CLAIMS = (
    ("sparse 10 %", "full", 8192, 1.0),
    ("sparse 10 %", "full", 32768, 2.3),
    ("sparse 10 %", "full", 131072, 4.0),
    *((side, peer, tokens, times) for peer in PEERS for side, tokens, times in AGAINST),
    ("DCA, full", "full", 32768, 1 / 1.1),
    ("DCA, sparse 10 %", "sparse 10 %", 32768, 1 / 1.1),
)


def main() -> None:
    """Measure, print, and write the page when asked."""
    options = arguments()
    if options.long:
        body = long(options)
        page.publish("prefill_long", "Seconds to the first token, 0.5b shape", body, options.write)
    else:
        title = f"Prefill, {options.shape} shape"
        page.publish("prefill", title, short(options), options.write)


def short(options: argparse.Namespace) -> list[str]:
    """Tokens a second of prompts of a few thousand."""
    lengths = list(options.lengths or TARGETS)
    works = [f"prefill {length}" for length in lengths]
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
    return [*heading(options)[:1], "", *table, "", *page.claims(claims(rows))]


def long(options: argparse.Namespace) -> list[str]:
    """Seconds to the first token of long prompts, side by side."""
    lengths = options.lengths or LONG
    found = {length: turns(options, length, lengths[length]) for length in lengths}
    names = [name for name in SIDES if any(name in sides for sides in found.values())]
    rows = [[name, *(seconds(found[length].get(name)) for length in lengths)] for name in names]
    head = [f"{length:,} tokens, {layers} layers" for length, layers in lengths.items()]
    memory = page.table(["side", *head], peaks(found, names, lengths))
    return [
        f"0.5b shape, {options.threads} threads, {options.rounds} rounds; seconds, the median",
        "",
        *page.table(["side", *head], rows),
        "",
        "GiB of memory at the peak (above what a loaded model holds; keys, values and activations",
        "as `model/count.py` computes them):",
        "",
        *memory,
        "",
        *page.claims([*long_claims(found), *memory_claims(found, lengths)]),
    ]


def seconds(rows: list[Figures] | None) -> str:
    """The median of a side's turns, if it had any."""
    return f"{median(row['seconds'] for row in rows):.1f}" if rows else ""


def turns(options: argparse.Namespace, length: int, layers: int) -> dict[str, list[Figures]]:
    """Rounds of one length in which every side reads it once, after a short prompt to warm up."""
    asked = options.sides or (SIDES if length <= MANY else MAIN)
    names = [name for name in SIDES if name in asked]
    works = ["prefill 2048", *[f"prefill {length}"] * options.rounds]
    given = vars(options) | {"works": works, "spin": True, "layers": layers, "together": True}
    rows: dict[str, list[Figures]] = {name: [] for name in names}
    with ExitStack() as stack:
        sides = {}
        for name in names:
            settings = given | {"weights": "bf16", "context": length + 1} | SIDES[name]
            module = PEER if name in PEERS else OURS
            sides[name] = stack.enter_context(Side(f"benchmarks.sides.{module}", settings))
        for work in range(len(works)):
            for name, side in sides.items():
                figures = side.step()
                if work:
                    rows[name].append(figures)
                    print(f"{length:,} tokens, {name}: {figures['seconds']:.1f} s", flush=True)
    return rows


def peaks(found: Found, names: list[str], lengths: Mapping[int, int]) -> list[list[str]]:
    """Most memory that each side has held, in GiB."""
    rows = []
    for name in names:
        cells = []
        for length, layers in lengths.items():
            if name not in found[length]:
                cells.append("")
                continue
            peak = max(row["memory"] for row in found[length][name]) / page.GIB
            grown, figure = grows(found[length][name]), computed(name, length, layers)
            told = f"; {(figure.cache + figure.activations) / page.GIB:.3f}" if figure else ""
            cells.append(f"{peak:.2f} ({grown / page.GIB:.3f}{told})")
        rows.append([name, *cells])
    return rows


def grows(rows: list[Figures]) -> int:
    """Bytes at the peak, above what was held once the model was loaded."""
    return max(int(row["memory"]) - int(row["held"]) for row in rows)


def computed(name: str, length: int, layers: int | None) -> count.Held | None:
    """Keys, values and activations of a side in C++, by `count.inference_memory`."""
    side = SIDES[name]
    if name in (*PEERS, PLAIN):
        return None
    chunks = DualChunk(8192, 512, 8192) if "dca" in side else None
    given = shape({"shape": "0.5b", "layers": layers})
    config = ModelConfig(**given, dual_chunk_attention_config=chunks)
    sparse = "sparse" in side
    step = Sparse().chunk if sparse else STEP["cpu"]
    return count.inference_memory(config, length + 1, step=step, sparse=sparse, tile=kernels.tile())


def memory_claims(found: Found, lengths: Mapping[int, int]) -> Iterator[tuple[str, str, str, bool]]:
    """The longest prompt's memory at all 24 layers: activations as measured in those there are."""
    length = max(lengths)
    for name, rows in found[length].items():
        cut, whole = computed(name, length, lengths[length]), computed(name, length, None)
        if cut and whole:
            measured = grows(rows) - cut.cache + whole.cache
            ratio = measured / (whole.cache + whole.activations)
            told = f"{ratio:.2f}x ({measured / page.GIB:.2f} GiB)"
            what = f"KV + activations of 24 layers, {length:,} tokens, {name}"
            yield what, "within 10 % of computed", told, abs(ratio - 1) <= 0.1


def long_claims(found: Found) -> Iterator[tuple[str, str, str, bool]]:
    """The claims whose sides were there, by the median of the ratios of a round."""
    for ours, other, length, target in CLAIMS:
        rows = found.get(length, {})
        if ours in rows and other in rows:
            pairs = zip(rows[ours], rows[other], strict=True)
            times = median(b["seconds"] / a["seconds"] for a, b in pairs)
            what = f"{ours}, {length:,} tokens, of {other}"
            yield what, f">= {target:.2g}x", f"{times:.2f}x", times >= target


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--shape", choices=("0.5b", "tiny"), default="0.5b")
    parser.add_argument("--layers", type=int, help="fewer layers than the shape has")
    parser.add_argument("--long", action="store_true", help="full against sparse, 8K to 128K")
    parser.add_argument("--lengths", type=length, nargs="+", help="TOKENS or TOKENS:LAYERS")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--llama", help="a Python with llama-cpp-python and gguf")
    parser.add_argument("--sides", nargs="+", help="these alone, as the table names them")
    parser.set_defaults(tokens=1, rate=1.0, prompt=1, vllm=None)
    options = parser.parse_args()
    options.lengths = dict(options.lengths) if options.lengths else None
    return options


def length(word: str) -> tuple[int, int]:
    """`32768:4` -> 32,768 tokens in 4 layers; without layers, as many as `LONG` says, or 4."""
    tokens, _, layers = word.partition(":")
    return int(tokens), int(layers or LONG.get(int(tokens), 4))


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
