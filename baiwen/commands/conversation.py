"""A conversation in the terminal: what was said, how answers are drawn, what /commands do to both.

    talk = Conversation(source, {"temperature": 0.7}, system="Be short.")
    "".join(talk.ask("What is 12 + 30?"))     the answer, piece by piece; both stay in `messages`
    obey(talk, "/set temperature 0.2")        Effect(told="temperature = 0.2")

Nothing here reads or writes a terminal: `chat.py` does, and shows what an Effect says.
"""

import re
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from baiwen import files
from baiwen.errors import UserError
from baiwen.mistakes import nearest

Messages = list[dict[str, Any]]
Knobs = dict[str, Any]  # how answers are drawn, by the field names of `Sampling`

KNOBS: dict[str, Callable[[str], Any]] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "repetition_penalty": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "max_tokens": int,
    "seed": lambda text: None if text == "none" else int(text),
}
ROLES = {"system", "user", "assistant", "tool"}


class Source(Protocol):
    """Where answers come from: a model in this process, or a server."""

    name: str
    context: int | None  # tokens of a conversation; None: not known

    def stream(self, messages: Messages, knobs: Knobs) -> Generator[str]:
        """The next answer in pieces; closing it ends the work."""

    def count(self, messages: Messages) -> int:
        """The tokens of a conversation, with the head of the next answer."""

    def check(self, knobs: Knobs) -> None:
        """UserError where answers cannot be drawn so."""


class Conversation:
    """What was said, with the system message first where there is one."""

    def __init__(self, source: Source, knobs: Knobs, system: str | None = None) -> None:
        source.check(knobs)
        self.source, self.knobs, self.system = source, knobs, system
        self.messages: Messages = []
        self.files: set[Path] = set()  # saved or loaded here, so they may be written again
        self.reset()

    def reset(self) -> None:
        """Forget all but the system message."""
        self.messages = [{"role": "system", "content": self.system}] if self.system else []

    def ask(self, question: str) -> Generator[str]:
        """The answer in pieces. Left early, it stays as far as it came; refused, nothing does."""
        messages = [*self.messages, {"role": "user", "content": question}]
        pieces: list[str] = []
        answered = False
        try:
            with closing(self.source.stream(messages, self.knobs)) as stream:
                for piece in stream:
                    pieces.append(piece)
                    yield piece
            answered = True
        finally:
            if pieces or answered:
                self.messages = [*messages, {"role": "assistant", "content": "".join(pieces)}]

    def undo(self) -> str | None:
        """Take back the last question with its answer, and return it; None where there is none."""
        places = [at for at, said in enumerate(self.messages) if said["role"] == "user"]
        if not places:
            return None
        question = self.messages[places[-1]]["content"]
        del self.messages[places[-1] :]
        return str(question)

    def room(self) -> tuple[int, int | None]:
        """The tokens used, and those that the model takes."""
        return self.source.count(self.messages) if self.messages else 0, self.source.context


@dataclass(frozen=True)
class Effect:
    """What a command wants done next."""

    told: str = ""  # shown to the person
    ask: str | None = None  # a question to put now
    draft: str = ""  # put into the input line, to be edited
    leave: bool = False


class Command(NamedTuple):
    """A command: what follows its name, what it does, and the function that does it."""

    usage: str
    told: str
    run: Callable[[Conversation, str], Effect]


def obey(talk: Conversation, line: str) -> Effect:
    """Run the command of a line that `is_command`; UserError names the nearest where it is none."""
    name, _, text = line[1:].partition(" ")
    command = COMMANDS.get(ALIASES.get(name, name))
    if command is None:
        raise UserError(f"there is no /{name}.{nearest(name, list(COMMANDS))} /help lists them all")
    return command.run(talk, text.strip())


def is_command(line: str) -> bool:
    """Whether a line is a command, known or not; `/etc/hosts` is none."""
    return re.match(r"/[a-z?]+(\s|$)", line) is not None


def _help(talk: Conversation, text: str) -> Effect:
    del talk, text
    return Effect(HELP)


def _reset(talk: Conversation, text: str) -> Effect:
    del text
    talk.reset()
    return Effect()


def _system(talk: Conversation, text: str) -> Effect:
    if not text:
        return Effect(f"system: {talk.system or 'that of the model'}")
    talk.system = None if text == "none" else text
    talk.reset()
    return Effect()


def _undo(talk: Conversation, text: str) -> Effect:
    del text
    question = talk.undo()
    return Effect("nothing was asked yet" if question is None else f"taken back: {question}")


def _retry(talk: Conversation, text: str) -> Effect:
    del text
    question = talk.undo()
    return Effect("nothing was asked yet") if question is None else Effect(ask=question)


def _edit(talk: Conversation, text: str) -> Effect:
    question = talk.undo()
    if question is None:
        return Effect("nothing was asked yet")
    return Effect(ask=text) if text else Effect(draft=question)


def _set(talk: Conversation, text: str) -> Effect:
    if not text:
        return Effect("\n".join(f"{name} = {talk.knobs.get(name)}" for name in KNOBS))
    name, _, value = text.replace("=", " ").partition(" ")
    name, value = name.replace("-", "_"), value.strip()
    if name not in KNOBS:
        raise UserError(f"{name} cannot be set.{nearest(name, list(KNOBS))} /set lists what can")
    try:
        knobs = {**talk.knobs, name: KNOBS[name](value)}
    except ValueError as error:
        raise UserError(f"{name} is a number, as in /set {name} 1; {value!r} is none") from error
    talk.source.check(knobs)
    talk.knobs = knobs
    return Effect(f"{name} = {knobs[name]}")


def _tokens(talk: Conversation, text: str) -> Effect:
    del text
    used, context = talk.room()
    return Effect(f"{used:,} tokens" if context is None else f"{used:,} of {context:,} tokens")


def _history(talk: Conversation, text: str) -> Effect:
    del text
    said = [f"{message['role']}: {message['content']}" for message in talk.messages]
    return Effect("\n".join(said) or "nothing was asked yet")


def _save(talk: Conversation, text: str) -> Effect:
    path = _path(text, "save")
    if path.exists() and path not in talk.files:
        raise UserError(f"{path} is there already: save under another name, or remove it")
    if path.suffix == ".md":
        parts = [f"**{said['role']}**\n\n{said['content']}" for said in talk.messages]
        files.write(path, "\n\n".join(parts) + "\n")
    else:
        files.write_json(path, {"messages": talk.messages})
    talk.files.add(path)
    return Effect(f"saved: {path}")


def _load(talk: Conversation, text: str) -> Effect:
    path = _path(text, "load")
    loaded = files.read_json(path)
    said = loaded.get("messages") if isinstance(loaded, dict) else loaded
    if not isinstance(said, list) or not said or not all(map(_is_message, said)):
        raise UserError(f"{path} holds no conversation: an object with `messages` was expected")
    talk.messages = said
    talk.system = said[0]["content"] if said[0]["role"] == "system" else None
    talk.files.add(path)
    return Effect(f"{sum(message['role'] == 'user' for message in said)} questions: {path}")


def _path(text: str, command: str) -> Path:
    if not text:
        raise UserError(f"give a file, as in /{command} talk.json")
    return Path(text).expanduser().absolute()


def _is_message(said: object) -> bool:
    return (
        isinstance(said, dict)
        and said.get("role") in ROLES
        and isinstance(said.get("content") or "", str)
    )


def _quit(talk: Conversation, text: str) -> Effect:
    del talk, text
    return Effect(leave=True)


COMMANDS = {
    "help": Command("", "this list", _help),
    "reset": Command("", "forget the conversation", _reset),
    "system": Command("TEXT", "set the system message (none: the model's), start over", _system),
    "undo": Command("", "take back the last question and its answer", _undo),
    "retry": Command("", "answer the last question again", _retry),
    "edit": Command("[TEXT]", "change the last question, and ask it", _edit),
    "set": Command("[NAME VALUE]", "how answers are drawn, as in /set temperature 0.7", _set),
    "tokens": Command("", "how much of the context is used", _tokens),
    "history": Command("", "what was said", _history),
    "save": Command("FILE", "write what was said: .json (OpenAI's messages) or .md", _save),
    "load": Command("FILE", "go on with a saved conversation", _load),
    "quit": Command("", "leave (or Ctrl-D)", _quit),
}  # fmt: skip
ALIASES = {"?": "help", "new": "reset", "clear": "reset", "exit": "quit", "bye": "quit"}
HELP = "\n".join(
    f"{f'/{name} {command.usage}':<20} {command.told}" for name, command in COMMANDS.items()
)
