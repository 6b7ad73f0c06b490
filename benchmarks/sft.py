"""Supervised fine-tuning, packed, against TRL's `SFTTrainer`, padded and packed.

    python -m venv peers
    peers/bin/pip install torch==2.13.0 transformers==5.23.0 trl==1.16.0 datasets==5.2.0
    python -m benchmarks.sft --peer-python peers/bin/python

All three train the model of `train_step.py` on the same made conversations with one tokenizer, a
step in turn; only what the assistant says is learned. A padded step of TRL holds as many
conversations as a packed one has rows. What counts is real tokens a second: padding is not one.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean, median

from baiwen.tokenizer import control, train
from benchmarks import page
from benchmarks.sides.model import SHAPE
from benchmarks.train_step import precision, shape
from benchmarks.turns import Figures, Side, ratio, take_turns

OURS, PADDED, PACKED = "baiwen, packed", "TRL, padded", "TRL, packed"
TARGETS = {PADDED: 1.2, PACKED: 3.0}  # times the real tokens a second
SYLLABLES = [onset + rest for onset in "bdgklmnprst" for rest in ("a", "e", "in", "or")]
USER, ASSISTANT = (8, 40), (20, 160)  # words that a turn has
PROBE = """
from importlib.metadata import version
import trl
print(*(f"{name} {version(name)}" for name in ("trl", "transformers", "torch")), sep=", ")
"""


def main() -> None:
    """Measure, print, and write the page when asked."""
    options = arguments()
    peer, versions = found_peer(options.peer_python, "sft")
    settings = vars(options) | {"dtype": precision(options.dtype)}
    with tempfile.TemporaryDirectory() as folder:
        body = compare(prepare(Path(folder), settings), peer)
    page.publish("sft", "SFT against TRL", body, options.write, {"of the peer:": versions})


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--peer-python", help="of an environment with trl; default: this one")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=512, help="tokens of a row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="of each side, after the first two")
    parser.add_argument("--seconds", type=float, default=360, help="after which no step is begun")
    parser.add_argument("--conversations", type=int, default=1000)
    return parser.parse_args()


def found_peer(given: str | None, benchmark: str) -> tuple[str, str]:
    """The Python that has TRL, and its versions; ends the benchmark where there is none."""
    peer = str(Path(given or sys.executable).absolute())
    versions = probe(peer)
    if versions is None:
        print(
            f"skipped: {peer} has no TRL; benchmarks/{benchmark}.py says how to get one, then\n"
            f"python -m benchmarks.{benchmark} --peer-python peers/bin/python"
        )
        sys.exit(2 if given else 0)
    return peer, versions


def probe(python: str) -> str | None:
    """The versions that the peer would run with; None where it cannot."""
    found = subprocess.run([python, "-c", PROBE], capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else None


def prepare(folder: Path, settings: Figures) -> Figures:
    """Write conversations and a tokenizer of theirs, and say where they are."""
    rng = random.Random(0)
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(6000)]
    spoken = [
        [" ".join(rng.choices(words, k=rng.randint(*limits))) for limits in (USER, ASSISTANT)]
        for _ in range(settings["conversations"])
    ]
    lines = [json.dumps({"messages": conversation(*turns)}) for turns in spoken]
    data, tokenizer = folder / "conversations.jsonl", folder / "tokenizer"
    data.write_text("\n".join(lines), encoding="utf-8")
    regular = SHAPE["vocab_size"] - len(control.NAMES)
    train(("\n".join(turns) for turns in spoken), regular).save(tokenizer)
    return settings | {"data": str(data), "tokenizer": str(tokenizer)}


def conversation(question: str, answer: str) -> list[dict[str, str]]:
    """One question and its answer."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def compare(settings: Figures, peer: str) -> list[str]:
    """The three in turn."""
    with ExitStack() as stack:
        made = {
            OURS: Side("benchmarks.sides.baiwen_sft", settings),
            PADDED: Side("benchmarks.sides.trl_sft", settings | {"packing": False}, peer),
            PACKED: Side("benchmarks.sides.trl_sft", settings | {"packing": True}, peer),
        }
        sides = {name: stack.enter_context(side) for name, side in made.items()}
        rows = take_turns(sides, settings["steps"], settings["seconds"])
    head = ["side", "real tokens / CPU s", "real tokens / s", "real a step", "padding", "learned"]
    table = page.table([*head, "peak memory"], [line(name, found) for name, found in rows.items()])
    return [
        f"{shape(settings)} at most; {settings['conversations']:,} conversations; "
        f"{len(rows[OURS])} steps of each side in turn, medians",
        "",
        *table,
        "",
        *page.claims(claim for name in TARGETS for claim in verdicts(name, rows)),
    ]


def line(name: str, rows: list[Figures]) -> list[str]:
    """A side's line of the table."""
    real, every, learned = (fmean(row[key] for row in rows) for key in ("real", "all", "learned"))
    return [
        name,
        f"{median(row['real'] / row['cpu'] for row in rows):,.0f}",
        f"{median(row['real'] / row['wall'] for row in rows):,.0f}",
        f"{real:,.0f}",
        f"{1 - real / every:.0%}",
        f"{learned / real:.0%}",
        f"{rows[-1]['memory'] / page.GIB:.2f} GiB",
    ]


def verdicts(name: str, rows: dict[str, list[Figures]]) -> list[tuple[str, str, str, bool]]:
    """The claims against one of TRL's ways."""
    told = []
    for clock, unit in (("cpu", "CPU seconds"), ("wall", "wall")):
        faster = ratio(rows[OURS], rows[name], "real", clock)
        claim = f"real tokens against {name}, {unit}"
        told.append((claim, f">= {TARGETS[name]}x", f"{faster:.2f}x", faster >= TARGETS[name]))
    return told


if __name__ == "__main__":
    main()
