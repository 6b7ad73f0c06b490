"""A side: Baiwen's SFT: conversations packed into rows that keep them apart, one step a turn."""

import json
import sys
from typing import Any

from baiwen.data import conversations
from baiwen.data.loader import Loader, Split
from baiwen.train.meter import steady
from benchmarks.sides.baiwen_step import place, trainer
from benchmarks.turns import Turn


def main(settings: dict[str, Any]) -> None:
    """A step whenever it is told."""
    length, size = settings["length"], settings["rows"] * settings["length"]
    pool = conversations.pool(settings["data"], settings["tokenizer"], length, too_long="truncate")
    loader = Loader([pool], Split(length, tokens_per_step=size, micro_tokens=size))
    with place(settings) as world, steady():
        step = trainer(world)
        turn = Turn()
        number = 0
        while True:
            turn.wait()
            [batch] = loader.step(number)
            number += 1
            learned = int(batch.mask.count_nonzero())
            turn.figures = {"real": batch.real, "all": size, "learned": learned, **step(batch)}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
