"""Verifiers: each is reward and metric at once. Pure, fast, and total over strings.

One file a verifier, each with `check(answer, truth) -> Verdict`; `check` here picks the file that a
row of `heldout.jsonl` names:

    {"prompt": [...], "answer": "46", "verifier": "number", "kind": "arithmetic"}
    verify.check("number", "41+5=46", "46")     -> Verdict.right

No string makes a verifier raise. A truth that it cannot read is `Verdict.error`; a verifier that
does not exist is a `UserError`, since a pass or a fail would both be invented (findings A4 #10).
"""

from collections.abc import Callable
from typing import Any

from baiwen.errors import UserError
from baiwen.mistakes import nearest
from baiwen.verify import (
    choice,
    code,
    exact,
    function_call,
    ifeval,
    instruction,
    json_value,
    match,
    math,
    number,
    schema,
    tool_call,
    words,
)
from baiwen.verify.verdict import Verdict

__all__ = ["NAMES", "Verdict", "check", "parsed", "require"]

_CHECKS: dict[str, Callable[[str, Any], Verdict]] = {
    "choice": choice.check,
    "code": code.check,
    "exact": exact.check,
    "function_call": function_call.check,
    "ifeval": ifeval.check,
    "instruction": instruction.check,
    "json_value": json_value.check,
    "match": match.check,
    "math": math.check,
    "number": number.check,
    "schema": schema.check,
    "tool_call": tool_call.check,
    "words": words.check,
}
NAMES = tuple(_CHECKS)


def check(verifier: str, answer: str, truth: object) -> Verdict:
    """The verdict of the verifier of that name; `UserError` where there is none."""
    require(verifier)
    return _CHECKS[verifier](answer, truth)


def require(verifier: object) -> None:
    """`UserError` unless there is a verifier of that name."""
    if verifier not in NAMES:
        hint = nearest(str(verifier), NAMES)
        raise UserError(f"no verifier {verifier!r}; there are {', '.join(NAMES)}.{hint}")


def parsed(verifier: str, answer: str, truth: object) -> str | None:
    """What that verifier takes for the final answer; None where it judges the whole, or finds none.

    For the eye: a wrong verdict and what it was about.
    """
    if verifier == "number":
        return number.last(answer)
    if verifier == "math":
        return math.final_answer(answer, math.stated(truth)) or None
    return None
