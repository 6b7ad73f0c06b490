"""`baiwen chat MODEL`: talk to a model in the terminal, or pipe prompts in, one a line.

    $ baiwen chat runs/tiny/sft
    > What is 12 + 30?
    12 + 30 = 42

    $ printf 'What is 12 + 30?\\n' | baiwen chat runs/tiny/sft --temperature 0

The conversation goes on from line to line. Ctrl-C ends an answer, a second one the chat.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from baiwen import dist, mistakes
from baiwen.engine import pretrained
from baiwen.engine.engine import Engine
from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError

Messages = list[dict[str, Any]]

HELP = """/reset          forget the conversation
/system TEXT    set the system message, and start over
/help           this list
/quit           leave (or Ctrl-D)"""


def main(options: argparse.Namespace) -> None:
    """Load the model, then answer until the input ends."""
    folder = Path(options.model)
    if not folder.is_dir():
        raise UserError(mistakes.missing("model", folder))
    sampling = Sampling(
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        repetition_penalty=options.repetition_penalty,
        max_tokens=options.max_tokens,
        seed=options.seed,
    )
    with dist.session(options.device, options.dtype) as world:
        model, tokenizer = pretrained.load(folder, world.device, world.dtype)
        converse(Engine(model, tokenizer), sampling, options.system)


def converse(engine: Engine, sampling: Sampling, system: str | None) -> None:
    """Read a line, do what it says or answer it, and so on until the input ends."""
    messages = _opening(system)
    for line in _lines():
        command, _, text = line.partition(" ")
        if not command.startswith("/"):
            messages = _answered(engine, sampling, [*messages, {"role": "user", "content": line}])
        elif command == "/reset":
            messages = _opening(system)
        elif command == "/system":
            system = text.strip()
            messages = _opening(system)
        elif command == "/quit":
            return
        else:
            print(HELP)


def _lines() -> Iterator[str]:
    """What the user types, or what is piped in; empty lines are passed over."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if line.strip():
            yield line.strip()


def _opening(system: str | None) -> Messages:
    return [{"role": "system", "content": system}] if system else []


def _answered(engine: Engine, sampling: Sampling, messages: Messages) -> Messages:
    """The conversation with the answer, printed as it comes; without the question if refused."""
    pieces = []
    try:
        for piece in engine.stream(messages, sampling):
            pieces.append(piece)
            print(piece, end="", flush=True)
    except UserError as error:  # too long for the model, most likely: the chat need not end for it
        print(error, file=sys.stderr)
        return messages[:-1]
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
    print()
    return [*messages, {"role": "assistant", "content": "".join(pieces)}]
