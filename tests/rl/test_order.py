"""High variance first, deterministic, and resumable."""

import json

import pytest

from baiwen.errors import UserError
from baiwen.rl import order, resample
from baiwen.rl.order import Queue
from baiwen.rl.pairs import Answer
from baiwen.rl.prompts import Prompt
from baiwen.verify import Verdict

VARIANCES = {0: 0.0, 1: 0.25, 2: 0.1, 3: 0.25, 4: 0.0, 5: 0.2}


def test_prompts_of_high_variance_come_first_and_equals_by_chance():
    assert set(Queue(VARIANCES, seed=0).take(2)) == {1, 3}
    assert Queue(VARIANCES, seed=0).take(6)[2:4] == [5, 2]
    orders = {tuple(Queue(VARIANCES, seed=seed).take(6)) for seed in range(20)}
    assert len(orders) == 4  # two of 0.25 and two of 0, in either order


def test_every_prompt_has_its_turn_in_an_epoch_and_none_twice_in_a_step():
    queue = Queue(VARIANCES, seed=0)
    taken = [queue.take(4) for _ in range(9)]
    assert all(len(set(step)) == 4 for step in taken)
    flat = [number for step in taken for number in step]
    assert all(flat.count(number) == 6 for number in VARIANCES)
    assert queue.epoch == 5


def test_a_queue_goes_on_where_it_was():
    queue = Queue(VARIANCES, seed=3)
    queue.take(5)
    state = json.loads(json.dumps(queue.state()))
    other = Queue(VARIANCES, seed=3)
    other.restore(state)
    assert [queue.take(4) for _ in range(5)] == [other.take(4) for _ in range(5)]


def test_another_measurement_orders_those_whose_turn_has_not_come():
    queue = Queue(VARIANCES, seed=0)
    first = set(queue.take(2))
    queue.reorder({number: float(number) for number in VARIANCES})
    assert queue.take(4) == sorted(set(VARIANCES) - first, reverse=True)
    assert queue.take(2) == [5, 4]


def test_a_measurement_is_mean_and_variance_of_the_rewards():
    assert order.measured(7, [1.0, 0.0, 0.0, 1.0]) == {
        "number": 7,
        "answers": 4,
        "mean": 0.5,
        "variance": 0.25,
    }
    assert order.measured(7, [])["variance"] == 0.0


SAID = ("right", "wrong", "timeout", "wrong")


def prompts():
    messages = [[{"role": "user", "content": word}] for word in ("one", "two")]
    return [Prompt(n, [1], said, "1", "number", "") for n, said in enumerate(messages)]


def test_what_pairs_has_measured_is_found_by_the_prompt(tmp_path):
    path = tmp_path / "answers.jsonl"
    rows = [
        {
            **resample.row(prompt, [Answer("", Verdict(one), 1, "stop") for one in SAID], "sft"),
            "variance": 0.1 * prompt.number,
        }
        for prompt in reversed(prompts())
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    found = order.from_answers(path, prompts())
    assert found == [
        {"number": number, "answers": 3, "mean": pytest.approx(1 / 3), "variance": 0.1 * number}
        for number in (0, 1)
    ]
    path.write_text(json.dumps(rows[0]))
    with pytest.raises(UserError, match="no answers to 1 of 2 prompts, the first of them in row 1"):
        order.from_answers(path, prompts())
    path.write_text(json.dumps({"prompt": rows[0]["prompt"], "answers": [], "variance": 0}))
    with pytest.raises(UserError, match=r"row 1 is no line of answers.jsonl: it has no answer, k"):
        order.from_answers(path, prompts())


def test_prompts_below_the_least_variance_are_left_out(tmp_path):
    path = order.path_of(tmp_path, 0)
    order.write(path, [order.measured(n, [0.0, v]) for n, v in enumerate((0.0, 1.0, 0.5))])
    assert order.variances(path, 0.01) == {1: 0.25, 2: 0.0625}
    with pytest.raises(UserError, match=r"leaves no prompt: the highest is 0\.2500"):
        order.variances(path, 0.3)
