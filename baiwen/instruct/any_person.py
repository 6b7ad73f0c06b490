"""A person, made up, as a JSON object: many answers are right, and a schema can tell.

    Invent a pilot from Oslo who is over 40, as JSON with name, age, city.
    {"name": "Eva", "age": 62, "city": "Oslo"}

The age has a bound and the name is free; a key that was not asked for is wrong. A kind of few
demonstrations in `recipes/tiny`, which online RL goes on with.
"""

import json
from random import Random
from typing import Any

from baiwen.instruct.task import Task
from baiwen.instruct.words import CITIES, JOBS, NAMES

# Difficulty: how many keys are asked for, the age among them, and the bounds of ages.
FEWEST, MOST = 2, 4
YOUNGEST, OLDEST = 10, 99
BOUNDS = 20, 80
ALIVE = 120  # the oldest that counts

PHRASINGS = (
    "Invent a {job} from {city} {age}, as JSON with {keys}.",
    "Make up a {job} from {city} {age}. Give JSON with {keys}.",
    "JSON with {keys} of a {job} from {city} {age}, made up.",
)
ABOVE = ("older than {}", "who is over {}")
BELOW = ("younger than {}", "who is under {}")


def produce(rng: Random) -> Task:
    """A city, a job, a bound of the age, and which keys to write in some order."""
    older, bound = rng.random() < 0.5, rng.randint(*BOUNDS)
    job, city = rng.choice(JOBS), rng.choice(CITIES)
    keys = ["age", *rng.sample(["name", "city", "job"], rng.randint(FEWEST, MOST) - 1)]
    rng.shuffle(keys)
    low, high = (bound + 1, ALIVE) if older else (0, bound - 1)
    shown = rng.randint(max(low, YOUNGEST), min(high, OLDEST))
    person = {"name": rng.choice(NAMES), "age": shown, "city": city, "job": job}
    age = rng.choice(ABOVE if older else BELOW).format(bound)
    return Task(
        kind="any_person",
        prompt=rng.choice(PHRASINGS).format(job=job, city=city, age=age, keys=", ".join(keys)),
        reply=json.dumps({key: person[key] for key in keys}),
        answer=schema(keys, job, city, low, high),
        verifier="schema",
        key=f"{job} {city} {low} {high} {' '.join(sorted(keys))}",
    )


def schema(keys: list[str], job: str, city: str, low: int, high: int) -> dict[str, Any]:
    """What every such person meets."""
    fields = {
        "name": {"type": "string", "pattern": "^[A-Z][a-z]+$"},
        "age": {"type": "integer", "minimum": low, "maximum": high},
        "city": {"const": city},
        "job": {"const": job},
    }
    return {
        "type": "object",
        "properties": {key: fields[key] for key in keys},
        "required": keys,
        "additionalProperties": False,
    }
