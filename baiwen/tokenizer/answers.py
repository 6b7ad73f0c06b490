"""Answers in ids as a reward model reads them: with the end of the turn and the line break behind.

A conversation is scored at its last token, the line break that the protocol writes after
`<|im_end|>` (`model/reward.py`). An engine stops before that, or an answer is cut off:

    closed(tokenizer, ids)                       # [..., <|im_end|>, "\\n"]
    spoken(tokenizer, "<tool_call>\\n{...}\\n</tool_call>")

For the same words both are the ids of `Tokenizer.render`.
"""

import re
from collections.abc import Sequence

from baiwen.tokenizer import control
from baiwen.tokenizer.chat import Piece
from baiwen.tokenizer.tokenizer import Tokenizer

_MARKERS = re.compile("|".join(map(re.escape, control.NAMES)))


def closed(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """The ids of an answer, or of a prompt and its answer, up to where its score is read."""
    end, line = tokenizer.end_of_turn, tokenizer.encode("\n")
    ids = list(ids)
    if ids[-len(line) - 1 :] == [end, *line]:
        return ids
    return [*ids, *line] if ids[-1:] == [end] else [*ids, end, *line]


def spoken(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of an answer that a model wrote, closed; its markers are control tokens.

    Not for the words of people, in which nothing is a marker.
    """
    known = tokenizer.vocabulary.control_ids
    pieces, place = [], 0
    for marker in _MARKERS.finditer(text):
        if marker[0] in known:
            pieces += [Piece(text[place : marker.start()]), Piece(marker[0], control=True)]
            place = marker.end()
    return closed(tokenizer, tokenizer.assemble([*pieces, Piece(text[place:])]))
