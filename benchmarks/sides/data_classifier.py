"""A side: Baiwen's classifier scores all documents of a file: six dimensions and twenty domains.

    settings: {"documents": FILE.jsonl, "threads": 1}

It has learned, before its first turn, marks that hashes of the documents give: what a score is does
not matter for its pace, only that there are as many words and heads as in earnest.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from baiwen.data.classifier.features import Features, features
from baiwen.data.classifier.training import Examples, Training, fit
from baiwen.data.criteria import DIMENSIONS, DOMAINS
from baiwen.data.rubric import Rubric
from benchmarks.turns import Turn

RUBRIC = Rubric(DIMENSIONS, DOMAINS)


def main(settings: dict[str, Any]) -> None:
    """All of the documents whenever it is told."""
    lines = Path(settings["documents"]).read_bytes().splitlines()
    texts = pa.array([json.loads(line)["text"] for line in lines], pa.large_string())
    found, rng = features(texts, Features()), np.random.default_rng(0)
    levels = rng.integers(0, 5, (len(texts), len(DIMENSIONS)))
    examples = Examples(found, levels, rng.integers(0, len(DOMAINS), len(texts)))
    made, _ = fit(examples, examples, RUBRIC, Features(), Training(epochs=1))
    turn = Turn()
    while True:
        turn.wait()
        scores = made.scores(texts)
        kept = int(DIMENSIONS[0].good(scores.levels[:, 0]).sum())
        turn.figures = {"documents": len(texts), "kept": kept}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
