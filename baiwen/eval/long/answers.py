"""Cells asked through the engine: what became of each.

    samples = list(answers(engine, "chat", groups, material))
    samples[0].answer, samples[0].truth, samples[0].strict      # "71432", ("71432",), 1.0

The keys of one text at all its depths are asked together, the deepest first: up to its needle each
prompt is then in the engine's cache. A group begins with an empty cache, so that what it answers
depends on nothing else, and is done again as a whole where a run was killed. Decoding is greedy.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from baiwen import log
from baiwen.engine.engine import Engine
from baiwen.engine.sampler import Sampling
from baiwen.eval.long.cells import BATCH_TOKENS, Cell, Material
from baiwen.eval.long.puzzle import Form, prompt
from baiwen.files import Ledger


@dataclass(frozen=True)
class Sample:
    """What became of a cell."""

    task: str
    length: int
    sample: int
    depth: float | None
    tokens: int  # of the prompt
    asked: str
    answer: str
    truth: Sequence[str]
    official: float
    strict: float
    finish_reason: str
    sparsity: Mapping[str, float] | None = None  # of a prompt that was read sparsely (`Sparsity`)


def answers(
    engine: Engine,
    form: Form,
    groups: Sequence[Sequence[Cell]],
    material: Material,
    kept: Ledger | None = None,
) -> Iterator[Sample]:
    """The samples of all cells in order; groups that are `kept` are not asked again."""
    total = sum(map(len, groups))
    found = (one for group in groups for one in _group(engine, form, group, material, kept))
    return log.track(found, "long context", total=total, unit="prompts")


def _group(
    engine: Engine, form: Form, group: Sequence[Cell], material: Material, kept: Ledger | None
) -> Iterator[Sample]:
    key = f"{group[0].task} {group[0].length} {group[0].sample}"
    if kept and key in kept.rows:
        yield from (Sample(**row) for row in kept.rows[key]["samples"])
        return
    engine.reset_cache()
    found = []
    size = max(1, BATCH_TOKENS // group[0].length)
    for at in range(0, len(group), size):
        for one in _asked(engine, form, group[at : at + size], material):
            found.append(one)
            yield one
    if kept:
        kept.add(key, {"samples": [asdict(one) for one in found]})


def _asked(
    engine: Engine, form: Form, cells: Sequence[Cell], material: Material
) -> Iterator[Sample]:
    puzzles = [material.puzzle(cell) for cell in cells]
    prompts = [
        prompt(engine.tokenizer, puzzle, form, cell.length)
        for puzzle, cell in zip(puzzles, cells, strict=True)
    ]
    sampling = Sampling(temperature=0.0, max_tokens=puzzles[0].room)
    done = engine.generate(prompts, sampling)
    for cell, puzzle, ids, completion in zip(cells, puzzles, prompts, done, strict=True):
        official, strict = puzzle.mark(completion.text)
        seen = completion.sparsity
        yield Sample(
            **asdict(cell),
            tokens=len(ids),
            asked=puzzle.after,
            answer=completion.text,
            truth=puzzle.truth,
            official=official,
            strict=strict,
            finish_reason=completion.finish_reason,
            sparsity=None if seen is None else asdict(seen),
        )
