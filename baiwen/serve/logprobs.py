"""Log-probabilities in OpenAI's two schemas.

    chat         [{"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": [...]}]
    completions  {"tokens": ["Hi"], "token_logprobs": [-0.1], "top_logprobs": [{"Hi": -0.1}],
                  "text_offset": [0]}

A token that is only a part of a character is written as `bytes:\\xe7\\x99`, so that two of them
never share a name.
"""

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from baiwen.engine.request import Token
from baiwen.tokenizer.tokenizer import Tokenizer

LOWEST = -9999.0  # OpenAI's word for a probability of 0, since JSON has no infinity

Record = dict[str, Any]


class Spelling:
    """How tokens are written."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def _bytes(self) -> list[bytes]:
        vocabulary = self._tokenizer.vocabulary
        return [*vocabulary.spellings, *(name.encode() for name, _ in vocabulary.control)]

    def bytes(self, token: int) -> bytes:
        """The bytes of a token; those of a row that only pads the embedding are none."""
        return self._bytes[token] if token < len(self._bytes) else b""

    def text(self, token: int) -> str:
        """The token as text."""
        spelled = self.bytes(token)
        try:
            return spelled.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)

    def chat(self, tokens: Iterable[Token], alternatives: int) -> list[Record]:
        """Tokens in the schema of chats, with so many alternatives each."""
        return [
            {
                **self._record(token.id, token.logprob),
                "top_logprobs": [self._record(*other) for other in token.top[:alternatives]],
            }
            for token in tokens
        ]

    def legacy(self, tokens: Sequence[Token], alternatives: int, offsets: "Offsets") -> Record:
        """Tokens in the schema of completions; offsets: those of the text that they go on with."""
        return {
            "tokens": [self.text(token.id) for token in tokens],
            "token_logprobs": [finite(token.logprob) for token in tokens],
            "top_logprobs": [self._top(token, alternatives) for token in tokens],
            "text_offset": [offsets.next(token.id) for token in tokens],
        }

    def offsets(self, start: int) -> "Offsets":
        """The offsets of a text's tokens, the first of which begins at `start`."""
        return Offsets(self._tokenizer, start)

    def _top(self, token: Token, alternatives: int) -> dict[str, float] | None:
        """The likeliest tokens and the chosen one; none where nothing was predicted."""
        if math.isnan(token.logprob):
            return None
        chosen = (token.id, token.logprob)
        pairs = [*token.top[:alternatives], chosen]
        return {self.text(token): max(logprob, LOWEST) for token, logprob in pairs}

    def _record(self, token: int, logprob: float) -> Record:
        spelled = list(self.bytes(token))
        return {"token": self.text(token), "logprob": max(logprob, LOWEST), "bytes": spelled}


class Offsets:
    """Where in a text, as it grows, each token begins: in characters."""

    def __init__(self, tokenizer: Tokenizer, start: int) -> None:
        self._tokenizer, self._end = tokenizer, start
        self._decoder = tokenizer.stream()

    def next(self, token: int) -> int:
        """The place of the next token; one that goes on with a character has that one's."""
        start, pushed = self._end, self._decoder.push(token)
        self._end += len(pushed)
        own = self._tokenizer.stream().push(token)
        # What is shown before its own is a character that stayed half, and is over with it.
        return self._end - len(own) if pushed.endswith(own) else start


def finite(logprob: float) -> float | None:
    """The number as JSON has it; None for a prompt's first token, which nothing predicts."""
    return None if math.isnan(logprob) else max(logprob, LOWEST)
