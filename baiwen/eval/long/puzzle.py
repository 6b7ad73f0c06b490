"""What is asked and what it is hidden in; and its prompt, which has an exact length.

    puzzle = passkey.puzzle(stack, Random(0), depth=0.5)
    ids = prompt(tokenizer, puzzle, "chat", length=4096)      # 4,096 - puzzle.room tokens
    puzzle.mark(answer)                                       # official and strict, 0 to 1

A length counts the prompt, with all that the form adds to it, and the room for the answer, as RULER
counts; so what is measured at 4,096 fits a context of 4,096. Prompts of one length have one number
of tokens. None is ever cut: where a text has no room for what it must hold, that is an error.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from baiwen.errors import UserError
from baiwen.eval.long.marks import Mark
from baiwen.tokenizer import chat
from baiwen.tokenizer.chat import Piece
from baiwen.tokenizer.tokenizer import Tokenizer

Form = Literal["chat", "document"]
HOLE = "\ue000"  # stands for the text; of a private plane, and found in none of ours


class Marks(NamedTuple):
    """An answer's marks, 0 to 1."""

    official: float
    strict: float


@dataclass(frozen=True)
class Puzzle:
    """A text of any length with something to find in it, and the question for it."""

    before: str  # what is said ahead of the text
    body: Callable[[int], list[int]]  # the text, in exactly so many tokens
    after: str  # the question
    cue: str  # with which the answer begins
    truth: tuple[str, ...]
    official: Mark
    strict: Mark
    room: int  # tokens of an answer
    cued_chat: bool = True  # whether an assistant's answer begins with the cue, too

    def mark(self, answer: str) -> Marks:
        """How right an answer is that goes on from the cue."""
        return Marks(self.official(answer, self.truth), self.strict(answer, self.truth))


def prompt(tokenizer: Tokenizer, puzzle: Puzzle, form: Form, length: int) -> list[int]:
    """The puzzle in `length - puzzle.room` ids; `UserError` where that has no room for it."""
    left, right = frame(tokenizer, puzzle, form)
    room = length - puzzle.room - len(left) - len(right)
    if room <= 0:
        raise UserError(
            f"{length} tokens have no room for a text: the question takes "
            f"{len(left) + len(right)}, the answer {puzzle.room}"
        )
    body = puzzle.body(room)
    assert len(body) == room
    return [*left, *body, *right]


def frame(tokenizer: Tokenizer, puzzle: Puzzle, form: Form) -> tuple[list[int], list[int]]:
    """The ids on both sides of the text: question and protocol."""
    words = f"{puzzle.before}{HOLE}{puzzle.after}"
    if form == "document":
        pieces = [Piece(words + puzzle.cue)]
    else:
        message = {"role": "user", "content": words}
        pieces = list(chat.joined(chat.pieces([message], generate=True)))
        if puzzle.cued_chat:
            pieces.append(Piece(puzzle.cue.strip(), answer=0))
    at = next(at for at, piece in enumerate(pieces) if HOLE in piece.text)
    left, right = (Piece(text) for text in pieces[at].text.split(HOLE))
    return tokenizer.assemble([*pieces[:at], left]), tokenizer.assemble([right, *pieces[at + 1 :]])
