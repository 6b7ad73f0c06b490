"""The suite as a recipe asks for it, and one model's entry of the scores.

[long]
lengths = [4096, 8192]
tasks = ["passkey", "vt"]

measure(engine, long, forms=("chat",), seed=0, keep=Path("state"), name="sft")
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from baiwen import files, log
from baiwen.config import Count, Input, Knobs
from baiwen.engine.engine import Engine
from baiwen.errors import UserError
from baiwen.eval.long import haystack, published, questions, ruler
from baiwen.eval.long.answers import Sample, answers
from baiwen.eval.long.cells import Cell, Material, cells, check, grouped, named
from baiwen.eval.long.puzzle import Form
from baiwen.eval.long.scores import mean, score, sparsity
from baiwen.tokenizer.tokenizer import Tokenizer

CHARACTERS = 2_000_000  # of a haystack that are read at least, for words
CHARACTERS_A_TOKEN = 12  # of the longest text: more than a tokenizer puts into one


class Long(Knobs):
    """Prompts of given lengths with something to find in them."""

    # Tokens of prompt and answer; report: 4,096 to 131,072, the pass key to 1,000,000
    lengths: Annotated[tuple[Count, ...], Field(min_length=1)]
    tasks: tuple[str, ...] = ("passkey", "ruler")  # ruler: its 13, which also go by their names
    # Of the passkey grid, from the first passage to the last
    depths: Annotated[int, Field(gt=0, le=101)] = 11
    keys: Count = 5  # of the grid, at each depth and length
    samples: Count = 20  # of each other task at each length; RULER: 500
    haystack: str = "stdlib"  # documents (file, folder, glob), "stdlib" or "noise"
    squad: Input | None = None  # questions for qa_1, in SQuAD's JSON; none: left out
    hotpotqa: Input | None = None  # questions for qa_2, in HotpotQA's JSON; none: left out

    @field_validator("tasks")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        named(names)
        return names

    @property
    def left_out(self) -> dict[str, str]:
        """The tasks that cannot be made, and what they need."""
        return {
            task: f"no questions on documents: give {file} = FILE"
            for task, file in ruler.ASKED.items()
            if task in named(self.tasks) and getattr(self, file) is None
        }

    def groups(self) -> list[list[Cell]]:
        """What is asked, in groups whose texts begin alike."""
        tasks = [task for task in named(self.tasks) if task not in self.left_out]
        if not tasks:
            told = "; ".join(f"{task}: {reason}" for task, reason in self.left_out.items())
            raise UserError(f"nothing is asked of long texts. {told}")
        return list(grouped(cells(tasks, self.lengths, self.depths, self.keys, self.samples)))

    def material(self, tokenizer: Tokenizer, seed: int) -> Material:
        """What the puzzles are made of."""
        longest = CHARACTERS_A_TOKEN * max(self.lengths)
        stack = haystack.of(self.haystack, tokenizer, max(CHARACTERS, longest))
        paths = {file: getattr(self, file) for file in ruler.ASKED.values()}
        asked = {file: questions.read(path) for file, path in paths.items() if path is not None}
        return Material(stack, asked, seed)


def require(long: Long, name: str, context: int) -> None:
    """`UserError` where a length is beyond the `context` with which a model is asked."""
    if beyond := [length for length in sorted({*long.lengths}) if length > context]:
        told = ", ".join(f"{length:,}" for length in beyond)
        raise UserError(
            f"{name} is asked with a context of {context:,} tokens: lengths = {told} are beyond "
            "it; leave them out, or set the model's context (and, if need be, extend)"
        )


def measure(
    engine: Engine, long: Long, forms: Sequence[Form], seed: int, name: str, keep: Path | None
) -> dict[str, Any]:
    """One model's entry of `scores.json`; what is finished lies in `keep`."""
    require(long, name, engine.context)
    log.say(f"{name} reads {engine.told}")
    for task, reason in long.left_out.items():
        log.say(f"{task} is left out: {reason}")
    groups, material = long.groups(), long.material(engine.tokenizer, seed)
    check(groups, material, forms)
    samples = {form: _samples(engine, form, groups, material, name, keep) for form in forms}
    scores = {form: score(found) for form, found in samples.items()}
    form = max(forms, key=lambda form: mean(samples[form]))
    known = published.of(engine.model.config)
    return {
        "form": form,
        "tasks": scores[form],
        "forms": scores,
        "extension": engine.told,
        "ropes": {
            length: asdict(engine.reader.reaches[0].rope(length))
            for length in sorted({*long.lengths})
        },
        "sparsity": sparsity(samples[form]),
        "haystack": long.haystack,
        "left_out": long.left_out,
        "published": None if known is None else {"model": known[0], "ruler": known[1]},
    }


def _samples(
    engine: Engine,
    form: Form,
    groups: Sequence[Sequence[Cell]],
    material: Material,
    name: str,
    keep: Path | None,
) -> list[Sample]:
    if keep is None:
        return list(answers(engine, form, groups, material))
    with files.Ledger(keep / f"long-{name}-{form}.ledger") as kept:
        samples = list(answers(engine, form, groups, material, kept))
    with files.jsonl_writer(keep / f"long-{name}-{form}.jsonl") as write:
        for sample in samples:
            write(asdict(sample))
    return samples
