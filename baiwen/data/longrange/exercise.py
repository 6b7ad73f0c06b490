"""An exercise over a long text: what is read, what is asked at its end, what is answered.

turn = Turn("What is the pass key?", " The pass key is ", "71432", place=20)
exercise = Exercise("passkey", "en", "... The pass key is 71432. ...", (turn,))
exercise.text          # "... The pass key is 71432. ...\\n\\nWhat is the pass key? The pass ..."
exercise.messages      # the same as a conversation
"""

from dataclasses import dataclass
from typing import Any


class Unfit(Exception):  # noqa: N818 - not an error: this text does not give this exercise
    """Why a text does not give an exercise of a kind; the reason is what is counted."""


@dataclass(frozen=True)
class Turn:
    """One question about the text."""

    question: str
    opening: str  # what stands between question and answer, such as " The pass key is "
    answer: str
    place: int | None  # character of the context where the answer stands or stood; None: nowhere


@dataclass(frozen=True)
class Exercise:
    """A context and the questions about it."""

    kind: str
    language: str  # of the questions: en or zh
    context: str
    turns: tuple[Turn, ...]
    verifier: str = "exact"  # what judges an answer (`verify.NAMES`)

    @property
    def text(self) -> str:
        """As a document: the context, then every question with its answer."""
        asked = (f"{turn.question}{turn.opening}{turn.answer}" for turn in self.turns)
        return "\n\n".join([self.context.rstrip(), *asked])

    @property
    def messages(self) -> list[dict[str, Any]]:
        """As a conversation: the first question stands below the context.

        A reply that is judged as a whole is the answer alone.
        """
        said: list[dict[str, Any]] = []
        for turn in self.turns:
            asked = turn.question if said else f"{self.context.rstrip()}\n\n{turn.question}"
            opening = "" if self.verifier == "exact" else turn.opening
            said.append({"role": "user", "content": asked})
            said.append({"role": "assistant", "content": f"{opening}{turn.answer}".strip()})
        return said
