"""RULER by the names of its 13 tasks (Hsieh et al., 2024).

    puzzle("vt", stack, Random(0), length=4096, asked={})

The two of questions on documents need a file of such questions each; without one they are left out,
which whoever asks for them is told.
"""

from collections.abc import Mapping
from random import Random

from baiwen.eval.long import needles, questions, tracking, words
from baiwen.eval.long.haystack import Haystack
from baiwen.eval.long.puzzle import Puzzle
from baiwen.eval.long.questions import Asked

ASKED = {"qa_1": "squad", "qa_2": "hotpotqa"}  # the file that a task needs
TASKS = (*needles.TASKS, "vt", "cwe", "fwe", *ASKED)


def puzzle(
    task: str, stack: Haystack, rng: Random, length: int, asked: Mapping[str, Asked]
) -> Puzzle:
    """An instance of a task; `asked`: questions by the name of their file (`ASKED`)."""
    if task in needles.TASKS:
        return needles.puzzle(task, stack, rng, stack.place(rng))
    if task in ASKED:
        return questions.puzzle(asked[ASKED[task]], stack.tokenizer, rng)
    if task == "vt":
        return tracking.puzzle(stack, rng)
    if task == "cwe":
        return words.common(stack, rng, length)
    return words.frequent(stack.tokenizer, rng, length)
