"""The two ways a program is asked for data: calls of its functions, and standard inputs.

    harness = Harness("A", Limits())
    harness.outputs("def add(a, b): return a + b", [Call("add", (1, 2))])    -> [3]
    harness.prints("print(int(input()) + 1)", ["1", "41"])                   -> ["2\\n", "42\\n"]

All of a program's calls are one run; so are all of its inputs, save at level C, where a program may
not have children and each input is a run. The first line a run writes is a nonce, before the
program's first: where it is missing the sandbox failed, not the program. What does not end in one
well-formed report of the expected length is `Failed`.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from baiwen.verify.code import codes
from baiwen.verify.code.asserts import Call
from baiwen.verify.code.equality import Code
from baiwen.verify.sandbox.execute import OUT_OF_CPU, run
from baiwen.verify.sandbox.jail import Level
from baiwen.verify.sandbox.limits import Limits, Result
from baiwen.verify.verdict import Verdict

_CALLS, _CASES, _CODES = (
    Path(__file__).with_name(name).read_text(encoding="utf-8")
    for name in ("calls.py", "cases.py", "codes.py")
)
_TOLD = 300  # characters of a program's last words in a reason


class Failed(Exception):  # noqa: N818
    """A run that brought no complete report; `verdict` is what that means for the program."""

    def __init__(self, verdict: Verdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict = verdict


@dataclass(frozen=True)
class Harness:
    """A level of the sandbox with limits, as something that programs are asked through."""

    level: Level
    limits: Limits

    def outputs(self, source: str, calls: Sequence[Call]) -> list[Code]:
        """The code (`codes.py`) of each call's output; {"raised": type} for one that raised."""
        encoded = [
            [
                call.function,
                [codes.encode(value) for value in call.arguments],
                {name: codes.encode(value) for name, value in call.named.items()},
            ]
            for call in calls
        ]
        results = self._report(_CALLS, {"source": source, "calls": encoded, "codes": _CODES})
        return _of_length(results, len(calls))

    def prints(self, source: str, inputs: Sequence[str]) -> list[str]:
        """What the program writes to standard output for each standard input."""
        if self.level == "C":
            return [self._alone(source, stdin) for stdin in inputs]
        given = {"source": source, "stdin": list(inputs), "most": self.limits.output}
        rows = self._report(_CASES, given)
        if not all(map(_is_case, rows)):
            raise Failed(Verdict.wrong, "a report of another form")
        for row in rows:
            if row["exit"]:
                raise _ended(128 - min(row["exit"], 0), "a case ended badly")
        return [row["stdout"] for row in _of_length(rows, len(inputs))]

    def _alone(self, source: str, stdin: str) -> str:
        return self._run(_CASES, {"source": source, "stdin": None}, stdin).decode(errors="replace")

    def _report(self, harness: str, given: dict[str, object]) -> list[Code]:
        """The results of a report: one line of JSON after the nonce."""
        said = self._run(harness, given)
        try:
            results = json.loads(said)["results"]
        except (ValueError, TypeError, LookupError, RecursionError):
            raise Failed(Verdict.wrong, "no report, or more than one") from None
        if not isinstance(results, list):
            raise Failed(Verdict.wrong, "a report of another form")
        return results

    def _run(self, harness: str, given: dict[str, object], stdin: str = "") -> bytes:
        """What was written after the nonce."""
        nonce = secrets.token_hex(16)
        asked = json.dumps(given | {"nonce": nonce}).encode()
        header = f"{len(asked):>16}".encode()
        written = stdin.encode("utf-8", "surrogatepass")
        result = run(harness, header + asked + written, limits=self.limits, level=self.level)
        begun, said = result.stdout[: len(nonce) + 1], result.stdout[len(nonce) + 1 :]
        if begun != f"{nonce}\n".encode():
            raise Failed(Verdict.error, f"the sandbox failed: {_last_words(result)}")
        if result.limit in ("cpu", "wall"):
            raise Failed(Verdict.timeout, f"out of {result.limit} time")
        if not result.done:
            raise Failed(Verdict.wrong, result.limit or _last_words(result))
        return said


def _is_case(row: object) -> bool:
    """Whether a row has the driver's form: a program may write into the driver's memory."""
    return (
        isinstance(row, dict)
        and isinstance(row.get("stdout"), str)
        and isinstance(row.get("exit"), int)
    )


def _of_length(results: list, wanted: int) -> list:
    if len(results) != wanted:
        raise Failed(Verdict.wrong, f"{len(results)} results in place of {wanted}")
    return results


def _ended(code: int, reason: str) -> Failed:
    return Failed(Verdict.timeout if code == OUT_OF_CPU else Verdict.wrong, reason)


def _last_words(result: Result) -> str:
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1][:_TOLD] if lines else f"exit code {result.exit}"
