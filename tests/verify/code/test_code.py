"""Programs against truths of every form: assertions, outputs, printed text, CRUXEval's values."""

import asyncio
import gzip
import json
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baiwen.errors import UserError
from baiwen.verify import Verdict, check, code, sandbox
from baiwen.verify.code import answers, asserts
from baiwen.verify.code.asserts import Call, Unsupported
from baiwen.verify.code.codes import decode, encode
from baiwen.verify.code.equality import equal, key
from benchmarks import sandbox as benchmark

ADDS = "def add(a, b):\n    return a + b"
TESTS = {"tests": "assert add(1, 2) == 3\nassert add('a', 'b') == 'ab'"}
RETURNS = {"entry_point": "add", "inputs": [[1, 2], [[1], [2]]], "outputs": [3, [1, 2]]}
METHOD = "class Solution:\n    def add(self, a, b): return a + b"
HUMANEVAL = "def check(candidate):\n    assert candidate('ab') == 'ba'\ncheck(f)"
# As text within text, its quotation marks would double at each level.
DEEP_SET = (
    "def f(x):\n s = frozenset(['\\'\"'])\n for _ in range(60): s = frozenset([s])\n return {s}"
)
DOUBLES = {"code": "def f(x, y=1): return x * 2 * y", "output": "'bb'"}


@pytest.fixture
def works():
    try:
        sandbox.best()
    except UserError as error:
        pytest.skip(f"no sandbox runs here: {error}")


def rows(shared, name):
    with gzip.open(shared / "eval" / name, "rt") as file:
        return [json.loads(line) for line in file]


RIGHT = [
    (ADDS, TESTS),
    (f"Sure, here it is:\n```python\n{ADDS}\n```\nIt adds.\n```\n$ python add.py\n```", TESTS),
    (f"```py\n{ADDS}", TESTS),
    (ADDS, RETURNS),
    (ADDS, RETURNS | {"inputs": "[((1,), (2,))]", "outputs": "[(1, 2)]"}),
    (METHOD, RETURNS | {"entry_point": "Solution.add"}),
    ("def f(a): return math.sqrt(a)", {"setup": "import math", "tests": "assert f(9) == 3"}),
    ("def f(x): return {x: {1.5, 2}}", {"tests": "assert f('a') == {'a': {2, 1.5}}"}),
    ("def f(x): return x or None", {"tests": ["assert f(0) is None", "assert f(2)"]}),
    ("def f(x): return float('nan')", {"tests": "assert math.isnan(f(1))"}),
    ("def f(x): return 2**x", {"tests": f"assert f(300) == {2**300}"}),
    ("def f(x): return {2**x}", {"tests": f"assert f(2000) == {{{2**2000}}}"}),
    ("def f(x): return [0] * x", {"tests": "assert len(f(50_000)) == 50_000"}),
    ("def f(x): return x[::-1]", {"tests": HUMANEVAL}),
    ("print(input())\nprint(.5)", {"stdin": ["1 2"], "stdout": ["1 2 \n0.50000001\n\n"]}),
    ("print(open('/dev/stdin').read())", {"stdin": ["1\n2\n", ""], "stdout": ["1\n2", ""]}),
    ("import sys\nprint(sys.stdin.buffer.read())\nexit()", {"stdin": ["x"], "stdout": ["b'x'"]}),
    ("[1, 2]", {"output": "[1, 2]"}),
    ("[ANSWER]\nassert f(1) == {'a': (1,)}\n[/ANSWER]", {"output": "{'a': (1,)}"}),
    ("'b'", DOUBLES),
    ("```\nf('b', y=1)\n```", DOUBLES),
]  # fmt: skip
WRONG = [
    ("def add(a, b): return a - b", TESTS),
    ("def sub(a, b): return a + b", TESTS),
    ("def add(a, b): return None", TESTS),
    ("def add(a, b) return", TESTS),
    ("I cannot.", TESTS),
    ("", TESTS),
    ("def add(a, b): return (1, 2) if a == [1] else 3", RETURNS),
    ("def f(x): return 0.9999999", {"tests": "assert f(1) == 1"}),
    ("print(3)", {"stdin": ["1", "2"], "stdout": ["3", "4"]}),
    ("print(1, 2)", {"stdin": [""], "stdout": ["1\n2"]}),
    ("[1, 3]", {"output": "[1, 2]"}),
    ("'a' * 10**12", {"output": "'a'"}),
    ("'c'", DOUBLES),
    ("__import__('os').getpid()", DOUBLES),
    ("x" * 300_000, TESTS),
    ("{" + "9" * 400 + "}", {"output": "{1}"}),
    (DEEP_SET, {"tests": "assert f(1) == {1}"}),
]  # fmt: skip
UNDECIDED = [
    "for i in range(3): assert add(i, i) == 2 * i",
    "assert add(1, 2) == sub(4, 1)",
    "from collections import Counter\nassert add(1, 2) == Counter('aaa')",
    "assert add(add(1, 2), 3) == 6",
    "def check(candidate):\n  x = 1\n  assert candidate(x, 2) == 3\ncheck(add)",
    "assert add(1, 2) == sys.getsizeof(3)",
    "assert True",
    "assert add(1, 2) ==",
    "assert [add(i, 1) for i in (1, 2)] == [2, 3]",
    "assert add(1, 2) % 2 == 1",
    "assert dict(**add({}, {})) == {}",
]
ERRORS = [
    None,
    {},
    {"test": "assert add(1, 2) == 3"},
    {"inputs": [[1]], "outputs": [1, 2], "entry_point": "f"},
    {"inputs": [[1]], "outputs": [1]},
    {"inputs": "[[open('/etc/passwd')]]", "outputs": [1], "entry_point": "f"},
    {"inputs": [[1]], "outputs": [object()], "entry_point": "f"},
    {"stdin": ["1"], "stdout": []},
    {"stdin": [1], "stdout": [1]},
    {"output": "f(x)"},
    TESTS | {"language": "cobol"},
    TESTS | {"limits": {"time": 3}},
    TESTS | {"limits": {"wall": "long"}},
    TESTS | {"limits": {"cpu": 0.5}},
    TESTS | {"limits": {"processes": 0}},
    TESTS | {"setup": ["import math"]},
    TESTS | {"entry_point": 5},
    {"inputs": ["ab"], "outputs": [1], "entry_point": "f"},
    {"stdin": "ab", "stdout": "ab"},
    {"code": "def f(:", "output": "1"},
]


@pytest.mark.parametrize(("answer", "truth"), RIGHT)
def test_right(answer, truth, works):
    assert code.judge(answer, truth).verdict is Verdict.right, code.judge(answer, truth)


@pytest.mark.parametrize(("answer", "truth"), WRONG)
def test_wrong(answer, truth, works):
    assert check("code", answer, truth) is Verdict.wrong


@pytest.mark.parametrize("tests", UNDECIDED)
def test_tests_that_would_have_to_run_beside_the_program_are_undecided(tests):
    assert check("code", ADDS, {"tests": tests}) is Verdict.undecided


@pytest.mark.parametrize(
    ("output", "test"),
    [
        ("10**13", "'a' * f(1) == 'a'"),
        ("10**13", "[1] * f(1) == [1]"),
        ("x or [0] * 9999", "[f(0)] * f(9999) == [[0]]"),
        ("10**13", "bytes(f(1)) == b''"),
        ("-10**9", "round(5, f(1)) == 0"),
        ("[2**61 * i for i in range(9000)]", "len(set(f(1))) == 1"),
        ("iter([3])", "list(f(1)) == [3]"),
    ],
)
def test_work_on_an_output_that_has_no_bound_is_undecided(output, test, works):
    judged = code.judge(f"def f(x): return {output}", {"tests": f"assert {test}"})
    assert (judged.verdict, judged.reason[:9]) == (Verdict.undecided, "the tests")


@pytest.mark.parametrize("truth", ERRORS)
def test_a_truth_that_cannot_be_read_is_an_error(truth):
    assert check("code", ADDS, truth) is Verdict.error


def test_time_that_runs_out_is_told_apart(works):
    limits = {"limits": {"cpu": 1, "wall": 60.0}}
    judged = code.judge("def add(a, b):\n    while True: pass", TESTS | limits)
    assert (judged.verdict, judged.reason) == (Verdict.timeout, "out of cpu time")
    loop = {"stdin": ["1"], "stdout": ["1"]} | limits
    assert check("code", "while True: pass", loop) is Verdict.timeout


def test_a_judgement_names_its_level_and_reason(works):
    judged = code.judge("def add(a, b): retrun a", TESTS)
    assert judged == code.Judgement(Verdict.wrong, "SyntaxError: invalid syntax", sandbox.best())


def test_a_sandbox_that_fails_is_an_error_and_no_verdict_on_the_program(works):
    truth = TESTS | {"limits": {"memory": 2**20}}  # no interpreter starts in a megabyte
    judged = code.judge(ADDS, truth)
    assert judged.verdict is Verdict.error
    assert "the sandbox failed" in judged.reason


def test_many_threads_and_an_event_loop_judge_at_once(works):
    answers_ = [ADDS, "def add(a, b): return b"] * 4
    expected = [Verdict.right, Verdict.wrong] * 4
    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(code.check, answers_, [TESTS] * 8)] == expected

    async def all_of_them():
        return await asyncio.gather(*(asyncio.to_thread(code.check, a, TESTS) for a in answers_))

    assert asyncio.run(all_of_them()) == expected


# Values.

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
plain = st.recursive(
    leaves | st.complex_numbers() | st.sets(st.integers() | st.text()),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=12,
)


@given(plain)
@settings(max_examples=300)
def test_values_come_back_from_their_codes_by_way_of_json(value):
    there = json.loads(json.dumps(encode(value)))
    assert repr(decode(there)) == repr(value) or decode(there) == value
    assert equal(there, encode(value), 0)


numbers = (
    st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 1.0, 0.5, -0.0, 2.0**60, 2**60])
)


@given(st.lists(numbers), st.lists(numbers))
def test_codes_are_equal_where_python_says_that_values_are(left, right):
    for kind in (list, tuple, set, frozenset):
        assert equal(encode(kind(left)), encode(kind(right)), 0) is (kind(left) == kind(right))


@given(
    numbers | st.text() | st.tuples(numbers, numbers),
    numbers | st.text() | st.tuples(numbers, numbers),
)
def test_texts_of_elements_agree_as_the_elements_do(left, right):
    assert (key(encode(left)) == key(encode(right))) is (left == right)


def test_a_float_that_is_expected_may_be_off_by_a_little():
    assert equal(encode([0.1 + 0.2]), encode([0.3]))
    assert equal(encode(3), encode(3.0000001))
    assert not equal(encode(0.30001), encode(0.3))
    assert not equal(encode(3.0000001), encode(3))
    assert equal(encode(math.nan), encode(math.nan))
    assert equal(encode(math.inf), encode(math.inf))
    assert not equal(encode(math.inf), encode(-math.inf))
    assert not equal(encode(5.0), encode(math.inf))


def test_printed_text_is_compared_by_line_and_word_with_fractions_off_by_a_little():
    for printed in ("a 0.3333333\n", "a  .33333333 \n\n", "a 3.3333333e-1"):
        assert code.same_text(printed, "a 0.3333333333")
    for printed in ("a\n0.3333333333", "a 0.33", "a nan", "a 0.3_333333333", "a ０.3333333333"):
        assert not code.same_text(printed, "a 0.3333333333")
    assert not code.same_text("1.0", "1")


# Reading tests and answers.


def test_assertions_are_taken_apart():
    checks = asserts.parse("assert f(1, [2], k=(3,)) == 4 and f(-1) != f(float('inf')), 'why'", "f")
    assert checks.calls == (
        Call("f", (1, [2]), {"k": (3,)}),
        Call("f", (-1,)),
        Call("f", (math.inf,)),
    )
    assert checks.hold([4, 1, 2])
    assert not checks.hold([4, 1, 1])
    assert not checks.hold([4, 1, {"raised": "ValueError"}])


CONDITIONS = [
    *(
        "sorted(f(0)) == [1, 2]",
        "len(f(0)) == 2",
        "set(f(0)) == {1, 2}",
        "1 in f(0)",
        "f(0)[0] == 2",
    ),
    *(
        "3 not in f(0)",
        "f(0) < [3]",
        "not f(0) == (2, 1)",
        "[2, 1] == f(0)",
        "sum(f(0)) / 2 == 1.5",
    ),
    *("f(0) is not None", "f(0) and True", "1 <= len(f(0)) < 3", "max(f(0)) - 1 == 1"),
]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_conditions_are_decided_as_python_does(condition):
    assert eval(condition, {"f": lambda _: [2, 1]}) is True
    assert asserts.parse(f"assert {condition}", "f").hold([[2, 1]] * 2)
    assert not asserts.parse(f"assert not ({condition})", "f").hold([[2, 1]] * 2)


def test_a_condition_on_other_functions_is_unsupported():
    with pytest.raises(Unsupported, match="isinstance"):
        asserts.parse("assert isinstance(f(0), list)", "f")


def test_of_several_blocks_the_one_that_defines_the_name_is_run():
    answer = "```python\ndef f(): pass\n```\n~~~json\n{}\n~~~\n```python\nprint(f())\n```"
    assert answers.program(answer, "f") == "def f(): pass\n"
    assert answers.program(answer, "g") == "print(f())\n"
    assert answers.program("def f(): pass", "f") == "def f(): pass"


@given(st.text(alphabet="`~pyf()[]{}=' \n\"\\1,x-", max_size=200))
def test_no_answer_makes_the_readers_raise(answer):
    answers.program(answer, "f")
    answers.value(answer)
    answers.arguments(answer, "f")


# Data.


@pytest.mark.slow
def test_solutions_of_mbpp_pass_and_their_mutants_do_not(shared, works):
    tasks = rows(shared, "mbppplus/mbppplus_dev.jsonl.gz")[::28]
    for task in tasks:
        assert benchmark.solution(task) == ("right", "right"), task["task_id"]
    found = [row for task in tasks for row in benchmark.mutation(task, most=2)]
    assert sum(differs for differs, _ in found) >= 6
    for differs, verdict in found:
        assert (verdict is Verdict.right) is not differs


def test_the_solutions_of_mbpps_sandbox_format_pass(shared, works):
    for row in rows(shared, "code_samples/code_eval_mbpp.jsonl.gz")[:5]:
        truth = {"tests": row["test_list"], "setup": row["labels"]["test_setup_code"]}
        assert check("code", row["canonical_solution"], truth) is Verdict.right


def test_cruxeval_is_judged_both_ways(shared, works):
    for row in rows(shared, "cruxeval/cruxeval_dev.jsonl.gz")[:5]:
        assert check("code", row["output"], {"output": row["output"]}) is Verdict.right
        assert check("code", "None", {"output": row["output"]}) is Verdict.wrong
        given_ = {"code": row["code"], "output": row["output"]}
        assert check("code", row["input"], given_) is Verdict.right


def test_standard_input_of_contests_is_read_and_judged(shared, works):
    row = rows(shared, "code_samples/code_eval_code_contests.jsonl.gz")[1]
    tests = json.loads(row["test"])[:5]
    truth = {"stdin": [test["input"]["stdin"] for test in tests],
             "stdout": [test["output"]["stdout"] for test in tests]}  # fmt: skip
    known = dict(zip(truth["stdin"], truth["stdout"], strict=True))
    program = f"import sys\nprint({known!r}[sys.stdin.read()])"
    assert check("code", program, truth) is Verdict.right
    assert check("code", "print(sum(map(len, open(0))))", truth) is Verdict.wrong
