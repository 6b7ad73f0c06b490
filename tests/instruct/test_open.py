"""Kinds with many right answers: all that is asked is judged, and no one answer fits all."""

import json
import re
from itertools import islice

import pytest

from baiwen import verify
from baiwen.instruct import draw
from baiwen.instruct.task import document
from baiwen.verify import Verdict, tool_call

OPEN = ("any_call", "any_person", "any_repeat")


def tasks(kind):
    return list(islice(draw.training([kind], seed=5, stream="open"), 60))


def right(task, answer):
    return verify.check(task.verifier, answer, task.answer) is Verdict.right


def said(task):
    """The reply that is shown."""
    return document(task.messages[1:]).removeprefix("Answer: ")


def called(name, arguments):
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


@pytest.mark.parametrize("kind", OPEN)
def test_no_answer_fits_many_prompts(kind):
    drawn = tasks(kind)
    fits = [sum(right(task, said(other)) for task in drawn) for other in drawn[:20]]
    assert max(fits) < 0.2 * len(drawn)


def test_a_word_is_said_as_often_as_was_asked_and_nothing_else():
    for task in tasks("any_repeat"):
        least, most = map(int, re.findall(r"\d+", task.prompt))
        word = task.reply.split()[0]
        for times in range(12):
            assert right(task, " ".join([word] * times)) == (least <= times <= most)
        assert not right(task, f"{task.reply} and")


def test_a_person_has_the_keys_asked_for_and_no_others_and_each_value_counts():
    for task in tasks("any_person"):
        person = json.loads(task.reply)
        older = "over" in task.prompt or "older" in task.prompt
        bound = int(re.search(r"\d+", task.prompt)[0])
        for age in range(121):
            fits = age > bound if older else age < bound
            assert right(task, json.dumps(person | {"age": age})) == fits
        assert not right(task, json.dumps(person | {"pet": "cat"}))
        for key in person:
            assert not right(task, json.dumps(person | {key: "x y"}))
            assert not right(task, json.dumps({k: v for k, v in person.items() if k != key}))


def test_a_call_leaves_open_what_its_prompt_leaves_open_and_no_more():
    for task in tasks("any_call"):
        [call] = tool_call.calls(said(task))
        name, shown = call["name"], call["arguments"]
        for key in shown:
            assert not right(task, called(name, shown | {key: "no such"}))
            assert not right(task, called(name, {k: v for k, v in shown.items() if k != key}))
        if "minute" in shown:
            assert not right(task, called(name, shown | {"minute": shown["minute"] + 1}))
        number = {"alarm": "hour", "buy": "count"}.get(name)
        if number:
            fits = [n for n in range(1, 24) if right(task, called(name, shown | {number: n}))]
            way, bound = re.search(
                r"(from|before|more than|fewer than) (\d+)", task.prompt
            ).groups()
            low = {"from": int(bound), "more than": int(bound) + 1}.get(way, 1)
            assert fits == list(range(low, 24 if way in ("from", "more than") else int(bound)))
