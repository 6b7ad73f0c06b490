"""From a long text to a row of documents or of conversations: the work of one process.

made = make_row(Recipe("documents", "longrange", {"fim": 1.0}, 2, 0, folder), Task(0, haystack))
made.row                    # {"id": "longrange-000000", "text": ..., "meta": {"kind": "fim", ...}}
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Literal

from baiwen.data.longrange import Exercise, Unfit, make
from baiwen.data.longrange.haystacks import Haystack
from baiwen.tokenizer.tokenizer import Tokenizer

Form = Literal["documents", "conversations"]

_tokenizer = cache(Tokenizer.load)  # once a process


@dataclass(frozen=True)
class Recipe:
    """What is to be made of every text."""

    form: Form
    name: str  # of the source
    kinds: Mapping[str, float]  # weights
    questions: int  # about one text, at most
    seed: int
    tokenizer: Path


@dataclass(frozen=True)
class Task:
    """A text to make something of."""

    number: int  # of all texts that are tried
    haystack: Haystack


@dataclass(frozen=True)
class Made:
    """What became of a text."""

    number: int
    row: dict[str, Any] | None  # None: it gave nothing
    kind: str = ""
    size: int = 0  # bytes of its text
    unfit: tuple[tuple[str, str], ...] = ()  # kinds that were tried before, and why it gave none


def make_row(recipe: Recipe, task: Task) -> Made:
    """An exercise of a kind drawn by weight; of the next one, where the text does not give it."""
    seed = f"{recipe.seed}/{recipe.form}/{task.number}"
    measure = _measure(recipe)
    texts = [part.text for part in task.haystack.parts]
    unfit = []
    for kind in _drawn(recipe.kinds, Random(seed)):
        try:
            exercise = make(kind, texts, seed, measure, task.haystack.target, recipe.questions)
        except Unfit as reason:
            unfit.append((kind, str(reason)))
            continue
        size = len(exercise.text.encode())
        return Made(task.number, _row(exercise, recipe, task), kind, size, tuple(unfit))
    return Made(task.number, None, unfit=tuple(unfit))


def _drawn(kinds: Mapping[str, float], rng: Random) -> list[str]:
    """All kinds in an order drawn by weight (Efraimidis and Spirakis, 2006)."""
    keys = {kind: rng.random() ** (1 / weight) for kind, weight in kinds.items()}
    return sorted(keys, key=lambda kind: -keys[kind])


def _measure(recipe: Recipe) -> Callable[[Exercise], int]:
    """Tokens of an exercise in a row of training, its end included."""
    tokenizer = _tokenizer(recipe.tokenizer)
    if recipe.form == "documents":
        return lambda exercise: len(tokenizer.encode(exercise.text)) + 1
    return lambda exercise: len(tokenizer.render(exercise.messages).ids)


def _row(exercise: Exercise, recipe: Recipe, task: Task) -> dict[str, Any]:
    origin = {"language": exercise.language, **task.haystack.meta}
    if recipe.form == "conversations":
        truth = {"answer": exercise.turns[-1].answer, "verifier": exercise.verifier}
        return {"messages": exercise.messages, "kind": exercise.kind, **truth, "meta": origin}
    meta = {"source": "synthesize", "domain": recipe.name, "kind": exercise.kind, **origin}
    return {"id": f"{recipe.name}-{task.number:06}", "text": exercise.text, "meta": meta}
