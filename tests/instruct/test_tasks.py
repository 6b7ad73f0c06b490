"""Every kind of task: its verifier knows right from wrong, and its two sides never meet."""

import random
from itertools import islice, pairwise

import pytest

from baiwen import verify
from baiwen.errors import UserError
from baiwen.instruct import draw
from baiwen.instruct.task import Task, document
from baiwen.verify import Verdict

GARBAGE = ["", " \n", "?", "asdf qwer zxcv", "[]", "{}", "null", "0", "<tool_call>", "!" * 500]


@pytest.fixture(scope="module")
def drawn():
    tasks = list(islice(draw.training(draw.KINDS, seed=3, stream="test"), 200 * len(draw.KINDS)))
    return {kind: [task for task in tasks if task.kind == kind] for kind in draw.KINDS}


def as_text(task):
    """What a model would have to say: the document's part after the label."""
    return document(task.messages[1:]).removeprefix("Answer: ")


@pytest.mark.parametrize("kind", draw.KINDS)
def test_the_oracle_is_accepted(drawn, kind):
    assert len(drawn[kind]) == 200
    for task in drawn[kind]:
        assert verify.check(task.verifier, as_text(task), task.answer) is Verdict.right, task


@pytest.mark.parametrize("kind", draw.KINDS)
def test_garbage_and_the_prompt_said_back_are_refused(drawn, kind):
    for task in drawn[kind]:
        for answer in [*(g for g in GARBAGE if g != str(task.answer)), task.prompt]:
            assert verify.check(task.verifier, answer, task.answer) is Verdict.wrong, (task, answer)


@pytest.mark.parametrize("kind", draw.KINDS)
def test_the_reply_to_another_instance_is_seldom_right(drawn, kind):
    tasks = drawn[kind]
    lucky = sum(
        verify.check(task.verifier, as_text(other), task.answer) is Verdict.right
        for task, other in pairwise(tasks)
    )
    # The counts are small numbers; for every other kind luck is rare.
    assert lucky <= (80 if kind == "counting" else 10)


@pytest.mark.parametrize("kind", draw.KINDS)
def test_training_and_heldout_instances_are_disjoint_whatever_the_seed(drawn, kind):
    held = {task.key for seed in (0, 1) for task in draw.heldout(kind, count=60, seed=seed)}
    assert len(held) >= 60
    assert not held & {task.key for task in drawn[kind]}


def test_the_key_names_the_instance_and_not_its_wording():
    add = draw.PRODUCERS["arithmetic"]
    tasks = [add(random.Random(seed)) for seed in range(4000)]
    sums = [task for task in tasks if "+" in task.key]
    for task in sums:
        left, right = sorted(map(int, task.key.split("+")))
        assert task.key == f"{left}+{right}"  # 3 + 4 and 4 + 3 are one instance
        assert int(task.answer) == left + right


def test_the_same_seed_draws_the_same_and_another_seed_draws_others():
    def first(seed):
        return [task.prompt for task in islice(draw.training(draw.KINDS, seed, "train"), 80)]

    assert first(0) == first(0)
    assert len(set(first(0)) & set(first(1))) < 8


@pytest.mark.parametrize("kind", draw.KINDS)
def test_prompts_and_replies_stay_small(drawn, kind):
    for task in drawn[kind]:
        assert len(task.prompt) <= 300
        assert 0 < len(as_text(task)) <= 140
        assert "\n\n" not in document(task.messages, task.tools)  # few-shot stops at a blank line


def test_a_kind_with_too_few_heldout_instances_says_so(monkeypatch):
    same = Task("arithmetic", "What is 1 + 1?", "1+1=2", "2", "number", key="held")
    key = next(f"key {n}" for n in range(1000) if _with_key(same, f"key {n}").heldout)
    monkeypatch.setitem(draw.PRODUCERS, "arithmetic", lambda rng: _with_key(same, key))
    with pytest.raises(UserError, match="'arithmetic' gave only 1 different held-out instances"):
        list(draw.heldout("arithmetic", count=2, seed=0))


def test_an_unknown_kind_is_named():
    with pytest.raises(UserError, match="no task kind 'addition'"):
        next(draw.training(["addition"], 0, "train"))


def _with_key(task, key):
    return Task(task.kind, task.prompt, task.reply, task.answer, task.verifier, key)
