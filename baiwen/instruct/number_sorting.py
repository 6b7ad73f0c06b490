"""Numbers in order, up or down.

    Sort these numbers in ascending order: 41, 7, 88      7, 41, 88

They are drawn by reasoning-gym's `number_sorting`.
"""

from functools import cache
from random import Random

import reasoning_gym
from reasoning_gym.dataset import ProceduralDataset

from baiwen.instruct.task import Task, chinese

# Difficulty: how many numbers, and how large.
FEWEST, MOST = 3, 5
LARGEST = 99

ENGLISH = (
    "Sort these numbers in {} order: {}",
    "Put {1} in {0} order.",
    "Write in {} order: {}",
    "Order these numbers, {}: {}",
)
CHINESE = ("把这些数{}排列：{}", "请{}排序：{}")
DIRECTIONS = {"ascending": "从小到大", "descending": "从大到小"}


def produce(rng: Random) -> Task:
    """Two-digit numbers, up or down; the reply is the list alone."""
    item = _lists()[rng.getrandbits(31)]["metadata"]
    direction = item["direction"]
    numbers = [_whole(number) for number in item["original_numbers"]]
    ordered = [_whole(number) for number in item["sorted_numbers"]]
    if chinese(rng):
        prompt = rng.choice(CHINESE).format(DIRECTIONS[direction], ", ".join(numbers))
    else:
        prompt = rng.choice(ENGLISH).format(direction, ", ".join(numbers))
    return Task(
        kind="number_sorting",
        prompt=prompt,
        reply=", ".join(ordered),
        answer=ordered,
        verifier="words",
        key=" ".join(sorted(numbers)),
    )


def _whole(number: str) -> str:
    return str(int(float(number)))  # the generator writes whole numbers as "41.0"


@cache
def _lists() -> ProceduralDataset:
    return reasoning_gym.create_dataset(
        "number_sorting",
        min_numbers=FEWEST,
        max_numbers=MOST,
        min_decimals=0,
        max_decimals=0,
        min_value=0,
        max_value=LARGEST,
        seed=0,
        size=2**31,
    )
