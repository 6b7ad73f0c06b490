"""The cells of the suite: which task, at which length and depth, the how-manieth instance.

wanted = cells(named(["passkey", "vt"]), lengths=(4096,), depths=11, keys=5, samples=20)
groups = list(grouped(wanted))
check(groups, material, ["chat"])
material.puzzle(groups[0][0])                  # the same one whatever else is asked
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from random import Random

from baiwen.errors import UserError
from baiwen.eval.long import passkey, ruler
from baiwen.eval.long.haystack import Haystack
from baiwen.eval.long.puzzle import Form, Puzzle, prompt
from baiwen.eval.long.questions import Asked
from baiwen.mistakes import nearest

PASSKEY = "passkey"
TASKS = (PASSKEY, *ruler.TASKS)
SUITES = {"ruler": ruler.TASKS}  # names that stand for several tasks
BATCH_TOKENS = 1 << 17  # of the prompts that are handed to the engine at a time


@dataclass(frozen=True)
class Cell:
    """A place of the grid: the `sample`-th instance of a task at a length, and at a depth."""

    task: str
    length: int  # tokens of prompt and answer
    sample: int
    depth: float | None = None  # of the one needle, as a share of the text


@dataclass(frozen=True)
class Material:
    """What puzzles are made of."""

    stack: Haystack
    asked: Mapping[str, Asked]  # questions on documents, by the name of their file
    seed: int = 0

    def puzzle(self, cell: Cell) -> Puzzle:
        """The puzzle of a cell: the same one whatever else is asked."""
        text = f"{self.seed} {cell.task} {cell.length} {cell.sample}"
        if cell.depth is None:
            return ruler.puzzle(cell.task, self.stack, Random(text), cell.length, self.asked)
        place = self.stack.place(Random(text))  # one text for all depths
        return passkey.puzzle(self.stack, Random(f"{text} {cell.depth}"), cell.depth, place)


def named(tasks: Iterable[str]) -> list[str]:
    """The tasks that these names stand for, in the order of `TASKS`; `UserError` for no task."""
    wanted = {task for name in tasks for task in SUITES.get(name, (name,))}
    if unknown := wanted - {*TASKS}:
        hint = nearest(min(unknown), [*SUITES, *TASKS])
        raise UserError(
            f"no task {', '.join(sorted(unknown))}; there are ruler (all but the first), "
            f"{', '.join(TASKS)}.{hint}"
        )
    return [task for task in TASKS if task in wanted]


def cells(
    tasks: Iterable[str], lengths: Sequence[int], depths: int, keys: int, samples: int
) -> Iterator[Cell]:
    """Every cell; the grid has `keys` at each depth and length, other tasks `samples` a length."""
    deepest_first = passkey.depths(depths)[::-1]
    for task in tasks:
        for length in sorted({*lengths}):
            for sample in range(keys if task == PASSKEY else samples):
                for depth in deepest_first if task == PASSKEY else (None,):
                    yield Cell(task, length, sample, depth)


def grouped(cells: Iterable[Cell]) -> Iterator[list[Cell]]:
    """Cells of a task and length, those of one text together, `BATCH_TOKENS` or a few more."""
    for (_, length), of_length in groupby(cells, key=lambda cell: (cell.task, cell.length)):
        group: list[Cell] = []
        for _, of_text in groupby(of_length, key=lambda cell: cell.sample):
            group += of_text
            if len(group) * length >= BATCH_TOKENS:
                yield group
                group = []
        if group:
            yield group


def check(groups: Iterable[Sequence[Cell]], material: Material, forms: Sequence[Form]) -> None:
    """`UserError` where the cells of a task and length cannot be made, before any is asked."""
    first = {(cell.task, cell.length): cell for group in groups for cell in reversed(group)}
    for cell in first.values():
        for form in forms:
            try:
                prompt(material.stack.tokenizer, material.puzzle(cell), form, cell.length)
            except UserError as error:
                raise UserError(f"{cell.task} at {cell.length:,} tokens: {error}") from error
