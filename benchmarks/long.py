"""The tiny ladder of lengths, from raw text to 8,192 tokens: its time, and where the key is found.

    python -m benchmarks.long                            # recipes/long, in a fresh folder
    python -m benchmarks.long --recipes PATH

What each stage adds is told within 2,048 tokens, what is trained; four ways to read on from there
are set side by side on the same prompts.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from baiwen import files
from baiwen.engine import pretrained, recall
from baiwen.engine.reach import Extend, Reach
from baiwen.model.sparse import Sparse
from benchmarks import page
from benchmarks.tiny import recipes, run, seconds
from benchmarks.turns import ROOT

MINUTES, FOUND = 20, 0.9  # the targets
LENGTH = (
    8192  # at which the pass key is to be found, by a model that was trained at a quarter of it
)
TEXTS = 3  # on which sparse prefill is measured
PLAIN, BEST = "plain", "dca-yarn"  # models of recipes/long/15-beyond.toml


def main() -> None:
    """Run, print, and write the page when asked."""
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        wall, _ = run(options, Path(folder))
        body = [*told(Path(folder), recipes(options.recipes), wall), *sparsely(Path(folder))]
    page.publish("long", "The tiny ladder of lengths", body, options.write)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--recipes", type=Path, default=ROOT / "recipes" / "long")
    parser.add_argument("overrides", nargs="*", help="key=value, for `baiwen run`")
    return parser.parse_args()


def told(folder: Path, recipes: list[dict[str, Any]], wall: float) -> list[str]:
    """The time by stage, the pass keys found by length, and the claims."""
    rows = [[recipe["out"], f"{seconds(folder / recipe['out']):.1f}"] for recipe in recipes]
    scored = [recipe["out"] for recipe in recipes if recipe["stage"] == "evaluate"]
    shares = [found(folder / out / "scores.json") for out in scored]
    return [
        *page.table(["run folder", "wall s"], [*rows, ["the whole command", f"{wall:.1f}"]]),
        *(line for by_model in shares for line in ["", *grid(by_model)]),
        "",
        *page.claims(
            [
                ("wall time", f"<= {MINUTES} min", f"{wall / 60:.1f} min", wall <= 60 * MINUTES),
                claim(shares[-1]),
            ]
        ),
    ]


def sparsely(folder: Path) -> list[str]:
    """What sparse prefill holds of the attention of held-out texts, and how often it agrees."""
    model, tokenizer = pretrained.load(folder / "runs/long/2048", dtype=torch.float32)
    documents = files.read_jsonl(folder / "runs/long/data/heldout.jsonl.zst")
    ids = tokenizer.encode("\n\n".join(row["text"] for row in documents))
    texts = [ids[first : first + LENGTH] for first in range(0, len(ids) - LENGTH, LENGTH)][:TEXTS]
    reach = Reach.of(model.config, LENGTH, Extend(rope="yarn"))
    rows, claims = [], []
    for mass in (0.9, 0.95, 0.98):
        knobs = Sparse(threshold=1, chunk=2048, mass=mass)
        every = [recall.measure(model, text, knobs, reach) for text in texts]
        mean, density, same = (
            sum(getattr(one, name) for one in every) / len(every)
            for name in ("mean", "density", "agreement")
        )
        lowest = min(one.lowest for one in every)
        rows.append([f"{mass}", f"{mean:.3f}", f"{lowest:.3f}", f"{same:.2%}", f"{density:.0%}"])
        claims += [
            (f"mass {mass}: attention recall, mean", ">= 0.95", f"{mean:.3f}", mean >= 0.95),
            (f"mass {mass}: next-token agreement", ">= 98 %", f"{same:.2%}", same >= 0.98),
        ]
    head = ["mass asked", "recall, mean", "of the lowest layer", "same next token", "keys seen"]
    return [
        "",
        f"Sparse prefill of {len(texts)} held-out texts of {LENGTH:,} tokens:",
        "",
        *page.table(head, rows),
        "",
        *page.claims(claims),
    ]


def found(path: Path) -> dict[str, dict[int, float]]:
    """The share of pass keys that each model finds, by length in tokens."""
    models = json.loads(path.read_text(encoding="utf-8"))["models"]
    return {
        name: {
            int(length): marks["strict"]["value"]
            for length, marks in model["long"]["tasks"]["passkey"]["lengths"].items()
        }
        for name, model in models.items()
    }


def grid(by_model: dict[str, dict[int, float]]) -> list[str]:
    """A row a model, a column a length."""
    lengths = list(next(iter(by_model.values())))
    rows = [[name, *(f"{share[n]:.0%}" for n in lengths)] for name, share in by_model.items()]
    return page.table(["pass keys found", *(f"{n:,} tokens" for n in lengths)], rows)


def claim(by_model: dict[str, dict[int, float]]) -> tuple[str, str, str, bool]:
    """The key at four times the trained length, against plain rotations."""
    plain, best = (by_model[name][LENGTH] for name in (PLAIN, BEST))
    return (
        f"pass keys found at {LENGTH:,} tokens, trained at 2,048",
        f">= {FOUND:.0%}, and more than plain rotations",
        f"{best:.0%} (plain {plain:.0%})",
        best >= FOUND and best > plain,
    )


if __name__ == "__main__":
    main()
