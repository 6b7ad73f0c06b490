"""The calls in an answer, read while it comes: words to the content, arguments as they grow.

    calls = CallReader()
    calls.push('Let me see.\\n<tool_call>\\n{"name": "weather", "argu')   [Words("Let me see.")]
    calls.push('ments": {"city": "Ro')         [Begun(0, "weather"), Arguments(0, '{"city": "Ro')]
    calls.push('me"}}\\n</tool_call>')                              [Arguments(0, 'me"}')]

However an answer is cut, the events come to the same: what is not certain yet is held back. Strings
are read as JSON's, so a `</tool_call>` inside one ends nothing. A call in another shape than the
protocol's (a code fence, other quotes, no tag) is held to its end and read by `Tokenizer.parse`'s
rules.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from baiwen.tokenizer.parse import parse

_OPEN = re.compile(r"<tool_call>|<tools>|```(?:json|JSON)?[ \t]*\n")
_OPENINGS = ("<tool_call>", "<tools>", "```json\n", "```JSON\n", "```\n")
_LONGEST = max(map(len, _OPENINGS))  # of an opening and the line break before it, less one
_FENCED = re.compile(r".*?\n?```(?!\w)", re.DOTALL)
_BARE = re.compile(r"""\s*\[?\s*\{\s*["'](?:name|arguments|parameters|function|type)["']""")
_BARE_SIZE = 40  # characters after which a message that opens with a brace has shown what it is
_HEAD = re.compile(r'\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)+")\s*,\s*"arguments"\s*:\s*(?=\{)')
_HEAD_SIZE = 1024  # characters of a head; what is longer is read at its end
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_SPECIAL = re.compile(r'["\\{}\[\]<]')
_CLOSES = ("</tool_call>", "</tools>")


@dataclass(frozen=True)
class Words:
    """More of the content."""

    text: str


@dataclass(frozen=True)
class Begun:
    """A call begins: its number, counted from 0, and the function's name."""

    index: int
    name: str


@dataclass(frozen=True)
class Arguments:
    """More of the JSON text of a call's arguments."""

    index: int
    text: str


Event = Words | Begun | Arguments


class CallReader:
    """Reads one answer; `most` calls are taken, and nothing after them."""

    def __init__(self, most: int | None = None) -> None:
        self.count = 0  # calls so far
        self._most = most
        self._held = ""
        self._opening = ""  # what has opened the block that is being read
        self._depth, self._quoted, self._braced = 0, False, False  # within a call
        self._skipped = 0  # characters of the next text that an escape has used up
        self._events: list[Event] = []
        self._state: Callable[[], bool] = self._start

    @property
    def full(self) -> bool:
        """Has the last call been read that is to be taken?"""
        return self.count == self._most and self._state not in (self._arguments, self._after)

    def push(self, text: str) -> list[Event]:
        """What is certain with `text`."""
        self._held += text
        while self._held and not self.full and self._state():
            pass
        return self._taken()

    def finish(self) -> list[Event]:
        """The rest, when no text follows."""
        if not self.full and self._state in (self._start, self._head, self._fenced):
            self._parse(self._opening + self._held)
        elif not self.full and self._state == self._outside:
            self._words(self._held)
        self._held = ""
        return self._taken()

    def _taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _words(self, text: str) -> None:
        if text and not (self.count and text.isspace()):
            self._events.append(Words(text))

    # States: each reads from what is held and says whether it has come further.

    def _start(self) -> bool:
        """A message that is one JSON value and nothing else may be a call without a tag."""
        opened = self._held.lstrip()
        if opened.startswith(("{", "[")) and (
            len(opened) < _BARE_SIZE or _BARE.match(opened) is not None
        ):
            return False
        if opened:
            self._state = self._outside
        return bool(opened)

    def _outside(self) -> bool:
        opened = _OPEN.search(self._held)
        if opened is None:
            sure = len(self._held) - self._unsure()
            self._words(self._held[:sure])
            self._held = self._held[sure:]
            return False
        before = self._held[: opened.start()]
        self._words(before.removesuffix("\n"))  # which belongs to the call, if it is one
        self._opening = "\n" * before.endswith("\n") + opened[0]
        self._held = self._held[opened.end() :]
        self._state = self._fenced if opened[0].startswith("```") else self._head
        return True

    def _unsure(self) -> int:
        """How many characters at the end may belong to an opening, or be left out at the end."""
        if self.count and self._held.isspace():
            return len(self._held)
        for size in range(min(_LONGEST, len(self._held)), 0, -1):
            tail = self._held[-size:]
            bare = tail.removeprefix("\n")
            if any(opening.startswith(bare) for opening in _OPENINGS):
                return size
        return 0

    def _head(self) -> bool:
        """`{"name": ..., "arguments": `, or something else that is no call, or one in disguise."""
        stripped = self._held.lstrip()
        if not stripped:
            return False
        if stripped[0] not in "{[`":
            return self._refuse()
        found = _HEAD.match(stripped, 0, _HEAD_SIZE)
        if found is None:
            return False
        try:
            name = json.loads(found[1], strict=False)
        except ValueError:
            return False
        self._begin(name)
        self._held = stripped[found.end() :]
        self._depth, self._quoted, self._braced = 0, False, False
        self._state = self._arguments
        return True

    def _refuse(self) -> bool:
        """What has opened the block was words."""
        self._words(self._opening)
        self._opening, self._state = "", self._outside
        return True

    def _arguments(self) -> bool:
        """Everything up to the brace that closes the first one."""
        end = self._closing()
        shown = len(self._held) if end is None else end
        if shown:
            self._events.append(Arguments(self.count - 1, self._held[:shown]))
        self._held = self._held[shown:]
        if end is None:
            return False
        self._opening, self._state = "", self._after
        return True

    def _closing(self) -> int | None:
        """Where the arguments end, if they do in what is held."""
        place = self._skipped
        self._skipped = 0
        while found := _SPECIAL.search(self._held, place):
            place = found.end()
            if self._quoted:
                self._quoted = found[0] != '"'
                place += found[0] == "\\"
            elif found[0] == '"':
                self._quoted = True
            elif found[0] == "<":
                return found.start()  # no JSON: the call has been left without its braces
            elif found[0] in "{[":
                self._depth += 1
            elif found[0] in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return place
        self._skipped = max(0, place - len(self._held))
        return None

    def _after(self) -> bool:
        """The call's own brace, then its end, or one more call, or words."""
        rest = self._held.lstrip()
        if rest.startswith("}") and not self._braced:
            self._held, self._braced = rest[1:], True
            return True
        for close in _CLOSES:
            if rest.startswith(close):
                self._held, self._state = rest.removeprefix(close), self._outside
                return True
            if close.startswith(rest):
                return False
        self._state = self._head if rest.startswith("{") else self._outside
        return True

    def _fenced(self) -> bool:
        """A code block, which is a call if it holds nothing else."""
        found = _FENCED.match(self._held) if "```" in self._held else None
        if found is None:
            return False
        self._parse(self._opening + found[0])
        self._held = self._held[found.end() :]
        self._opening, self._state = "", self._outside
        return True

    def _parse(self, text: str) -> None:
        parsed = parse(text)
        self._words(parsed.content)
        left = len(parsed.tool_calls) if self._most is None else self._most - self.count
        for call in parsed.tool_calls[:left]:
            self._begin(call["name"])
            self._events.append(Arguments(self.count - 1, _written(call["arguments"])))

    def _begin(self, name: str) -> None:
        """One more call; half a character in its name, which is no text, becomes U+FFFD."""
        self._events.append(Begun(self.count, _SURROGATE.sub("\ufffd", name)))
        self.count += 1


def _written(arguments: object) -> str:
    """Arguments as JSON, in which half a character stays escaped."""
    text = json.dumps(arguments, ensure_ascii=False)
    return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def repaired(name: str, arguments: str) -> str:
    """The arguments as JSON, where they can mean one thing only; else as they were said."""
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        said = (
            f'<tool_call>\n{{"name": {json.dumps(name)}, "arguments": {arguments}}}\n</tool_call>'
        )
        if found := parse(said).tool_calls:
            return _written(found[0]["arguments"])
    return arguments
