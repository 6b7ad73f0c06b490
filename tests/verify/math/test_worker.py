"""The worker: ended in time, started again, safe from threads, event loops and forks."""

import asyncio
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from baiwen.verify.math import check, worker
from baiwen.verify.math.worker import Worker
from baiwen.verify.verdict import Verdict

HOSTILE = ("9^{9^{9^9}}", "1")
SUM = (r"\sum_{k=1}^{3} k", "6")
# More than the second that an answer has: this process may wait for its turn on a busy machine.
PATIENCE = 1.5


@pytest.fixture(scope="module")
def asked():
    """A worker that has answered before, so that its start is behind it."""
    running = Worker()
    assert running.ask(*SUM, seconds=10) is Verdict.right
    yield running
    running.stop()


def test_it_tells_right_from_wrong(asked):
    assert asked.ask(r"\int_0^1 x\,dx", r"\frac12", seconds=5) is Verdict.right
    assert asked.ask(r"\sum_{k=1}^{3} k", "7", seconds=5) is Verdict.wrong


def test_what_the_library_cannot_read_is_undecided(asked):
    assert asked.ask(r"\cdots", "1", seconds=5) is Verdict.undecided


def test_it_is_ended_in_time_and_the_next_answer_is_judged(asked):
    begin = time.monotonic()
    assert asked.ask(*HOSTILE, seconds=1) is Verdict.timeout
    assert time.monotonic() - begin < PATIENCE
    assert asked.ask(*SUM, seconds=5) is Verdict.right


def test_it_is_started_again_when_it_was_killed(asked):
    asked.process.kill()
    asked.process.wait()
    assert asked.ask(*SUM, seconds=10) is Verdict.right


def test_a_process_with_thousands_of_open_files_may_ask():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip(f"no more than {hard} files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    running = Worker()
    try:
        assert running.ask(*SUM, seconds=10) is Verdict.right
        assert running.process.stdout.fileno() > 1023
    finally:
        running.stop()
        for file in held:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_memory_has_an_end(asked):
    verdict = asked.ask(r"\binom{10^9}{5\cdot 10^8}", "1", seconds=1)
    assert verdict in (Verdict.undecided, Verdict.timeout)


def test_threads_may_ask_at_once():
    questions = [SUM, (r"\sum_{k=1}^{3} k", "7")] * 8
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda pair: check(rf"\boxed{{{pair[0]}}}", pair[1]), questions))
    assert found == [Verdict.right, Verdict.wrong] * 8


def test_an_event_loop_may_ask():
    async def ask():
        inside = check(rf"\boxed{{{SUM[0]}}}", SUM[1])
        beside = await asyncio.to_thread(check, rf"\boxed{{{SUM[0]}}}", SUM[1])
        return inside, beside

    assert asyncio.run(ask()) == (Verdict.right, Verdict.right)


@pytest.mark.slow
def test_a_forked_child_has_a_worker_of_its_own():
    program = rf"""
import os
from baiwen.verify.math import check
question = (r"\boxed{{{SUM[0]}}}", "6")
assert check(*question) == "right"
child = os.fork()
if not child:
    os._exit(0 if check(*question) == "right" else 1)
assert os.waitpid(child, 0)[1] == 0
assert check(*question) == "right"
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_it_ends_with_the_process_that_started_it():
    program = rf"""
from baiwen.verify.math import check, worker
check(r"\boxed{{{SUM[0]}}}", "6")
print(worker._WORKER.process.pid, flush=True)
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
"""
    ran = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=120)
    pid = int(ran.stdout)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and os.path.exists(f"/proc/{pid}"):
        with open(f"/proc/{pid}/stat") as stat:
            if stat.read().split()[2] == "Z":
                return  # ended; nobody here takes its status
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{pid}")


def test_sympy_stays_outside_of_this_process():
    program = r"""
import sys
from baiwen.verify.math import check
assert check(r"\boxed{\sqrt8}", r"2\sqrt2") == "right"
assert check(r"\boxed{\sum_{k=1}^{3} k}", "6") == "right"
print([name for name in ("sympy", "math_verify", "torch") if name in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    assert ran.stdout.strip() == b"[]"


def test_without_the_library_the_fast_path_alone_judges(monkeypatch):
    monkeypatch.setattr(worker, "available", lambda: False)
    assert check(r"\boxed{\sqrt8}", r"2\sqrt2") is Verdict.right
    assert check(rf"\boxed{{{SUM[0]}}}", "6") is Verdict.undecided
