"""The terminal of `baiwen chat`: lines in, with editing and history; an answer out, as it comes.

    editor = Editor(commands=["help", "quit"])
    line = editor.read()                     None at the end of the input (Ctrl-D)
    ink = Ink()
    print(ink.feed("a `b"), ink.feed("`"), ink.finish())

Lines are edited by prompt_toolkit: readline has one line only, so a pasted text of ten lines would
become ten questions. What a model says is never trusted with the terminal: control characters do
not pass, and Markdown keeps its marks and is only coloured, so nothing on the screen is redrawn.
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.shortcuts import CompleteStyle

# C0 but for tab and line break, DEL, C1, and what turns the direction of writing (UAX #9).
UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
RESET, BOLD, DIM, CODE = "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[36m"


def clean(text: str) -> str:
    """`text` without what could move a cursor, rename a window or hide what is written."""
    return UNSAFE.sub("", text)


class Ink:
    """Clean text in the colours of Markdown: headings, **bold**, `code` and fenced code."""

    def __init__(self, coloured: bool = True) -> None:
        self._coloured = coloured
        self._held = ""  # marks at the end that may go on
        self._style = RESET
        self._begins = True  # at the start of a line
        self._fenced = False

    def feed(self, text: str) -> str:
        """What of the text can be shown already."""
        if not self._coloured:
            return clean(text)
        text = self._held + clean(text)
        shown = text.rstrip("`*#")
        self._held = text[len(shown) :]
        return self._painted(shown)

    def finish(self) -> str:
        """The rest, and the terminal's own colours again."""
        rest = self._painted(self._held)
        return rest + self._turned(RESET)

    def _painted(self, text: str) -> str:
        return "".join(self._part(part) for part in re.split(r"(\n|`+|\*+|#+)", text) if part)

    def _part(self, part: str) -> str:
        """A run of one mark, a line break, or words."""
        begins, self._begins = self._begins, part == "\n"
        if part == "\n":
            return self._turned(CODE if self._fenced else RESET) + part
        if begins and part.startswith("```"):
            self._fenced = not self._fenced
            return self._turned(DIM) + part
        if self._fenced:
            return part
        if begins and part[0] == "#":
            return self._turned(BOLD) + part
        if part[0] == "`":
            return self._spanned(part, CODE)
        if part == "**" and self._style != CODE:
            return self._spanned(part, BOLD)
        return part

    def _spanned(self, mark: str, style: str) -> str:
        """A mark that opens a style, or closes it."""
        if self._style == style:
            return mark + self._turned(RESET)
        return self._turned(style) + mark

    def _turned(self, style: str) -> str:
        if style == self._style:
            return ""
        self._style = style
        return RESET if style == RESET else RESET + style


class Editor:
    """Reads lines from a terminal: many-lined, with history and completion of /commands."""

    def __init__(self, commands: Sequence[str]) -> None:
        self._session: PromptSession[str] = PromptSession(
            history=_history(),
            completer=_Commands(commands),
            complete_style=CompleteStyle.READLINE_LIKE,
            complete_while_typing=False,
            reserve_space_for_menu=0,
            key_bindings=_keys(),
            multiline=True,
            prompt_continuation="  ",
        )

    def read(self, draft: str = "") -> str | None:
        """The next line, `draft` in it at first; None where the input ends."""
        try:
            return self._session.prompt("> ", default=draft).strip()
        except EOFError:
            return None


class _Commands(Completer):
    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        del event
        text = document.text
        found = [name for name in self._names if f"/{name}".startswith(text)] if text else []
        return [Completion(f"/{name}", start_position=-len(text)) for name in found]


def _keys() -> KeyBindings:
    """Enter sends; Alt-Enter breaks the line; Ctrl-C empties it, then leaves."""
    keys = KeyBindings()

    @keys.add("enter")
    @keys.add("c-j")  # an Enter that was typed while an answer came
    def send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def break_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c")
    def stop(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt)

    return keys


def _history() -> History:
    """Of earlier chats: `$XDG_STATE_HOME/baiwen/chat`, for the user's eyes only."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    path = Path(state).expanduser() / "baiwen" / "chat"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:  # a home that cannot be written to: history lasts as long as the chat
        return InMemoryHistory()
    return FileHistory(path)
