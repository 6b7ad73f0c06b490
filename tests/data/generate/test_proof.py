"""Problems are solved again, exercises run in the sandbox, and neither is taken at its word."""

import pytest

from baiwen import files
from baiwen.data.generate import proof
from baiwen.data.generate.drafts import Draft
from baiwen.data.generate.prompts import Prompt, Seed
from baiwen.data.generate.proof import Proof, agreed, known
from baiwen.endpoint import Answer, Reply
from baiwen.endpoint.answers import SPENT
from baiwen.verify import sandbox

PLAIN = Draft(Prompt(name="text", text="{topic}"), Seed("t"), [], {}, Reply("a text"), "m")


def problem(answer, number=0, truth=None):
    prompt = Prompt(name="p", form="problem", text="{document}", truth=truth is not None)
    parts = {"problem": f"{number}: what is 2 + 2?", "solution": f"2 + 2, so \\boxed{{{answer}}}"}
    seed = Seed("id", "2 + 2", {"answer": truth})
    return Draft(prompt, seed, [], {"temperature": 0.8, "seed": 7}, Reply("x"), "m", parts)


def solver(*texts):
    """Gives these texts in turn for every problem."""
    asked = []

    def solve(requests):
        for number, request in enumerate(requests):
            asked.append(request)
            yield Answer(texts[number % len(texts)], (Reply(texts[number % len(texts)]),))

    return solve, asked


def test_a_problem_stays_where_enough_samples_come_to_its_answer():
    solve, asked = solver("\\boxed{4}", "It is 4.0", "\\boxed{5}")
    drafts = [PLAIN, problem(4), problem(5, 1), PLAIN, problem("8/2", 2), PLAIN]
    found = list(agreed(drafts, solve, Proof(samples=3, agree=0.5)))
    assert [draft.seed.id for draft in found] == ["t", "id", "id", "t", "id", "t"]
    assert [draft.scores for draft in found if not draft.verdict and draft.scores] == [
        {"math.agreement": 2 / 3}, {"math.agreement": 2 / 3}
    ]  # fmt: skip
    assert found[2].verdict == ("math", "samples do not agree", 1 / 3, 0.5)
    assert len(asked) == 9 and len({str(request) for request in asked}) == 9


def test_what_is_no_problem_does_not_wait_for_one():
    solve, _ = solver("\\boxed{4}")
    drafts = iter([PLAIN] * 100)
    assert next(agreed(drafts, solve, Proof())) == PLAIN
    assert len(list(drafts)) > 90


def test_the_solution_is_not_shown_to_who_solves_it_again():
    solve, asked = solver("\\boxed{4}")
    list(agreed([problem(4)], solve, Proof(samples=2)))
    for messages, sampling in asked:
        assert "so \\boxed" not in str(messages) and "2 + 2" in messages[-1]["content"]
        assert sampling["temperature"] == 0.8
    assert [sampling["seed"] for _, sampling in asked] == [0, 1]


def test_a_problem_that_was_not_solved_again_for_want_of_money_is_told_so():
    def spent(requests):
        return (Answer(None, (), SPENT) for _ in requests)

    [found] = agreed([problem(4)], spent, Proof(samples=1))
    assert found.verdict == ("model", SPENT, None, None)


@pytest.mark.parametrize(("answer", "rule"), [(4, None), (5, "the answer is wrong")])
def test_where_the_seed_knows_the_answer_it_decides_alone(answer, rule):
    solve, asked = solver("\\boxed{5}")
    [found] = agreed(known([problem(answer, truth="4")]), solve, Proof())
    assert (found.verdict and found.verdict.rule) == rule and asked == []


def exercise(program, tests):
    prompt = Prompt(name="e", form="exercise", text="{topic}")
    parts = {"exercise": "Double it.", "program": program, "tests": tests}
    return Draft(prompt, Seed("e"), [], {}, Reply("x"), "m", parts)


DOUBLE = "def double(number):\n    return 2 * number"
TESTS = "assert double(1) == 2\nassert double(-3) == -6\nassert double(0) == 0"


def test_an_exercise_stays_where_its_program_passes_tests_that_mean_something(tmp_path):
    try:
        sandbox.best()
    except Exception as error:
        pytest.skip(f"no sandbox works here: {error}")
    drafts = [
        exercise(DOUBLE, TESTS),
        exercise(DOUBLE.replace("2", "3"), TESTS),
        exercise("def double(number):\n    raise ValueError", TESTS),
        PLAIN,
        exercise("def double(number):\n    pass", "assert double(1) == None\n" * 3),
        exercise(DOUBLE, "import os\nassert os.getpid() > 0"),
    ]
    with files.Ledger(tmp_path / "judged.jsonl") as cache:
        found = [draft.verdict and draft.verdict.rule for draft in proof.tested(drafts, cache, 2)]
        assert found[:4] == [None, "its program is wrong", "its program is wrong", None]
        assert found[4] == "its tests pass whatever the program does"
        assert found[5] is not None
        assert len(cache.rows) == 5
        again = [draft.verdict and draft.verdict.rule for draft in proof.tested(drafts, cache, 2)]
    assert again == found
