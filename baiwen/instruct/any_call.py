"""A tool call that leaves an argument open: many calls are right, and a schema can tell.

    Buy more than 7 of: lamp.
    <tool_call>
    {"name": "buy", "arguments": {"item": "lamp", "count": 12}}
    </tool_call>

The tools are those of `tool_call`. A kind of few demonstrations in `recipes/tiny`, which online RL
goes on with.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from baiwen.instruct import tool_call
from baiwen.instruct.task import Task

# Difficulty: the bounds of hours and counts, and the largest of each that is shown.
HOURS, LATEST = (4, 20), 23
COUNTS, LARGEST = (4, 16), 20

Said = tuple[tuple[str, ...], dict[str, Any]]  # ways to ask, and what the arguments must meet
Arguments = dict[str, Any]


def produce(rng: Random) -> Task:
    """A request that one of the offered tools answers, in more ways than one."""
    tools = rng.sample(list(_REQUESTS), rng.randint(tool_call.FEWEST, tool_call.MOST))
    name = rng.choice(tools)
    shown = tool_call.ARGUMENTS[name](rng)
    phrasings, fields = _REQUESTS[name](rng, shown)
    prompt = rng.choice(phrasings)
    return Task(
        kind="any_call",
        prompt=prompt,
        reply="",
        answer={"name": name, "schema": _schema(fields)},
        verifier="tool_call",
        key=f"{name} {' '.join(map(str, fields.values()))}",
        tools=[tool_call.definition(tool) for tool in tools],
        calls=[{"name": name, "arguments": shown}],
    )


def _alarm(rng: Random, shown: Arguments) -> Said:
    bound, later, minute = rng.randint(*HOURS), rng.random() < 0.5, shown["minute"]
    shown["hour"] = rng.randint(bound, LATEST) if later else rng.randint(1, bound - 1)
    hour = {"minimum": bound, "maximum": LATEST} if later else {"minimum": 0, "maximum": bound - 1}
    when = f"from {bound} o'clock on" if later else f"before {bound} o'clock"
    return (
        f"Set an alarm {when}, {minute} minutes past the hour.",
        f"Wake me {minute} minutes past some hour {when}.",
    ), {"hour": {"type": "integer", **hour}, "minute": {"const": minute}}


def _buy(rng: Random, shown: Arguments) -> Said:
    bound, more, item = rng.randint(*COUNTS), rng.random() < 0.5, shown["item"]
    shown["count"] = rng.randint(bound + 1, LARGEST) if more else rng.randint(1, bound - 1)
    count = {"minimum": bound + 1} if more else {"minimum": 1, "maximum": bound - 1}
    many = f"more than {bound}" if more else f"fewer than {bound}"
    return (
        f"Buy {many} of: {item}.",
        f"Please order {many} times {item}.",
    ), {"item": {"const": item}, "count": {"type": "integer", **count}}


def _weather(rng: Random, shown: Arguments) -> Said:
    cities = rng.sample(tool_call.CITIES, 2)
    shown["city"], day = rng.choice(cities), shown["day"]
    either = f"{cities[0]} or {cities[1]}"
    return (
        f"What is the weather in {either} on {day}?",
        f"Weather for {either}, {day}, please.",
    ), {"city": {"enum": sorted(cities)}, "day": {"const": day}}


def _send(rng: Random, shown: Arguments) -> Said:
    to, word = shown["to"], rng.choice(shown["text"].split())
    return (
        f'Send {to} some words with "{word}" among them.',
        f'Tell {to} something with "{word}" in it.',
    ), {"to": {"const": to}, "text": {"type": "string", "pattern": rf"\b{word}\b"}}


_REQUESTS: dict[str, Callable[[Random, Arguments], Said]] = {
    "alarm": _alarm,
    "buy": _buy,
    "weather": _weather,
    "send": _send,
}


def _schema(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }
