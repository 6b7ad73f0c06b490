"""DPO, prompts shared and the reference on disk, against TRL's `DPOTrainer`; their losses, too.

    python -m venv peers
    peers/bin/pip install torch==2.13.0 transformers==5.23.0 trl==1.16.0 datasets==5.2.0
    python -m benchmarks.dpo --peer-python peers/bin/python

Both sides train the model of `train_step.py` on the same made pairs with one tokenizer, a step in
turn. TRL runs its reference in every step, as it does by default, or has precomputed it; ours has
computed it before (from the second epoch on, or in a second run), or does so within the step (what
a single epoch costs). Before that, both compute the losses of one batch of ids with the same two
models in fp32.
"""

import argparse
import json
import random
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import torch

import baiwen
from baiwen.data import pairs, trees
from baiwen.data.tree import Tree
from baiwen.dist import World
from baiwen.model import weights
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.tokenizer import control, train
from baiwen.train.preference import dpo
from baiwen.train.references import Part, compute
from benchmarks import page
from benchmarks.sft import SYLLABLES, conversation, found_peer
from benchmarks.sides.model import SHAPE, THETA, fill
from benchmarks.train_step import precision
from benchmarks.turns import Figures, Side, ratio, take_turns

OURS, CACHED = "baiwen, reference within the step", "baiwen, reference on disk"
LIVE, READY = "TRL, reference within the step", "TRL, reference precomputed"
FASTER, CLOSE = 1.5, 1e-5  # times the pairs a second; relative difference of losses
ASKED, SAID = 25, 45  # words of a prompt and of an answer: about 74 and 130 tokens
# What TRL calls each of our losses; its IPO is over means.
VARIANTS: dict[str, Figures] = {
    "sigmoid": {},
    "sigmoid_norm": {"normalise": True},
    "ipo": {"variant": "ipo", "normalise": True},
}
BETA = 0.1


def main() -> None:
    """Measure, print, and write the page when asked."""
    options = arguments()
    peer, versions = found_peer(options.peer_python, "dpo")
    settings = vars(options) | {"dtype": precision(options.dtype), "beta": BETA}
    with tempfile.TemporaryDirectory() as folder:
        settings = prepare(Path(folder), settings)
        body = [*compare(settings, peer), "", *agreement(settings, peer)]
    page.publish("dpo", "DPO against TRL", body, options.write, {"of the peer:": versions})


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--peer-python", help="of an environment with trl; default: this one")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--rows", type=int, default=8, help="pairs of a step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6, help="of each side, after the first two")
    parser.add_argument("--seconds", type=float, default=360, help="after which no step is begun")
    parser.add_argument("--pairs", type=int, default=64)
    return parser.parse_args()


def prepare(folder: Path, settings: Figures) -> Figures:
    """Write pairs, the model that trains and a reference that differs, and say where they are."""
    rng = random.Random(0)
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(6000)]

    def said(count: int) -> str:
        return " ".join(rng.choices(words, k=count))

    texts = [[said(count) for count in (ASKED, SAID, SAID)] for _ in range(settings["pairs"])]
    rows = [
        dict(zip(("prompt", "chosen", "rejected"), turns(*text), strict=True)) for text in texts
    ]
    data, model, reference = (folder / name for name in ("pairs.jsonl", "model", "reference"))
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    regular = SHAPE["vocab_size"] - len(control.NAMES)
    tokenizer = train((said(200) for _ in range(400)), regular)
    made = Transformer(ModelConfig(**SHAPE, rope_theta=THETA))
    fill(made)
    baiwen.save(made, tokenizer, model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.01)
    baiwen.save(made, tokenizer, reference)
    return settings | {"data": str(data), "model": str(model), "reference": str(reference)}


def turns(question: str, chosen: str, rejected: str) -> list[list[dict[str, str]]]:
    """A prompt and two answers as messages."""
    asked, better = conversation(question, chosen)
    return [[asked], [better], conversation(question, rejected)[1:]]


def compare(settings: Figures, peer: str) -> list[str]:
    """The four in turn."""
    with ExitStack() as stack:
        made = {
            OURS: Side("benchmarks.sides.baiwen_dpo", settings | {"cached": False}),
            LIVE: Side("benchmarks.sides.trl_dpo", settings | {"cached": False}, peer),
            CACHED: Side("benchmarks.sides.baiwen_dpo", settings | {"cached": True}),
            READY: Side("benchmarks.sides.trl_dpo", settings | {"cached": True}, peer),
        }
        sides = {name: stack.enter_context(side) for name, side in made.items()}
        rows = take_turns(sides, settings["steps"], settings["seconds"])
    head = ["side", "pairs / CPU s", "pairs / s", "tokens computed a step", "peak memory"]
    return [
        f"{settings['rows']} pairs a step, {settings['dtype']}, {settings['threads']} threads that "
        f"sleep; {len(rows[OURS])} steps of each side in turn, medians",
        "",
        *page.table(head, [line(name, found) for name, found in rows.items()]),
        "",
        *page.claims(
            claim
            for ours, theirs in ((OURS, LIVE), (CACHED, READY))
            for claim in verdicts(ours, theirs, rows)
        ),
    ]


def line(name: str, rows: list[Figures]) -> list[str]:
    """A side's line of the table."""
    return [
        name,
        f"{median(row['pairs'] / row['cpu'] for row in rows):.2f}",
        f"{median(row['pairs'] / row['wall'] for row in rows):.2f}",
        f"{median(row['tokens'] for row in rows):,.0f}",
        f"{rows[-1]['memory'] / page.GIB:.2f} GiB",
    ]


def verdicts(
    ours: str, theirs: str, rows: dict[str, list[Figures]]
) -> list[tuple[str, str, str, bool]]:
    """The claims of one of our ways against one of TRL's."""
    told = []
    for clock, unit in (("cpu", "CPU seconds"), ("wall", "wall")):
        faster = ratio(rows[ours], rows[theirs], "pairs", clock)
        claim = f"pairs, {ours.partition(', ')[2]}, {unit}"
        told.append((claim, f">= {FASTER}x", f"{faster:.2f}x", faster >= FASTER))
    return told


def agreement(settings: Figures, peer: str) -> list[str]:
    """The losses of one batch of ids on both sides."""
    found = pairs.read(settings["data"], settings["model"], pairs.Limits(2048, 2**20))
    batch = [found[number] for number in range(settings["rows"])]
    ids = [
        {"prompt_ids": tree.prompt, "chosen_ids": tree.answers[0], "rejected_ids": tree.answers[1]}
        for tree in batch
    ]
    with Side(
        "benchmarks.sides.trl_dpo", settings | {"ids": ids, "variants": [*VARIANTS]}, peer
    ) as side:
        theirs = side.step()["losses"]
    rows = []
    for name, ours in losses(settings, batch).items():
        apart = abs(ours - theirs[name]) / abs(theirs[name])
        rows.append(
            (
                f"loss `{name}`: {ours:.7f} and {theirs[name]:.7f}",
                f"<= {CLOSE}",
                f"{apart:.1e}",
                apart <= CLOSE,
            )
        )
    return page.claims(rows)


@torch.no_grad()
def losses(settings: Figures, batch: list[Tree]) -> dict[str, float]:
    """Ours, each a mean over pairs."""
    world = World(0, 1, torch.device("cpu"), torch.float32)
    model, reference = (weights.load(settings[name]) for name in ("model", "reference"))
    placed = [
        Tree(tree.prompt, tree.answers, values={"place": [2 * i, 2 * i + 1]})
        for i, tree in enumerate(batch)
    ]
    [micro] = trees.batches(placed, 2**20, count="trees")
    micro.values["ref_logprobs"] = compute(
        reference, Part("", 2 * len(batch), lambda: [micro]), world
    )
    outputs = model(micro.tokens, positions=micro.positions, documents=micro.documents)
    found = {name: dpo(outputs, micro, beta=BETA, **knobs) for name, knobs in VARIANTS.items()}
    return {name: loss.total.item() / loss.count for name, loss in found.items()}


if __name__ == "__main__":
    main()
