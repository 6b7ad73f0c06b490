"""The code sandbox: programs a second at each level, and MBPP+ with its solutions and mutants.

    python -m benchmarks.sandbox                       # levels, and all of the data
    python -m benchmarks.sandbox --programs 50 --tasks 20 --write

A program of the first table adds two numbers and is judged by three assertions; `--workers` threads
judge at once. Then every reference solution of MBPP+ is judged by its own assertions and by its own
outputs on the inputs of the set, and so are mutants of it: one operator, comparison or constant
changed. A mutant counts where its outputs differ from the solution's on some input; it must not
pass. CRUXEval's programs are judged by what its rows say comes out of them.
"""

import argparse
import ast
import copy
import gzip
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any, TypeVar

from baiwen.verify import Verdict, code, sandbox
from baiwen.verify.code import asserts
from baiwen.verify.code.asserts import Call
from baiwen.verify.code.codes import decode
from baiwen.verify.code.harness import Failed, Harness
from benchmarks import page
from benchmarks.turns import ROOT

LEAST = 10  # programs a second: the target
DATA = ROOT.parent / "shared" / "data" / "eval"
ADDS = "def add(a, b):\n    return a + b\n"
TESTS = {"tests": "assert add(1, 2) == 3\nassert add(-1, 1) == 0\nassert add('a', 'b') == 'ab'"}
MUTANTS = 4  # of each solution, at most

Row = dict[str, Any]
T = TypeVar("T")


def rows(name: str) -> list[Row]:
    """The rows of a data set below `DATA`."""
    with gzip.open(DATA / name, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def like(value: Any, example: Any) -> Any:
    """A JSON value with the types of an example of the same argument: JSON has no tuples."""
    if isinstance(example, complex):
        return complex(value)
    if isinstance(example, float) and isinstance(value, str):
        return float(value)
    if isinstance(example, dict) and isinstance(value, dict):
        kinds = [*example.values()] or [None]
        return {key: like(item, example.get(key, kinds[0])) for key, item in value.items()}
    if isinstance(example, set | frozenset):
        return type(example)(value)
    if isinstance(example, list | tuple) and isinstance(value, list):
        kinds = [*example] or [None]
        last = len(kinds) - 1
        return type(example)(like(item, kinds[min(at, last)]) for at, item in enumerate(value))
    return value


def inputs(task: Row) -> list[tuple[Any, ...]]:
    """The inputs of a task of MBPP+, base and plus, with the types that its assertions use."""
    examples = asserts.parse(task["assertion"], task["entry_point"]).calls[0].arguments
    given = task["base_input"] + task["plus_input"]
    return [tuple(map(like, arguments, examples)) for arguments in given]


SWAPS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


def mutants(source: str, most: int) -> list[str]:
    """Up to `most` programs that differ from `source` in one operator or one constant."""
    tree = ast.parse(source)
    places = [place for place, node in enumerate(ast.walk(tree)) if mutable(node)]
    chosen = places[:: max(1, -(-len(places) // most))]
    return [mutated(tree, place) for place in chosen]


def mutable(node: ast.AST) -> bool:
    """Whether `mutated` can change this node."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, bool | int | float)
    return type(node) in SWAPS


def mutated(tree: ast.Module, place: int) -> str:
    """The program with the node at `place` changed."""
    copied = copy.deepcopy(tree)
    for parent in ast.walk(copied):  # operators are shared objects, so they change in their parent
        for name, value in ast.iter_fields(parent):
            if isinstance(value, list):
                value[:] = [copy.copy(item) for item in value]
            elif isinstance(value, ast.AST):
                setattr(parent, name, copy.copy(value))
    node = list(ast.walk(copied))[place]
    if isinstance(node, ast.Constant):
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1
    else:
        node.__class__ = SWAPS[type(node)]  # type: ignore[assignment]
    return ast.unparse(copied)


def solution(task: Row) -> tuple[str, str]:
    """How a task's own solution fares: by its assertions, and by its outputs on all inputs."""
    answer, name = task["canonical_solution"], task["entry_point"]
    asserted = code.judge(answer, {"tests": task["assertion"], "entry_point": name})
    try:
        given = inputs(task)
        truth = {"entry_point": name, "inputs": given, "outputs": code.outputs(answer, name, given)}
    except ValueError as error:
        return told(asserted), f"undecided: {error}"
    return told(asserted), told(code.judge(answer, truth))


def told(judged: code.Judgement) -> str:
    """A verdict with its reason, if it has one."""
    return f"{judged.verdict}: {judged.reason}" if judged.reason else str(judged.verdict)


def mutation(task: Row, most: int) -> list[tuple[bool, Verdict]]:
    """For mutants of a task's solution: whether it does something else, and its verdict."""
    name = task["entry_point"]
    try:
        given = inputs(task)
        expected = code.outputs(task["canonical_solution"], name, given)
    except ValueError:
        return []
    truth = {"entry_point": name, "inputs": given, "outputs": expected}
    truth["limits"] = {"cpu": 2, "wall": 20.0}
    made = mutants(task["canonical_solution"], most)
    return [(differs(mutant, truth), code.check(mutant, truth)) for mutant in made]


def differs(program: str, truth: Row) -> bool:
    """Whether a program's outputs are others, in a run and by a comparison of its own."""
    limits = sandbox.Limits(**truth["limits"])
    calls = [Call(truth["entry_point"], tuple(arguments)) for arguments in truth["inputs"]]
    try:
        found = Harness(sandbox.best(), limits).outputs(program, calls)
        return not all(map(near, map(decode, found), truth["outputs"]))
    except (Failed, ValueError, TypeError):
        return True


def near(left: object, right: object) -> bool:
    """Equal as Python says, floats to six places."""
    if isinstance(right, list | tuple) and type(left) is type(right):
        return len(left) == len(right) and all(map(near, left, right))  # type: ignore[arg-type]
    if isinstance(right, float) and isinstance(left, int | float):
        return left == right or abs(left - right) <= 1e-6 + 1e-7 * abs(right)
    return left == right


def main() -> None:
    """Measure, print, and write the page when asked."""
    options = arguments()
    levels = [level for level in sandbox.LEVELS if not sandbox.unusable(level)]
    if not levels:
        sandbox.best()  # says why
    table, verdicts = [], []
    for level in levels:
        rate, alone = speed(level, options)
        table.append((level, f"{rate:.1f}", f"{1e3 * alone:.0f}"))
        verdicts.append(
            (f"level {level}, programs a second", f">= {LEAST}", f"{rate:.1f}", rate >= LEAST)
        )
    body = [f"{options.workers} threads judge {options.programs} programs of three assertions.", ""]
    body += [*page.table(("level", "programs/s", "ms a run, alone, median"), table), ""]
    if DATA.is_dir():
        lines, more = data(options)
        body, verdicts = body + lines, verdicts + more
    body += page.claims(verdicts)
    page.publish("sandbox", "The code sandbox", body, options.write)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--programs", type=int, default=100, help="for the rate at each level")
    parser.add_argument("--workers", type=int, default=4, help="threads that judge at once")
    parser.add_argument("--tasks", type=int, default=None, help="of each data set; default: all")
    return parser.parse_args()


def speed(level: sandbox.Level, options: argparse.Namespace) -> tuple[float, float]:
    """Programs a second of all workers together; seconds of one run alone."""

    def judged(_: int) -> None:
        assert code.judge(ADDS, TESTS, level).verdict is Verdict.right

    alone = []
    for _ in range(10):
        began = time.perf_counter()
        judged(0)
        alone.append(time.perf_counter() - began)
    began = time.perf_counter()
    spread(judged, range(options.programs), options.workers)
    return options.programs / (time.perf_counter() - began), median(alone)


def spread(function: Callable[[Any], T], items: Iterable[Any], workers: int) -> list[T]:
    """The function of each item, by that many threads."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))


def data(options: argparse.Namespace) -> tuple[list[str], list[tuple[str, str, str, bool]]]:
    """The tables and claims about the data sets."""
    tasks = rows("mbppplus/mbppplus_dev.jsonl.gz")[: options.tasks]
    began = time.perf_counter()
    solved = spread(solution, tasks, options.workers)
    changed = spread(lambda task: mutation(task, MUTANTS), tasks, options.workers)
    crux = rows("cruxeval/cruxeval_dev.jsonl.gz")[: options.tasks]
    given = spread(takes_in, crux, options.workers)
    seconds = time.perf_counter() - began
    lines = [f"Judged at level {sandbox.best()}, in {seconds:.0f} s together.", ""]
    counts = [
        Counter(verdict.partition(":")[0] for verdict in by) for by in zip(*solved, strict=True)
    ]
    named = ("by their assertions", "by their outputs on all inputs")
    table = [
        (f"solutions {name}", *map(str, verdict_counts(found)))
        for name, found in zip(named, counts, strict=True)
    ]
    found = [row for rows_of in changed for row in rows_of]
    for other, name in (
        (True, "mutants that do something else"),
        (False, "mutants that do the same"),
    ):
        table.append(
            (name, *verdict_counts(Counter(str(v) for differs, v in found if differs is other)))
        )
    table.append(("CRUXEval, its inputs given", *verdict_counts(Counter(map(str, given)))))
    lines += [*page.table(("MBPP+", *Verdict), table), "", *exceptions(tasks, solved), ""]
    passed = sum(verdict is Verdict.right for differs, verdict in found if differs)
    return lines, [("mutants that pass", "0", str(passed), passed == 0)]


def verdict_counts(found: Counter[str]) -> list[str]:
    """How often each verdict came, in the order of `Verdict`."""
    return [str(found[verdict]) for verdict in Verdict]


def takes_in(row: Row) -> Verdict:
    """CRUXEval: does the program of a row return its output for its input?"""
    return code.check(row["input"], {"code": row["code"], "output": row["output"]})


def exceptions(tasks: Sequence[Row], solved: Sequence[tuple[str, str]]) -> Iterator[str]:
    """A line for each solution that does not pass."""
    for task, verdicts in zip(tasks, solved, strict=True):
        for verdict in verdicts:
            if verdict != Verdict.right:
                yield f"- {task['task_id']} `{task['entry_point']}`: {verdict}"


if __name__ == "__main__":
    main()
