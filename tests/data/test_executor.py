import os
import signal
import subprocess
import sys
import time

import pytest

from baiwen.data.executor import Pool, ordered
from baiwen.errors import UserError


def square(number):
    return number * number


def fail_at_three(number):
    if number == 3:
        raise UserError("three is wrong")
    return number


def die_at_two(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_once(path):
    if path.name == "3" and not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path


def write_late(path):
    time.sleep(0.1)
    path.touch()


def own_number(_number):
    time.sleep(0.1)
    return os.getpid()


ENDLESS = """
import itertools, sys, time
sys.path.insert(0, {folder!r})
from baiwen.data.executor import ordered
from test_executor import own_number
if __name__ == "__main__":
    for place, number in enumerate(ordered(own_number, itertools.count(), workers=2)):
        print(number, flush=True)
        if place == 3:
            time.sleep(60)
"""


@pytest.fixture(scope="module")
def pool():
    """Processes that all tests share which kill none."""
    with Pool(2) as pool:
        yield pool


def test_answers_come_in_the_order_of_the_tasks(pool):
    tasks = range(50)
    assert list(pool.map(square, tasks)) == list(map(square, tasks))


def test_an_error_of_a_task_is_raised_as_it_is(pool):
    for one in (Pool(1), pool):
        with pytest.raises(UserError, match="three is wrong"):
            list(one.map(fail_at_three, range(9)))


def test_a_task_that_kills_its_process_is_named():
    with pytest.raises(UserError, match="a worker process died at 2, and again"):
        list(ordered(die_at_two, range(4), workers=2))


def test_a_process_that_dies_once_costs_nothing_but_time(tmp_path, capsys):
    tasks = [tmp_path / str(number) for number in range(6)]
    with Pool(2) as pool:
        assert list(pool.map(die_once, tasks)) == tasks
        assert list(pool.map(square, range(9))) == list(map(square, range(9)))
    assert "a worker process died" in capsys.readouterr().err


def test_processes_stay_from_one_round_to_the_next(pool):
    first = set(pool.map(own_number, range(6)))
    assert set(pool.map(own_number, range(6))) == first and len(first) == 2


def test_what_is_under_way_ends_before_the_answers_are_left(pool, tmp_path):
    for _ in pool.map(write_late, [tmp_path / str(number) for number in range(9)]):
        break
    there = sorted(tmp_path.iterdir())
    time.sleep(0.3)
    assert sorted(tmp_path.iterdir()) == there


def test_tasks_are_drawn_only_as_fast_as_they_are_worked_on(pool):
    drawn = []

    def tasks():
        for number in range(100):
            drawn.append(number)
            yield number

    answers = pool.map(square, tasks())
    for done in range(10):
        assert next(answers) == done * done
        assert len(drawn) <= done + 4


def test_asked_to_end_while_its_processes_start_it_ends():
    def leave(*_):
        sys.exit(143)

    before = signal.signal(signal.SIGALRM, leave)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(SystemExit), Pool(2) as own:
            list(own.map(time.sleep, [60] * 4))
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def endless(tmp_path):
    """A process with workers, in a group of their own as in a terminal."""
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS.format(folder=os.path.dirname(__file__)))
    command = [sys.executable, str(script)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as parent:
        for _ in range(4):
            parent.stdout.readline()
        yield parent


def test_workers_end_with_a_parent_that_is_killed(endless):
    endless.send_signal(signal.SIGKILL)
    endless.communicate(timeout=30)  # until the last worker has closed its end of the pipe


def test_of_an_interrupt_in_a_terminal_the_parent_alone_speaks(endless):
    time.sleep(0.5)  # until the workers wait for more to do
    os.killpg(endless.pid, signal.SIGINT)
    _, told = endless.communicate(timeout=30)
    assert told.count("KeyboardInterrupt") == 1
