"""From a sentence to a JSON object with the keys that were asked for, in that order.

    JSON with city, name: Eva, 24, from Oslo, is a pilot.      {"city": "Oslo", "name": "Eva"}

Semi-structured data, as in area 5 of the report's SFT (spec 7).
"""

import json
from random import Random

from baiwen.instruct.task import Task, chinese
from baiwen.instruct.words import CITIES, JOBS, NAMES, ZH_CITIES, ZH_JOBS, ZH_NAMES

# Difficulty: how many keys are asked for.
FEWEST, MOST = 2, 4
OLDEST = 99

ENGLISH = ("Extract {} as JSON: {}", "Write {} as a JSON object.\n{}", "JSON with {}: {}")
CHINESE = ("用JSON写出{}：{}", "提取{}，输出JSON。\n{}")

SENTENCES = (
    "{name} is {age} years old, lives in {city} and works as a {job}.",
    "The {job} {name}, {age}, lives in {city}.",
    "In {city} lives a {job} of {age} whose name is {name}.",
    "{name}, {age}, from {city}, is a {job}.",
)
ZH_SENTENCES = (
    "{name}今年{age}岁，住在{city}，是{job}。",
    "{city}的{job}{name}今年{age}岁。",
    "{name}是{city}的{job}，{age}岁。",
)


def produce(rng: Random) -> Task:
    """A person in one sentence; some of what it says, in the order asked for."""
    in_chinese = chinese(rng)
    person = _person(rng, in_chinese)
    keys = rng.sample(list(person), rng.randint(FEWEST, MOST))
    asked, sentence = ", ".join(keys), rng.choice(ZH_SENTENCES if in_chinese else SENTENCES)
    value = {key: person[key] for key in keys}
    return Task(
        kind="extraction",
        prompt=rng.choice(CHINESE if in_chinese else ENGLISH).format(
            asked, sentence.format(**person)
        ),
        reply=json.dumps(value, ensure_ascii=False),
        answer=value,
        verifier="json_value",
        key=" ".join(map(str, person.values())),
    )


def _person(rng: Random, in_chinese: bool) -> dict[str, str | int]:
    names, cities, jobs = (ZH_NAMES, ZH_CITIES, ZH_JOBS) if in_chinese else (NAMES, CITIES, JOBS)
    return {
        "name": rng.choice(names),
        "age": rng.randint(10, OLDEST),
        "city": rng.choice(cities),
        "job": rng.choice(jobs),
    }
