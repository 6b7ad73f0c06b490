"""Streaming decode: tokens in, whole characters out.

A token may end inside a UTF-8 character; its bytes wait until the character is whole:

    stream = tokenizer.stream()
    [stream.push(i) for i in ids_of_two_halves_of_爱]  -> ["", "爱"]
    stream.finish()                                    -> ""
"""

import codecs
from collections.abc import Callable


class StreamDecoder:
    """Decodes one token at a time; everything pushed plus `finish()` equals `Tokenizer.decode`."""

    def __init__(self, spell: Callable[[int], bytes]) -> None:
        self._spell = spell
        self._pending = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The characters that `token` completes; bytes that can be no character give U+FFFD."""
        return self._pending.decode(self._spell(token))

    def finish(self) -> str:
        """What is left at the end: U+FFFD for half a character, else nothing."""
        return self._pending.decode(b"", final=True)
