"""Tools: what is said to a turn of an answer that calls them, in ids, and never in control tokens.

    [tools]
    turns = 4
    python = true                # offers a tool that runs Python in the sandbox

    said = answering(tools, tokenizer)
    said(prompt, turn)           # ids of the outputs and of the next turn's head; []: it calls none

A row of the prompts may declare tools whose answers it brings along, as data:

    {"prompt": [...], "tools": [schema of `weather`],
     "responses": [{"name": "weather", "arguments": {"city": "Rome"}, "content": "21 degrees"}]}

What cannot be called (no JSON, no such tool, other arguments) is told so in the tool's output, and
the answer goes on. Each call of `python` is a program of its own, of which nothing is kept; the
sandbox bounds its time, so no turn waits forever. From any thread.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from baiwen import log
from baiwen.config import Count, Knobs
from baiwen.engine.request import Completion
from baiwen.rl.prompts import Prompt
from baiwen.tokenizer import chat, control
from baiwen.tokenizer.parse import parse
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.verify import sandbox
from baiwen.verify.json_value import equal
from baiwen.verify.sandbox import Limits, Result

WALL = 6  # seconds by the clock, at most, for a second of CPU: a call may wait for its turn

FORM = '{"name": "...", "arguments": {...}}'
PYTHON: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "python",
        "description": "Run a Python program and read what it prints.",
        "parameters": {
            "type": "object",
            "properties": {"code": {"type": "string", "description": "The program"}},
            "required": ["code"],
        },
    },
}


class Tools(Knobs):
    """How an answer may use tools."""

    turns: Count = 1  # of an answer, each of max_tokens at most; 1: no tool is answered
    python: bool = False  # offer every prompt a tool that runs Python, in the sandbox
    calls: Count = 8  # of a turn that are answered; the others are told so
    seconds: Count = 5  # of CPU that a program may take
    output: Count = 2000  # characters of an output that are shown: its head and its tail

    @property
    def offered(self) -> list[Mapping[str, Any]]:
        """Schemas of the tools that every prompt is told of."""
        return [PYTHON] if self.python else []


def answering(tools: Tools, tokenizer: Tokenizer) -> Callable[[Prompt, Completion], list[int]]:
    """What answers a turn.

    UserError where programs are to be run and no sandbox works on this machine.
    """
    if tools.python:
        log.say(f"python runs in the sandbox, at level {sandbox.best()}")
    return partial(_said, tools, tokenizer)


def _said(tools: Tools, tokenizer: Tokenizer, prompt: Prompt, turn: Completion) -> list[int]:
    """The ids that follow a turn; none where it calls nothing, or does not end as a turn does."""
    if turn.ids[-1:] != [tokenizer.end_of_turn]:
        return []
    outputs = _outputs(tools, prompt, turn.text)
    return tokenizer.assemble(chat.reply(outputs)) if outputs else []


def _outputs(tools: Tools, prompt: Prompt, text: str) -> list[str]:
    """An output for each call in a turn's text, in order, or one that says why a call is none."""
    calls = parse(text).tool_calls
    if not calls and control.TOOL_CALL in text:
        return [f"error: no call could be read; it is JSON within the tags: {FORM}"]
    found = [_output(tools, prompt, call) for call in calls[: tools.calls]]
    found += [f"error: a turn may call {tools.calls} tools"] * (len(calls) - tools.calls)
    return [_shown(output, tools.output) for output in found]


def _output(tools: Tools, prompt: Prompt, call: Mapping[str, Any]) -> str:
    """What one call gives: of the sandbox, or of the row."""
    name, arguments = call["name"], call["arguments"]
    if tools.python and name == "python":
        code = arguments.get("code")
        if not isinstance(code, str) or len(arguments) != 1:
            return 'error: python takes {"code": text}'
        limits = Limits(cpu=tools.seconds, wall=float(WALL * tools.seconds))
        return _printed(sandbox.run(code, limits=limits))
    answers = [answer for answer in prompt.responses if answer["name"] == name]
    if not answers:
        known = {answer["name"]: None for answer in prompt.responses}
        names = ", ".join([*(["python"] if tools.python else []), *known]) or "none"
        return f"error: there is no tool {name}; there are: {names}"
    found = (answer["content"] for answer in answers if equal(answer["arguments"], arguments))
    return next(found, f"error: {name} has no answer to these arguments")


def _printed(result: Result) -> str:
    """What a program has written, and how it ended if not well."""
    text = result.stdout.decode(errors="replace")
    if result.limit is not None:
        return f"{text}error: the program was ended: too much {result.limit}"
    return text if result.done else text + result.stderr.decode(errors="replace")


def _shown(text: str, most: int) -> str:
    """Whole characters, at most `most` of them and a note: the head and the tail of a long text."""
    text = text.encode(errors="replace").decode().strip("\n")
    if len(text) <= most:
        return text
    head, tail = text[: most - most // 2], text[len(text) - most // 2 :]
    return f"{head}\n[{len(text) - most:,} characters left out]\n{tail}"
