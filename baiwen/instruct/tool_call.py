"""A tool call: of the tools in the system prompt, the right one with the right arguments.

    What is the weather in Oslo on Monday?
    <tool_call>
    {"name": "weather", "arguments": {"city": "Oslo", "day": "Monday"}}
    </tool_call>

The form is the protocol's (spec 2.2).
"""

from collections.abc import Callable
from random import Random
from typing import Any

from baiwen.instruct.task import Task
from baiwen.instruct.words import CITIES, NAMES, NOUNS

# Difficulty: how many tools are offered. Each costs about 35 tokens of prompt.
FEWEST, MOST = 1, 2

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

PHRASINGS = {
    "weather": (
        "What is the weather in {city} on {day}?",
        "Weather for {city}, {day}, please.",
        "{day}里{city}的天气怎么样？",
    ),
    "alarm": (
        "Set an alarm for {hour}:{minute}.",
        "Wake me at {hour}:{minute}.",
        "请在{hour}:{minute}叫醒我。",
    ),
    "buy": ("Buy {count} of: {item}.", "Please order {count} times {item}.", "买{count}个{item}。"),
    "send": ('Send "{text}" to {to}.', 'Tell {to}: "{text}".', "给{to}发“{text}”。"),
}


def produce(rng: Random) -> Task:
    """A request that one of the offered tools answers."""
    offered = rng.sample(list(ARGUMENTS), rng.randint(FEWEST, MOST))
    name = rng.choice(offered)
    arguments = ARGUMENTS[name](rng)
    call = {"name": name, "arguments": arguments}
    return Task(
        kind="tool_call",
        prompt=rng.choice(PHRASINGS[name]).format(**arguments),
        reply="",
        answer=call,
        verifier="tool_call",
        key=f"{name} {' '.join(map(str, arguments.values()))}",
        tools=[definition(tool) for tool in offered],
        calls=[call],
    )


ARGUMENTS: dict[str, Callable[[Random], dict[str, Any]]] = {
    "weather": lambda rng: {"city": rng.choice(CITIES), "day": rng.choice(DAYS)},
    "alarm": lambda rng: {"hour": rng.randint(1, 23), "minute": rng.randint(10, 59)},
    "buy": lambda rng: {"item": rng.choice(NOUNS), "count": rng.randint(2, 20)},
    "send": lambda rng: {"to": rng.choice(NAMES), "text": " ".join(rng.sample(NOUNS, 2))},
}


def definition(name: str) -> dict[str, Any]:
    """The tool as OpenAI's function form has it, its parameters typed by an instance of them."""
    types = {str: "string", int: "integer"}
    properties = {
        argument: {"type": types[type(value)]}
        for argument, value in ARGUMENTS[name](Random(0)).items()
    }
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}
