"""Proof: problems on whose answer samples agree, exercises whose tests their program passes.

    drafts = agreed(drafts, solve, samples=4, least=0.5)
    drafts = tested(drafts, cache, workers=4)

A worked problem is put to the model again, several times, without its solution; it stays where
enough of these answers are the solution's (self-consistency: Wang et al., 2023). Where a prompt
says that the seed knows the answer (`truth`), that alone decides. An exercise stays where its
program passes its tests in the sandbox and a program that does nothing fails them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Annotated, Any

from pydantic import Field

from baiwen import files
from baiwen.config import Knobs
from baiwen.data.generate.drafts import MODEL, Draft, apply, digest
from baiwen.data.generate.ours import SOLVE
from baiwen.data.generate.prompts import Prompt
from baiwen.endpoint import Answer, Messages, Sampling
from baiwen.endpoint.answers import SPENT
from baiwen.verify import Verdict, code, math
from baiwen.verify.code import asserts

MATH, CODE = "math", "code"  # the steps
UNPROVEN = "its tests cannot be run"

Solve = Callable[[Iterable[tuple[Messages, Sampling]]], Iterator[Answer[str]]]


class Proof(Knobs):
    """When a problem or an exercise counts as right."""

    samples: Annotated[int, Field(ge=0)] = 4  # solutions of a problem; 0: none are asked for
    agree: Annotated[float, Field(gt=0, le=1)] = 0.5  # of them that come to the same answer


def known(drafts: Iterable[Draft]) -> Iterator[Draft]:
    """Refused are solutions that do not come to the answer that their seed knows."""
    for draft in drafts:
        if draft.verdict or not draft.prompt.truth:
            yield draft
            continue
        found = math.check(draft.parts["solution"], draft.seed.meta["answer"])
        yield draft if found is Verdict.right else draft.refused(MATH, f"the answer is {found}")


def agreed(drafts: Iterable[Draft], solve: Solve, knobs: Proof) -> Iterator[Draft]:
    """Refused are problems on whose answer too few samples agree with the solution.

    Those of other prompts do not wait for an answer, which may never come.
    """
    for solved, group in groupby(drafts, key=lambda draft: _solvable(draft.prompt)):
        if solved:
            yield from _solved(group, solve, knobs)
        else:
            yield from group


def _solved(drafts: Iterable[Draft], solve: Solve, knobs: Proof) -> Iterator[Draft]:
    waiting: deque[Draft] = deque()

    def asked() -> Iterator[tuple[Messages, Sampling]]:
        for draft in drafts:
            waiting.append(draft)
            if not draft.verdict:
                for sample in range(knobs.samples):
                    yield _again(draft, sample)

    held: list[Answer[str]] = []
    for answer in solve(asked()):
        while waiting[0].verdict:
            yield waiting.popleft()
        held.append(answer)
        if len(held) == knobs.samples:
            yield _agreed(waiting.popleft(), held, knobs)
            held = []
    yield from waiting


def tested(drafts: Iterable[Draft], cache: files.Ledger, workers: int) -> Iterator[Draft]:
    """Refused are exercises whose program fails their tests, or whose tests nothing fails."""
    with ThreadPoolExecutor(workers, "sandbox") as pool:

        def step(batch: Sequence[Draft]) -> Sequence[Draft]:
            return list(pool.map(lambda draft: _tested(draft, cache), batch))

        yield from apply(drafts, step)


def _solvable(prompt: Prompt) -> bool:
    return prompt.form == "problem" and not prompt.truth


def _again(draft: Draft, sample: int) -> tuple[Messages, Sampling]:
    """The request that solves the problem of a draft once more."""
    messages = [
        {"role": "system", "content": SOLVE[draft.prompt.language]},
        {"role": "user", "content": draft.parts["problem"]},
    ]
    return messages, {**draft.sampling, "seed": sample}


def _agreed(draft: Draft, held: Sequence[Answer[str]], knobs: Proof) -> Draft:
    if any(answer.unasked for answer in held):
        return draft.refused(MODEL, SPENT)
    solution = draft.parts["solution"]
    verdicts = [math.check(answer.text, solution) for answer in held]
    share = verdicts.count(Verdict.right) / len(verdicts)
    if share < knobs.agree:
        return draft.refused(MATH, "samples do not agree", share, knobs.agree)
    return draft.scored(f"{MATH}.agreement", share)


def _tested(draft: Draft, cache: files.Ledger) -> Draft:
    if draft.prompt.form != "exercise":
        return draft
    program, tests = draft.parts["program"], draft.parts["tests"]
    name = digest(f"{CODE}\0{program}\0{tests}")
    # Kept, so that a program at its time limit is judged once, whatever is resumed.
    row = cache.get(name) or cache.add(name, {"rule": _fault(program, tests)})
    return draft.refused(CODE, row["rule"]) if row["rule"] else draft


def _fault(program: str, tests: str) -> str | None:
    """What is wrong with an exercise."""
    truth: dict[str, Any] = {"tests": tests}
    judgement = code.judge(program, truth)
    if judgement.verdict in (Verdict.undecided, Verdict.error):
        return UNPROVEN
    if judgement.verdict is not Verdict.right:
        return f"its program is {judgement.verdict}"
    function = asserts.parse(tests, None).calls[0].function
    idle = f"def {function}(*arguments, **named):\n    return None\n"
    if function.isidentifier() and code.check(idle, truth) is Verdict.right:
        return "its tests pass whatever the program does"
    return None
