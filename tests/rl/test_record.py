"""The record of answers, and the alarms."""

import json
import math

import pytest

from baiwen import files
from baiwen.rl.record import Alarms, Rollouts, Watch, repetition

HEALTHY = {
    "answer_tokens": 100.0,
    "entropy": 1.0,
    "zero_variance": 0.5,
    "undecided": 0.0,
    "repetition": 0.1,
    "kl": 0.01,
    "mismatch_kl": 1e-4,
}


def watched(tmp_path, *changes, alarms=None):
    watch = Watch(alarms or Alarms(), tmp_path, main=True)
    for step in range(1, 11):
        assert watch.look(step, HEALTHY) == 0
    return watch, [watch.look(11 + n, HEALTHY | change) for n, change in enumerate(changes)]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("zero_variance", {"zero_variance": 0.9}),
        ("undecided", {"undecided": 0.2}),
        ("repetition", {"repetition": 0.7}),
        ("kl", {"kl": 0.8}),
        ("mismatch_kl", {"mismatch_kl": 0.05}),
        ("entropy", {"entropy": 0.1}),
        ("length", {"answer_tokens": 250.0}),
        ("length", {"answer_tokens": 40.0}),
    ],
)
def test_each_alarm_rings_for_its_own_figure(tmp_path, name, change):
    _, rung = watched(tmp_path, change, {})
    assert rung == [1, 0]
    told = files.read_json(tmp_path / "alarms.json")
    assert list(told) == [name]
    assert (told[name]["first"], told[name]["last"], told[name]["steps"]) == (11, 11, 1)


def test_a_bound_is_a_knob(tmp_path):
    _, rung = watched(tmp_path, {"kl": 0.8}, alarms=Alarms(kl=1.0))
    assert rung == [0]


def test_an_alarm_is_said_when_it_begins_and_counted_while_it_lasts(tmp_path, capsys):
    watch, _ = watched(tmp_path, {"kl": 0.8}, {"kl": 0.9}, {}, {"kl": 0.7})
    assert capsys.readouterr().err.count("alarm at step") == 2
    assert watch.rung["kl"]["steps"] == 3


def test_figures_that_are_no_numbers_ring_and_can_be_kept(tmp_path):
    """A step whose loss is not finite is skipped; its record must not end the run."""
    watch = Watch(Alarms(), tmp_path, main=True)
    broken = HEALTHY | {"kl": math.inf, "entropy": math.nan}
    assert [watch.look(1, broken), watch.look(2, HEALTHY)] == [1, 0]
    assert files.read_json(tmp_path / "alarms.json")["kl"]["value"] is None
    assert json.loads(json.dumps(watch.state(), allow_nan=False))["first"]["entropy"] == [1.0]


def test_a_watch_goes_on_where_it_was(tmp_path):
    watch, _ = watched(tmp_path, {"kl": 0.8})
    other = Watch(Alarms(), tmp_path, main=True)
    other.restore(json.loads(json.dumps(watch.state())))
    assert other.look(12, HEALTHY | {"entropy": 0.1}) == 1
    assert set(other.rung) == {"kl", "entropy"}


def test_answers_of_steps_that_are_taken_again_are_cut(tmp_path):
    first = Rollouts(tmp_path)
    for step in (1, 2, 3):
        first.write(step, [{"answer": f"{step}a"}, {"answer": f"{step}b"}])
    with first.path.open("a") as file:
        file.write('{"step": 4, "ans')  # torn by a kill
    Rollouts(tmp_path).write(3, [{"answer": "again"}])
    rows = list(files.read_jsonl(first.path))
    assert [row["answer"] for row in rows] == ["1a", "1b", "2a", "2b", "again"]


def test_repetition_is_the_share_of_runs_of_four_that_came_before():
    assert repetition([1, 2, 3, 4, 5, 6, 7]) == 0
    assert repetition([1] * 13) == pytest.approx(0.9)
    assert repetition([1, 2]) == 0
