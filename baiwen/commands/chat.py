"""`baiwen chat MODEL`: talk to a model in the terminal, or pipe prompts in, one a line.

    $ baiwen chat runs/tiny/sft                      a folder, loaded here
    > What is 12 + 30?
    12 + 30 = 42
    $ baiwen chat http://127.0.0.1:8000              a server that speaks OpenAI's protocol
    $ printf 'What is 12 + 30?\\n' | baiwen chat runs/tiny/sft --temperature 0

The conversation goes on from line to line; /help lists what else can be done. Ctrl-C ends an
answer, a second one the chat. What is piped out is what the model said, to the letter; on a
terminal it is coloured, and stripped of control characters (`terminal.py`).
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TextIO

from baiwen.commands.conversation import (
    COMMANDS,
    HELP,
    Conversation,
    Effect,
    Source,
    is_command,
    obey,
)
from baiwen.commands.remote import Remote
from baiwen.commands.terminal import Editor, Ink, clean
from baiwen.errors import UserError

__all__ = ["HELP", "converse", "main"]
LOADED = (  # options of a model that is loaded here: how far and how it reads
    *("context", "rope", "no_dca", "factors", "kv", "sparse", "sparse_from", "sparse_mass"),
    *("sparse_budget", "sparse_chunk", "patterns"),
)
NEARLY_FULL = 0.8  # of the context, from which the chat says how full it is
SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty", "max_tokens", "seed")
Read = Callable[[str], str | None]


def main(options: argparse.Namespace) -> None:
    """Answer until the input ends."""
    knobs = {name: getattr(options, name) for name in SAMPLING}
    with _source(options) as source:
        talk = Conversation(source, knobs, options.system)
        if not sys.stdin.isatty() or not sys.stdout.isatty():
            return converse(talk, _read)
        size = f", {source.context:,} tokens" if source.context else ""
        _show(f"{source.name}{size}. Alt-Enter breaks the line, /help lists the commands.")
        converse(talk, Editor(list(COMMANDS)).read)


def _source(options: argparse.Namespace) -> AbstractContextManager[Source]:
    if options.model.startswith(("http://", "https://")):
        for name in said(options, LOADED):
            raise UserError(f"--{name.replace('_', '-')} is for a model that is loaded here")
        key = options.api_key or os.environ.get("BAIWEN_API_KEY")
        return nullcontext(Remote(options.model, key))
    # Loading a model takes torch, and seconds; a server is spoken to at once.
    local = importlib.import_module("baiwen.commands.local")
    opened: AbstractContextManager[Source] = local.opened(options)
    return opened


def said(options: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """Those of the options that the command line gives, be it a 0."""
    values = {name: getattr(options, name) for name in names}
    return [name for name, value in values.items() if value is not None and value is not False]


def converse(talk: Conversation, read: Read) -> None:
    """Read a line, do what it says or answer it, and so on until the input ends."""
    draft = ""
    while (line := read(draft)) is not None:
        draft = ""
        question: str | None = line
        if is_command(line):
            effect = _obeyed(talk, line)
            if effect.leave:
                return
            question, draft = effect.ask, effect.draft
        if question:
            _answer(talk, question)


def _obeyed(talk: Conversation, line: str) -> Effect:
    try:
        effect = obey(talk, line)
    except UserError as error:  # a slip of the hand need not end the chat
        _show(str(error), sys.stderr)
        return Effect()
    if effect.told:
        _show(effect.told)
    return effect


def _answer(talk: Conversation, question: str) -> None:
    """Print the answer as it comes; what a server or the engine has against it, too."""
    ink = _ink()
    said = False
    try:
        with closing(talk.ask(question)) as pieces:
            for piece in pieces:
                said = True
                print(ink.feed(piece) if ink else piece, end="", flush=True)
    except UserError as error:  # too long for the model, most likely: the chat need not end for it
        print(ink.finish() if ink else "", end="\n" if said else "")
        _show(str(error), sys.stderr)
        return
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
    print(ink.finish() if ink else "")
    if ink:
        _warn(talk)


def _warn(talk: Conversation) -> None:
    """Say so when the context is nearly full."""
    try:
        used, context = talk.room()
    except UserError:  # a server that does not count tokens; /tokens says why
        return
    if context and used >= NEARLY_FULL * context:
        _show(f"{used:,} of {context:,} tokens are used: /undo or /reset makes room", sys.stderr)


def _ink() -> Ink | None:
    """What makes text fit for the terminal, where one is written to."""
    if not sys.stdout.isatty():
        return None
    return Ink(coloured=not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb")


def _show(text: str, out: TextIO | None = None) -> None:
    """Print a text of ours, which may hold a server's or a model's words."""
    out = out or sys.stdout
    print(clean(text) if out.isatty() else text, file=out)


def _read(draft: str) -> str | None:
    """The next line of what is piped in."""
    del draft
    try:
        return input().strip()
    except EOFError:
        return None
