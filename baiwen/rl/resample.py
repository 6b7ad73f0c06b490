"""Resampling: a model answers every prompt several times, and programs judge what it said.

    for row in resampled(engine, prompts, sampling, judges, source="sft"):
        row["answers"][0]["verdict"], row["variance"]

A row is a line of `answers.jsonl`: the prompt, its answers with their verdicts, and the variance of
their rewards, by which GRPO may order its prompts (report, section 4.3).
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

from baiwen import files, verify
from baiwen.engine.engine import Engine
from baiwen.engine.request import Completion, Delta, Request, completions
from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError
from baiwen.rl.pairs import Answer, variance
from baiwen.rl.prompts import Prompt
from baiwen.verify import Verdict

Row = dict[str, Any]
FIELDS = {"prompt", "answer", "verifier", "kind", "source", "answers", "variance"}  # of a row


def resampled(
    engine: Engine, prompts: Sequence[Prompt], sampling: Sampling, judges: Executor
) -> Iterator[tuple[Prompt, list[Future[Answer]]]]:
    """Each prompt with its `sampling.n` answers as soon as it has them, `judges` still at work.

    A function of weights, prompts and sampling, whatever the engine did before.
    """
    engine.reset_cache()  # what was computed in another batch may differ in the last bits
    asked = {engine.add(prompt.ids, sampling): prompt for prompt in prompts}
    for request, answers in _finished(engine, list(asked)):
        prompt = asked[request]
        yield prompt, [judges.submit(judged, prompt, answer) for answer in answers]


def judged(prompt: Prompt, answer: Completion) -> Answer:
    """An answer with its verdict."""
    assert prompt.verifier is not None  # prompts are read with theirs
    verdict = verify.check(prompt.verifier, answer.text, prompt.answer)
    return Answer(answer.text, verdict, len(answer.tokens), answer.finish_reason)


def row(prompt: Prompt, answers: Sequence[Answer], source: str) -> Row:
    """A line of `answers.jsonl`."""
    return {
        "prompt": prompt.messages,
        **({"tools": prompt.tools} if prompt.tools else {}),
        "answer": prompt.answer,
        "verifier": prompt.verifier,
        "kind": prompt.kind,
        "source": source,
        "answers": [asdict(answer) for answer in answers],
        "variance": variance(answer.verdict for answer in answers),
    }


def read(path: Path) -> Iterator[tuple[Row, list[Answer]]]:
    """The lines of an `answers.jsonl`; UserError names the first that is none."""
    for number, found in enumerate(files.read_jsonl(path), start=1):
        try:
            if absent := sorted(FIELDS - found.keys()):
                raise ValueError(f"it has no {', '.join(absent)}")
            yield found, [_answer(answer) for answer in found["answers"]]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: row {number} is no line of answers.jsonl: {error}") from error


def _answer(row: Mapping[str, Any]) -> Answer:
    if not (isinstance(row["text"], str) and isinstance(row["tokens"], int)):
        raise TypeError("the text of an answer must be a text, and its tokens a number")
    return Answer(**{**row, "verdict": Verdict(row["verdict"])})


def _finished(
    engine: Engine, requests: Sequence[Request]
) -> Iterator[tuple[Request, list[Completion]]]:
    deltas: dict[Request, list[Delta]] = {request: [] for request in requests}
    while deltas:
        for request, more in engine.step():
            if request.error is not None:
                raise request.error
            deltas[request] += more
            if request.finished:
                yield request, completions(request, deltas.pop(request))
