"""The text of an answer as its tokens come: whole characters, and nothing that may be a stop text.

    text = Text(tokenizer.stream(), stop=("\\n\\n",))
    text.push(id_of("one\\n"))          # "one"; the line break may begin a stop text
    text.push(id_of("two"))             # "\\ntwo"
    text.push(id_of("\\n\\nthree"))     # ""; text.stopped is "\\n\\n"

Where an answer stops does not depend on how it is cut into tokens: of several stop texts the one
that is complete first counts, and of those the longest.
"""

from collections.abc import Sequence

from baiwen.tokenizer.stream import StreamDecoder


class Text:
    """What of an answer can be shown; `stopped` is the stop text that has ended it, if one has."""

    def __init__(self, decoder: StreamDecoder, stop: Sequence[str]) -> None:
        self._decoder, self._stop = decoder, stop
        self._held = ""  # the end of the text, which may be the beginning of a stop text
        self.stopped: str | None = None

    def push(self, token: int, stops: bool = True) -> str:
        """What `token` lets be shown; without `stops` no stop text is looked for yet."""
        self._held += self._decoder.push(token)
        if not stops:
            return self._cut(len(self._held))
        found = self._search()
        return (
            self._cut(len(self._held) - _begun(self._held, self._stop)) if found is None else found
        )

    def finish(self) -> str:
        """The rest, when no token follows."""
        self._held += self._decoder.finish()
        found = self._search()
        return self._cut(len(self._held)) if found is None else found

    def _search(self) -> str | None:
        """What stands before a stop text, if one is complete."""
        ends = [
            (place + len(text), place, text)
            for text in self._stop
            if (place := self._held.find(text)) >= 0
        ]
        if not ends:
            return None
        _, place, self.stopped = min(ends)
        return self._cut(place)

    def _cut(self, place: int) -> str:
        shown, self._held = self._held[:place], self._held[place:]
        return shown


def _begun(text: str, stop: Sequence[str]) -> int:
    """How many characters at the end of `text` may turn out to be the beginning of a stop text."""
    lengths = (
        length
        for ending in stop
        for length in range(1, min(len(ending), len(text) + 1))
        if text.endswith(ending[:length])
    )
    return max(lengths, default=0)
