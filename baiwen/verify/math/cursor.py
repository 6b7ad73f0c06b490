"""A place in a list of tokens, and what can be seen from it.

What cannot be read raises `UnreadableError`; the depth of brackets is bounded, so recursion is too.
"""

from baiwen.verify.math.notation import Token
from baiwen.verify.math.terms import UnreadableError

_DEEPEST = 40  # brackets within brackets
CLOSING = {"(": ")", "[": "]", "{": "}", "\\{": "\\}"}
SEPARATORS = frozenset({",", ";"})
END = Token("end", "")


class Cursor:
    """A place in a list of tokens; `groups` are the brackets that hold a comma directly inside."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.groups = _groups(tokens)

    @property
    def token(self) -> Token:
        """The token here; `END` after the last."""
        return self.tokens[self.at] if self.at < len(self.tokens) else END

    @property
    def following(self) -> Token:
        """The token after this one."""
        return self.tokens[self.at + 1] if self.at + 1 < len(self.tokens) else END

    def next(self) -> Token:
        """The token here; the place moves on."""
        token = self.token
        self.at += 1
        return token

    def sees(self, *texts: str) -> bool:
        """Is one of these signs here?"""
        return self.token.kind == "symbol" and self.token.text in texts

    def sees_command(self, *names: str) -> bool:
        """Is one of these commands here?"""
        return self.token.kind == "command" and self.token.text in names

    def is_letter(self, *letters: str) -> bool:
        """Is one of these letters here?"""
        return self.token.kind == "letter" and self.token.text in letters

    def take(self, text: str) -> None:
        """Passes over a sign that has to be here."""
        if not self.sees(text):
            raise UnreadableError(f"no {text!r} where one belongs")
        self.at += 1

    def deeper(self) -> None:
        """One level down."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise UnreadableError("nested too deeply")

    def braced_name(self) -> str:
        """The text between braces."""
        self.take("{")
        parts = []
        while not self.sees("}") and self.token is not END:
            parts.append(self.next().text)
        self.take("}")
        return "".join(parts)


def _groups(tokens: list[Token]) -> frozenset[int]:
    """The places of opening brackets that hold a comma or semicolon directly inside."""
    groups, open_at = set(), []
    for at, token in enumerate(tokens):
        if token.kind != "symbol":
            continue
        if token.text in CLOSING:
            open_at.append(at)
        elif token.text in CLOSING.values():
            if open_at:
                open_at.pop()
        elif token.text in SEPARATORS and open_at:
            groups.add(open_at[-1])
    return frozenset(groups)
