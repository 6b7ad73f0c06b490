"""Programs, by what they compute: run in the sandbox, judged outside of it.

    check("def add(a, b): return a + b", {"tests": "assert add(1, 2) == 3"})             -> right
    check(answer, {"entry_point": "add", "inputs": [[1, 2]], "outputs": [3]})
    check(answer, {"stdin": ["1 2\\n"], "stdout": ["3\\n"]})
    check("[1, 2]", {"output": "[1, 2]"})                        CRUXEval: what comes out
    check("'b'", {"code": "def f(x): return x * 2", "entry_point": "f", "output": "'bb'"})  goes in

The verdict never comes from the process that runs the program. Inputs go in, outputs come back as
plain data and are compared here, so `__eq__`, `sys.exit(0)`, a walk over frames or a forged report
can at best hand out other data (findings B3). Tests that cannot be taken apart into calls and
expectations (`asserts.py`) are `undecided`: run beside the program, they would be at its mercy. So
are those whose work on an output would have no bound (`conditions.py`).

A program that spends its CPU or wall budget is `timeout`; one that fails otherwise is `wrong`;
where the sandbox failed before the program began, it is `error`. "inputs" and "outputs" may be
Python literals in strings, so that JSON can carry tuples. Optional: "setup" (code before the
program), "limits" (fields of `Limits`), "language". Thread-safe; it blocks, so asyncio wants
`asyncio.to_thread`.
"""

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from baiwen.verify.code import answers, asserts, equality
from baiwen.verify.code.asserts import Call, Unsupported
from baiwen.verify.code.codes import decode, encode
from baiwen.verify.code.conditions import Unbounded
from baiwen.verify.code.harness import Failed, Harness
from baiwen.verify.sandbox import LANGUAGES, Level, Limits, best
from baiwen.verify.verdict import Verdict

LONGEST = 2**18  # characters of an answer that is still looked at
FLOAT = 1e-6  # how far a fraction in standard output may be off, absolutely or relatively
_NUMBER = re.compile(r"[-+.\dEe]+", re.ASCII)  # `float` also takes 1_000 and other digits

# What a truth amounts to: whether an answer holds, asked through a harness.
Question = Callable[[str, Harness], bool]
Hold = Callable[[Sequence[object]], bool]
# What codes that the inside made up can raise on their way through a comparison.
MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
UNREADABLE = (*MALFORMED, MemoryError, SyntaxError)  # what a truth can raise while it is read


@dataclass(frozen=True)
class Judgement:
    """A verdict on a program, with what led to it."""

    verdict: Verdict
    reason: str = ""
    level: Level | None = None  # of the sandbox; None where nothing was run


def check(answer: str, truth: Mapping[str, Any]) -> Verdict:
    """Does the program in `answer` do what `truth` says? `UserError` where no sandbox works."""
    return judge(answer, truth).verdict


def judge(answer: str, truth: Mapping[str, Any], level: Level | None = None) -> Judgement:
    """As `check`, with the reason; at `level` in place of the best that works here."""
    if isinstance(truth, Mapping) and truth.keys() == {"output"}:
        return _judge_value(answer, truth["output"])
    try:
        question, limits = _read(truth), replace(Limits(), **truth.get("limits", {}))
    except Unsupported as error:
        return Judgement(Verdict.undecided, f"the tests: {error}")
    except UNREADABLE as error:
        return Judgement(Verdict.error, f"the truth: {error}")
    if len(answer) > LONGEST:
        return Judgement(Verdict.wrong, f"an answer of more than {LONGEST} characters")
    harness = Harness(level or best(), limits)
    try:
        verdict, reason = Verdict.of(question(answer, harness)), ""
    except Unbounded as error:
        verdict, reason = Verdict.undecided, f"the tests: {error}"
    except Failed as failed:
        verdict, reason = failed.verdict, str(failed)
    except OSError as error:
        verdict, reason = Verdict.error, f"the sandbox failed: {error}"
    return Judgement(verdict, reason, harness.level)


def outputs(reference: str, entry_point: str, inputs: Sequence[Sequence[object]]) -> list[object]:
    """What a reference solution returns for each input: the "outputs" of a truth that lacks them.

    `ValueError` where it fails, raises, or returns something that is no plain data.
    """
    calls = [Call(entry_point, tuple(arguments)) for arguments in inputs]
    try:
        return [decode(code) for code in Harness(best(), Limits()).outputs(reference, calls)]
    except Failed as failed:
        raise ValueError(f"the reference solution: {failed}") from None


def same_text(printed: str, expected: str) -> bool:
    """Whether two outputs are equal, line by line, word by word.

    Space at the end of a line and empty lines at the end do not count; where a fraction is
    expected, a number may be off by `FLOAT`.
    """
    left, right = (text.rstrip().split("\n") for text in (printed, expected))
    return len(left) == len(right) and all(map(_same_line, left, right))


def _same_line(printed: str, expected: str) -> bool:
    left, right = printed.split(), expected.split()
    return len(left) == len(right) and all(map(_same_word, left, right))


def _same_word(printed: str, expected: str) -> bool:
    if printed == expected or "." not in expected or not _NUMBER.fullmatch(printed):
        return printed == expected
    try:
        found, wanted = float(printed), float(expected)
    except ValueError:
        return False
    return math.isfinite(wanted) and abs(found - wanted) <= FLOAT * max(1.0, abs(wanted))


# The forms of a truth.


def _read(truth: Mapping[str, Any]) -> Question:
    """The question that a truth asks; any error of reading it is the truth's fault."""
    if truth.get("language", "python") not in LANGUAGES:
        raise ValueError(f"no language {truth['language']!r}; there are {[*LANGUAGES]}")
    for key, form in (
        ("tests", _asserted),
        ("inputs", _returned),
        ("stdin", _printed),
        ("code", _given),
    ):
        if key in truth:
            return form(truth)
    raise ValueError("it has none of tests, inputs, stdin, code, output")


def _asserted(truth: Mapping[str, Any]) -> Question:
    tests = truth["tests"]
    text = tests if isinstance(tests, str) else "\n".join(tests)
    checks = asserts.parse(text, _text(truth, "entry_point") or None)
    return _calling(checks.calls, checks.hold, _source(truth, "setup"))


def _returned(truth: Mapping[str, Any]) -> Question:
    inputs, expected = (_listed(truth[key]) for key in ("inputs", "outputs"))
    name = _text(truth, "entry_point")
    if not name or not inputs or len(inputs) != len(expected):
        raise ValueError(f"{len(inputs)} inputs and {len(expected)} outputs of {name!r}")
    calls = tuple(Call(name, tuple(_listed(arguments))) for arguments in inputs)
    codes = [_plain(value) for value in expected]

    def hold(found: Sequence[object]) -> bool:
        return all(map(equality.equal, found, codes))

    return _calling(calls, hold, _source(truth, "setup"))


def _calling(calls: tuple[Call, ...], hold: Hold, setup: str) -> Question:
    name = calls[0].function.partition(".")[0]

    def question(answer: str, harness: Harness) -> bool:
        source = f"{setup}\n{answers.program(answer, name)}"
        return _sound(hold, harness.outputs(source, calls))

    return question


def _printed(truth: Mapping[str, Any]) -> Question:
    inputs, expected = truth["stdin"], truth["stdout"]
    lists = isinstance(inputs, list) and isinstance(expected, list) and len(inputs) == len(expected)
    if not lists or {*map(type, [*inputs, *expected])} != {str}:
        raise ValueError("stdin and stdout are lists of as many strings")

    def question(answer: str, harness: Harness) -> bool:
        return all(map(same_text, harness.prints(answers.program(answer), inputs), expected))

    return question


def _given(truth: Mapping[str, Any]) -> Question:
    """A program is given, and the answer is what to call it with."""
    code, function = _source(truth, "code"), _text(truth, "entry_point") or "f"
    expected = _encoded(truth["output"])

    def question(answer: str, harness: Harness) -> bool:
        arguments = answers.arguments(answer, function)
        if arguments is None:
            return False
        found = harness.outputs(code, [Call(function, *arguments)])
        return _sound(lambda outputs: equality.equal(outputs[0], expected, absolute=0), found)

    return question


def _judge_value(answer: str, output: str) -> Judgement:
    """Whether the answer states a value, exactly. Nothing is run."""
    try:
        expected = _encoded(output)
    except UNREADABLE as error:
        return Judgement(Verdict.error, f"the truth: {error}")
    found = answers.value(answer)
    same = found is not None and equality.equal(encode(found[0]), expected, absolute=0)
    return Judgement(Verdict.of(same))


def _source(truth: Mapping[str, Any], key: str) -> str:
    """Python of a truth; `SyntaxError` where it is none."""
    ast.parse(source := _text(truth, key))
    return source


def _text(truth: Mapping[str, Any], key: str) -> str:
    if not isinstance(text := truth.get(key) or "", str):
        raise TypeError(f"{key} is no string")
    return text


def _listed(value: str | Sequence[Any]) -> Sequence[Any]:
    found = asserts.literal(value) if isinstance(value, str) else value
    if not isinstance(found, list | tuple):
        raise ValueError("inputs and outputs are lists")
    return found


def _encoded(text: str) -> object:
    return _plain(asserts.literal(text))


def _plain(value: object) -> object:
    """The code of an expected value; `ValueError` where it is no plain data."""
    decode(code := encode(value))
    return code


def _sound(hold: Hold, outputs: Sequence[object]) -> bool:
    """Whether outputs hold; what is no code of any value does not."""
    try:
        return hold(outputs)
    except MALFORMED:
        return False
