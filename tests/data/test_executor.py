import os
import signal
import subprocess
import sys
import time

import pytest

from baiwen.data.executor import ordered
from baiwen.errors import UserError


def square(number):
    return number * number


def fail_at_three(number):
    if number == 3:
        raise UserError("three is wrong")
    return number


def die(_number):
    os._exit(9)


def own_number(_number):
    time.sleep(0.1)
    return os.getpid()


ENDLESS = """
import itertools, sys
sys.path.insert(0, {folder!r})
from baiwen.data.executor import ordered
from test_executor import own_number
if __name__ == "__main__":
    for number in ordered(own_number, itertools.count(), workers=2):
        print(number, flush=True)
"""


def test_answers_come_in_the_order_of_the_tasks():
    tasks = range(50)
    assert list(ordered(square, tasks, workers=2)) == list(map(square, tasks))


def test_an_error_of_a_task_is_raised_as_it_is():
    for workers in (1, 2):
        with pytest.raises(UserError, match="three is wrong"):
            list(ordered(fail_at_three, range(9), workers))


def test_a_dead_worker_is_told_and_not_waited_for():
    with pytest.raises(UserError, match="a worker process died"):
        list(ordered(die, range(4), workers=2))


def test_tasks_are_drawn_only_as_fast_as_they_are_worked_on():
    drawn = []

    def tasks():
        for number in range(100):
            drawn.append(number)
            yield number

    answers = ordered(square, tasks(), workers=2)
    for done in range(10):
        assert next(answers) == done * done
        assert len(drawn) <= done + 4


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS.format(folder=os.path.dirname(__file__)))
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        for _ in range(4):
            parent.stdout.readline()
        parent.send_signal(signal.SIGKILL)
        parent.communicate(timeout=30)  # until the last worker has closed its end of the pipe
