"""Workers that Ray places: their answers, and what becomes of one that dies, fails, is silent."""

import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest

from baiwen import progress
from baiwen.dist import crew
from baiwen.dist.crew import Call, Crew, Placed
from baiwen.errors import UserError


class Worker:
    """One that counts how often it was called."""

    def __init__(self, start):
        self.calls = start

    def twice(self, number):
        self.calls += 1
        return 2 * number

    def called(self):
        return self.calls

    def nap(self, seconds):
        time.sleep(seconds)

    def plod(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.2)
            progress.mark()

    def refuse(self):
        raise UserError("there is no folder shards")

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Unable:
    """One that does not come to be."""

    def __init__(self):
        raise UserError("there is no GPU here")


def placed(**given):
    return Placed(**{"count": 2, "cpus": 0.5, "store": 100 * 2**20, **given})


def test_without_ray_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install baiwen\[cluster\]"), crew.joined(placed()):
        pass


def test_an_address_without_a_cluster_is_named():
    pytest.importorskip("ray", reason="Ray is not installed")
    with (
        pytest.raises(UserError, match=r"cannot reach 'nonsense' \(workers.address.*Invalid"),
        crew.joined(placed(address="nonsense")),
    ):
        pass


def test_a_ray_by_which_workers_cannot_tell_that_they_get_on_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(__version__="9.0"))
    monkeypatch.setitem(sys.modules, "ray.experimental.internal_kv", None)
    with pytest.raises(UserError, match=r"Ray 9\.0 has no ray\.experimental\.internal_kv"):
        Crew(placed(count=1), Worker, 0)


@pytest.fixture(scope="module")
def two():
    """Two workers in a cluster of their own."""
    pytest.importorskip("ray", reason="Ray is not installed")
    with crew.joined(placed()):
        yield Crew(placed(), Worker, 0)


@pytest.mark.slow
def test_every_call_is_answered_and_every_worker_called(two):
    calls = [Call("a number", "twice", (number,)) for number in range(20)]
    assert dict(two.ask(calls)) == {number: 2 * number for number in range(20)}
    counts = [answer for _, answer in two.ask([Call("a count", "called", ())] * 2)]
    assert sum(counts) == 20
    assert min(counts) > 0


@pytest.mark.slow
def test_a_worker_that_dies_is_started_again_and_the_call_that_kills_is_named(two):
    calls = [Call("a number", "twice", (1,)), Call("the run w8", "die", ())]
    told = r"the run w8 was asked for 2 times .* worker died"
    with pytest.raises(UserError, match=told):
        dict(two.ask(calls))
    assert two.restarts == 1
    assert dict(two.ask(calls[:1])) == {0: 2}


@pytest.mark.slow
def test_a_worker_is_waited_for_while_it_gets_on_and_no_longer(two):
    slow = Crew(placed(count=1, timeout=60), Worker, 0)
    slow._placed = placed(count=1, timeout=4)
    assert dict(slow.ask([Call("a walk", "plod", (6,))])) == {0: None}
    assert slow.restarts == 0
    slow._placed = placed(count=1, timeout=0.01)
    with pytest.raises(UserError, match=r"asked for 2 times .* did not get on for 0.01 s"):
        dict(slow.ask([Call("a nap", "nap", (60,))]))
    slow.close()


@pytest.mark.slow
def test_an_error_of_the_call_itself_is_raised_with_the_place(two):
    told = r"a worker on [\d.]+ failed at the run w8: there is no folder shards"
    with pytest.raises(UserError, match=told):
        dict(two.ask([Call("the run w8", "refuse", ())]))


@pytest.mark.slow
def test_what_the_cluster_has_no_room_for_is_named(two):
    told = r"3 workers of 1000 CPUs .* not ready after 1 s"
    with pytest.raises(UserError, match=told):
        Crew(placed(count=3, cpus=1000, timeout=1), Worker, 0)


@pytest.mark.slow
def test_a_worker_that_cannot_start_says_why(two):
    with pytest.raises(UserError, match=r"a worker on [\d.]+ did not start: .*no GPU here"):
        Crew(placed(count=1), Unable)
