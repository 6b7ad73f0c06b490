"""Accuracy by kind of task: questions in, verdicts out, none of them lost.

    asked = questions(Path("heldout.jsonl"))
    samples = answer(engine, asked, chat(tokenizer), max_tokens=96)
    score(samples) ->
        {"all": {"accuracy": 0.81, "n": 400, "standard_error": 0.02, "low": 0.77, "high": 0.85,
                 "verdicts": {"right": 324, "wrong": 76, "undecided": 0, "error": 0, "timeout": 0}},
         "arithmetic": {...}, ...}

A question is put in one of two forms: `chat`, the model's own protocol, or `few_shot`, plain text
with solved instances before it, which is what a model that never saw the protocol can follow.
Decoding is greedy. Everything that is not right counts against the model, and is counted by name.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from baiwen import files, log, verify
from baiwen.engine.engine import Engine
from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError
from baiwen.eval.statistics import Difference, paired, proportion
from baiwen.tokenizer import messages
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.verify import Verdict

BATCH = 128  # prompts that are handed to the engine at a time, for progress to show

Message = Mapping[str, Any]
# How messages and tools read as plain text, given by the stage (`instruct.task.document`).
Document = Callable[[Sequence[Message], Sequence[Mapping[str, Any]] | None], str]


@dataclass(frozen=True)
class Question:
    """A row of `heldout.jsonl`: messages that end before the answer, and how to judge one."""

    prompt: list[dict[str, Any]]
    answer: Any  # the truth, as the verifier takes it
    verifier: str
    kind: str
    tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class Sample:
    """What became of a question."""

    kind: str
    asked: str  # the last message of the question
    prompt: str  # all that the model read
    answer: str
    truth: Any
    verifier: str
    verdict: Verdict
    tokens: int  # of the answer
    finish_reason: str


@dataclass(frozen=True)
class Form:
    """A way to put a question: its prompt in ids, and where the answer ends."""

    prompt: Callable[[Question], list[int]]
    stop: tuple[str, ...] = ()


def questions(path: Path) -> list[Question]:
    """The questions of a file, whatever else its rows may hold.

    A `UserError` names the first row that cannot be asked or judged.
    """
    found = rows(path, "prompt", "answer", "verifier", "kind")
    for number, row in enumerate(found, start=1):
        try:
            messages.check(row["prompt"])
            messages.check_tools(row.get("tools"))
            verify.require(row["verifier"])
        except UserError as error:
            raise UserError(f"{path}: row {number}: {error}") from error
    return [
        Question(row["prompt"], row["answer"], row["verifier"], str(row["kind"]), row.get("tools"))
        for row in found
    ]


def rows(path: Path, *needed: str) -> list[dict[str, Any]]:
    """The rows of a JSONL file; a `UserError` names the first that lacks one of `needed`."""
    found = list(files.read_jsonl(path))
    for number, row in enumerate(found, start=1):
        for name in needed:
            if name not in row:
                raise UserError(f"{path}: row {number} has no `{name}`: {json.dumps(row):.80}")
    return found


def chat(tokenizer: Tokenizer) -> Form:
    """The model's own protocol; the answer ends with its turn."""
    return Form(lambda asked: tokenizer.render(asked.prompt, asked.tools, generate=True).ids)


def few_shot(
    tokenizer: Tokenizer, document: Document, shots: Mapping[str, Sequence[str]], room: int
) -> Form:
    """Solved documents of the kind, a blank line after each, then the question's document.

    `room`: the most tokens of a prompt; shots that do not fit are left out, the first one first.
    """

    def prompt(asked: Question) -> list[int]:
        parts = [*shots.get(asked.kind, ()), document(asked.prompt, asked.tools)]
        ids = tokenizer.encode("\n\n".join(parts))
        while len(ids) > room and len(parts) > 1:
            parts = parts[1:]
            ids = tokenizer.encode("\n\n".join(parts))
        return ids

    return Form(prompt, stop=("\n\n",))


def draw_shots(
    rows: Sequence[Mapping[str, Any]], document: Document, count: int, seed: int
) -> dict[str, list[str]]:
    """`count` solved documents of each kind, from the first turns of rows of `train.jsonl`."""
    rng, by_kind = Random(seed), dict[str, list[Mapping[str, Any]]]()
    for row in rows:
        by_kind.setdefault(row["kind"], []).append(row)
    return {
        kind: [
            document(row["messages"][:2], row.get("tools"))
            for row in rng.sample(of_kind, min(count, len(of_kind)))
        ]
        for kind, of_kind in sorted(by_kind.items())
    }


def answer(
    engine: Engine, questions: Sequence[Question], form: Form, max_tokens: int
) -> Iterator[Sample]:
    """Greedy answers and their verdicts, in the order of the questions."""
    sampling = Sampling(temperature=0.0, max_tokens=max_tokens, stop=form.stop)
    batches = [questions[at : at + BATCH] for at in range(0, len(questions), BATCH)]
    for batch in log.track(batches, "answers", unit="batches"):
        prompts = [form.prompt(asked) for asked in batch]
        done = engine.generate(prompts, sampling)
        for asked, ids, completion in zip(batch, prompts, done, strict=True):
            yield Sample(
                kind=asked.kind,
                asked=messages.check(asked.prompt)[-1].content,
                prompt=engine.tokenizer.decode(ids),
                answer=completion.text,
                truth=asked.answer,
                verifier=asked.verifier,
                verdict=verify.check(asked.verifier, completion.text, asked.answer),
                tokens=len(completion.ids),
                finish_reason=completion.finish_reason,
            )


def score(samples: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    """Accuracy with its interval and every verdict's count, over all samples and by kind."""
    kinds = sorted({sample.kind for sample in samples})
    return {
        "all": _accuracy(samples),
        **{kind: _accuracy([s for s in samples if s.kind == kind]) for kind in kinds},
    }


def difference(after: Sequence[Sample], before: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    """Accuracy of `after` minus that of `before` on the same questions, over all and by kind."""
    assert [sample.kind for sample in after] == [sample.kind for sample in before]
    kinds = sorted({sample.kind for sample in after})

    def over(chosen: Sequence[str]) -> Difference:
        right = [
            [sample.verdict is Verdict.right for sample in samples if sample.kind in chosen]
            for samples in (after, before)
        ]
        return paired(*right)

    return {"all": asdict(over(kinds)), **{kind: asdict(over([kind])) for kind in kinds}}


def _accuracy(samples: Sequence[Sample]) -> dict[str, Any]:
    counts = Counter(sample.verdict for sample in samples)
    estimate = asdict(proportion(counts[Verdict.right], len(samples)))
    verdicts = {verdict.value: counts[verdict] for verdict in Verdict}
    return {"accuracy": estimate.pop("value"), **estimate, "verdicts": verdicts}
