"""RULER's questions on documents: the paragraphs that answer one, among others of their file.

    asked = read(Path("dev-v2.0.json"))        # SQuAD's form or HotpotQA's
    puzzle(asked, tokenizer, Random(0))

Source: NVIDIA/RULER, scripts/data/synthetic/qa.py. Neither file is part of Baiwen: SQuAD is at
rajpurkar.github.io/SQuAD-explorer, HotpotQA (dev, distractor) at hotpotqa.github.io.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from baiwen import files
from baiwen.errors import UserError
from baiwen.eval.long import marks
from baiwen.eval.long.puzzle import Puzzle
from baiwen.tokenizer.tokenizer import Tokenizer

ROOM = 32  # tokens of an answer
ORDER = (
    "Answer the question based on the given documents. Only give me the answer and do not output "
    "any other words."
)


@dataclass(frozen=True)
class Question:
    """A question, its accepted answers, and paragraphs by their number in the file."""

    text: str
    answers: tuple[str, ...]
    gold: tuple[int, ...]  # those that answer it
    near: tuple[int, ...] = ()  # of the same article: the first to stand beside them


@dataclass(frozen=True)
class Asked:
    """The questions and paragraphs of a file."""

    path: Path
    questions: Sequence[Question]
    paragraphs: Sequence[str]


def read(path: Path) -> Asked:
    """A file in the form of SQuAD (1.1 or 2.0) or HotpotQA; `UserError` for another."""
    table = files.read_json(path)
    try:
        questions, paragraphs = _squad(table) if isinstance(table, dict) else _hotpotqa(table)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: neither SQuAD's form of questions on paragraphs nor HotpotQA's: {error!r}"
        ) from error
    if not questions:
        raise UserError(f"{path} holds no question that has an answer")
    return Asked(path, questions, paragraphs)


def puzzle(asked: Asked, tokenizer: Tokenizer, rng: Random) -> Puzzle:
    """One of the questions, and its paragraphs among others."""
    question = rng.choice(asked.questions)
    seed = rng.getrandbits(64)
    return Puzzle(
        before=f"{ORDER}\n\nThe following are given documents.\n\n",
        body=lambda room: _documents(asked, question, tokenizer, Random(seed), room),
        after=f"\n\n{ORDER}\n\nQuestion: {question.text}",
        cue=" Answer:",
        truth=question.answers,
        official=marks.some,
        strict=marks.same,
        room=ROOM,
    )


def _documents(
    asked: Asked, question: Question, tokenizer: Tokenizer, rng: Random, room: int
) -> list[int]:
    """Numbered documents in exactly `room` ids; what is cut is the last, and answers nothing."""
    chosen = [asked.paragraphs[place] for place in question.gold]
    spare = room - len(_numbered(chosen, tokenizer))
    if spare < 0:
        raise UserError(f"{asked.path}: a text of {room} tokens has no room for {chosen[0]!r:.60}")
    for place in _others(asked, question, rng):
        paragraph = asked.paragraphs[place]
        added = _numbered([paragraph], tokenizer, first=len(chosen))
        if len(added) > spare:
            rng.shuffle(chosen)
            return (_numbered(chosen, tokenizer) + added)[:room]
        chosen.append(paragraph)
        spare -= len(added)
    raise UserError(f"{asked.path}: its paragraphs are too few for a text of {room:,} tokens")


def _others(asked: Asked, question: Question, rng: Random) -> Iterator[int]:
    """Paragraphs that do not answer the question, in any order; those of its article first."""
    yield from rng.sample(question.near, len(question.near))
    known = {*question.gold, *question.near}
    every = range(len(asked.paragraphs))
    yield from (place for place in rng.sample(every, len(every)) if place not in known)


def _numbered(paragraphs: Sequence[str], tokenizer: Tokenizer, first: int = 0) -> list[int]:
    """Documents under their numbers, each encoded alone, so that lengths add up."""
    texts = (
        f"Document {number}:\n{paragraph}\n\n"
        for number, paragraph in enumerate(paragraphs, first + 1)
    )
    return [token for text in texts for token in tokenizer.encode(text)]


def _squad(table: dict[str, Any]) -> tuple[list[Question], list[str]]:
    places, found = dict[str, int](), list[Question]()
    for article in table["data"]:
        texts = [paragraph["context"] for paragraph in article["paragraphs"]]
        own = [places.setdefault(text, len(places)) for text in texts]
        for place, paragraph in zip(own, article["paragraphs"], strict=True):
            near = tuple(sorted({*own} - {place}))
            for asked in paragraph["qas"]:
                answers = tuple(dict.fromkeys(answer["text"] for answer in asked["answers"]))
                if answers:  # SQuAD 2.0 also asks what has none
                    found.append(Question(asked["question"], answers, (place,), near))
    return found, list(places)


def _hotpotqa(rows: list[dict[str, Any]]) -> tuple[list[Question], list[str]]:
    places, found = dict[str, int](), list[Question]()
    for row in rows:
        texts = [f"{title}\n{''.join(sentences)}" for title, sentences in row["context"]]
        own = tuple(places.setdefault(text, len(places)) for text in texts)
        found.append(Question(row["question"], (row["answer"],), own))
    return found, list(places)
