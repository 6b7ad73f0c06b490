"""Many requests: their order, what is kept of them, what is asked again, and what ends them."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from baiwen import files
from baiwen.endpoint import Bill, Endpoint, Refused, Reply, answers, key, opened
from baiwen.endpoint.answers import AHEAD, REFUSED, SPENT, UNREADABLE
from baiwen.errors import UserError


class Model:
    """Says what its rule makes of the last message; a request costs 3 tokens and a reply 2."""

    name = "model"

    def __init__(self, rule=str.upper):
        self.rule, self.asked, self.stopped = rule, [], False

    def __call__(self, messages, sampling):
        self.asked.append((messages, sampling))
        return Reply(self.rule(messages[-1]["content"]), 3, 2)

    def stop(self):
        self.stopped = True


def requests(count, **sampling):
    return [([{"role": "user", "content": f"say {n}"}], sampling) for n in range(count)]


def number(text):
    return int(text) if text.isdigit() else None


@pytest.fixture
def cache(tmp_path):
    with files.Ledger(tmp_path / "replies.jsonl") as ledger:
        yield ledger


def test_a_request_is_named_by_all_of_its_content():
    messages, sampling = [{"role": "user", "content": "Hi"}], {"temperature": 0.0}
    names = {
        key("m", messages, sampling),
        key("n", messages, sampling),
        key("m", messages, {"temperature": 1.0}),
        key("m", messages, {**sampling, "seed": 1}),
        key("m", [*messages, *messages], sampling),
    }
    assert len(names) == 5 and key("m", messages, sampling) in names


def test_answers_come_in_the_order_of_the_requests_though_they_are_asked_side_by_side():
    together, most, lock = 0, 0, threading.Lock()

    def rule(text):
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        time.sleep(0.001 * (7 * int(text.split()[1]) % 5))
        with lock:
            together -= 1
        return text

    found = [answer.value for answer in answers(Model(rule), requests(40), concurrency=4)]
    assert found == [f"say {n}" for n in range(40)]
    assert 1 < most <= 4


def test_requests_are_read_no_further_ahead_than_needed():
    read = []
    endless = (read.append(n) or requests(1)[0] for n in range(10**9))
    model = Model()
    found = answers(model, endless, concurrency=2)
    next(found)
    assert len(read) == 2 * AHEAD
    found.close()
    assert not model.stopped and len(model.asked) <= 2 * AHEAD


def test_what_is_kept_is_not_asked_again_and_says_so(cache):
    model = Model()
    first = list(answers(model, requests(5), cache))
    again = list(answers(model, requests(5), cache))
    assert len(model.asked) == 5
    assert [answer.value for answer in first] == [answer.value for answer in again]
    assert not first[0].replies[0].cached and again[0].replies[0].cached
    assert again[0].replies[0].completion_tokens == 2
    list(answers(model, requests(5, seed=1), cache))  # another sampling is another request
    assert len(model.asked) == 10


def test_what_cannot_be_read_is_shown_to_its_writer_and_asked_again(cache):
    model = Model(lambda text: "7" if "cannot read" in text else "seven!" * 1000)
    [found] = answers(model, requests(1), cache, read=number)
    assert found.value == 7 and [len(reply.text) for reply in found.replies] == [6000, 1]
    _, said, told = model.asked[1][0]
    assert said == {"role": "assistant", "content": ("seven!" * 1000)[:2000]}
    assert told["role"] == "user"
    [kept] = answers(model, requests(1), cache, read=number)
    assert kept.value == 7 and len(model.asked) == 2


def test_what_is_never_read_is_given_up_after_so_many_attempts():
    model = Model()
    [found] = answers(model, requests(1), read=number, attempts=2)
    assert (found.value, found.why, len(found.replies)) == (None, UNREADABLE, 2)
    assert not found.refused and len(model.asked) == 2


def test_one_request_that_is_refused_does_not_stop_the_others():
    def rule(text):
        if text == "say 1":
            raise Refused("too long")
        return text

    found = list(answers(Model(rule), requests(3)))
    assert [answer.value for answer in found] == ["say 0", None, "say 2"]
    assert found[1].why == f"{REFUSED}: too long" and found[1].refused


def test_a_failure_ends_the_work_and_keeps_what_had_come(cache):
    def rule(text):
        if text == "say 5":
            raise UserError("it is down")
        return text

    model = Model(rule)
    with pytest.raises(UserError, match="it is down"):
        list(answers(model, requests(50), cache, concurrency=2))
    assert model.stopped
    assert 5 <= len(cache.rows) == len(model.asked) - 1 < 50


def test_a_bill_counts_all_replies_also_those_that_were_kept(cache):
    knobs = Endpoint(url="http://host", price_in=1_000.0, price_out=10_000.0)
    told = []
    for _ in range(2):
        bill = Bill.of(knobs)
        list(answers(Model(), requests(4), cache, bill=bill))
        told.append(bill.told())
    assert told[0] == told[1]
    assert told[0] == {
        "replies": 4, "prompt_tokens": 12, "completion_tokens": 8,
        "cost": pytest.approx(0.012 + 0.08),
    }  # fmt: skip
    assert bill.line() == "4 replies (4 kept from before): 12 tokens in, 8 out, cost 0.09"


@pytest.mark.parametrize("concurrency", [1, 3])
def test_the_most_that_may_be_spent_ends_the_asking_in_the_same_place(tmp_path, concurrency):
    bill, model = lambda: Bill(price_out=500_000, most=10), Model()  # a reply costs 1
    with files.Ledger(tmp_path / "whole.jsonl") as cache:
        found = list(answers(model, requests(60), cache, concurrency, bill=bill()))
    values = [answer.value for answer in found]
    asked = 10 + AHEAD * concurrency - 1
    assert values == [f"SAY {n}" for n in range(asked)] + [None] * (60 - asked)
    assert found[-1].why == SPENT and found[-1].unasked and len(model.asked) == asked
    with files.Ledger(tmp_path / "begun.jsonl") as cache:
        list(answers(model, requests(7), cache, concurrency, bill=bill()))
        found = list(answers(model, requests(60), cache, concurrency, bill=bill()))
    assert [answer.value for answer in found] == values


ASKS = """
import sys, os
from baiwen import files
from baiwen.endpoint import Endpoint, answers, opened
url, path = sys.argv[1:]
requests = [([{"role": "user", "content": f"say {n}"}], {"seed": 1}) for n in range(40)]
with files.Ledger(path) as cache, opened(Endpoint(url=url, model="m", concurrency=3)) as ask:
    for answer in answers(ask, requests, cache, 3):
        print(answer.value, flush=True)
"""


def said(body):
    time.sleep(0.002)
    return body["messages"][-1]["content"].upper()


def test_killed_at_any_time_it_goes_on_and_asks_nothing_twice(answering, tmp_path):
    path = tmp_path / "replies.jsonl"
    with answering(said) as served:
        command = [sys.executable, "-c", ASKS, served.url, str(path)]
        for lines in (3, 11):
            killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            for _ in range(lines):
                killed.stdout.readline()
            killed.send_signal(signal.SIGKILL)
            assert killed.wait() == -signal.SIGKILL
            killed.stdout.close()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == [f"SAY {n}" for n in range(40)]
    asked = [json.dumps(body["messages"]) for body, _ in served.asked]
    # What was on its way when the process was killed may have been answered to nobody.
    assert len(set(asked)) == 40 and len(asked) <= 40 + 2 * 3
    assert path.read_bytes().count(b"\n") == 40


def test_two_processes_on_one_cache_agree_and_share_what_they_ask(answering, tmp_path):
    path = tmp_path / "replies.jsonl"
    with answering(lambda body: f"{said(body)} {time.monotonic_ns()}") as served:
        command = [sys.executable, "-c", ASKS, served.url, str(path)]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        told = [process.communicate()[0] for process in both]
        assert [process.returncode for process in both] == [0, 0]
        third = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told[0] == told[1] == third  # though the server never says the same thing twice
    assert path.read_bytes().count(b"\n") == 40


def test_our_own_server_is_asked(served):
    url, tokenizer = served
    sampling = {"temperature": 1.0, "max_tokens": 5, "seed": 7}
    with opened(Endpoint(url=url)) as ask:
        once, twice = ([*answers(ask, requests(6, **sampling), concurrency=3)] for _ in range(2))
    assert [answer.text for answer in once] == [answer.text for answer in twice]
    for answer, (messages, _) in zip(once, requests(6), strict=True):
        [reply] = answer.replies
        assert reply.prompt_tokens == len(tokenizer.render(messages, generate=True).ids)
        assert 1 <= reply.completion_tokens <= 5


def test_our_own_server_refuses_what_is_too_long(served):
    with opened(Endpoint(url=served[0])) as ask:
        long = [([{"role": "user", "content": "say " * 3000}], {})]
        [found] = answers(ask, long)
    assert found.refused and "400" in found.why
