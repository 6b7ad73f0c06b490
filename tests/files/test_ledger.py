"""A ledger keeps what was added, whatever ends the process."""

import signal
import subprocess
import sys
import threading

import pytest

from baiwen.errors import UserError
from baiwen.files import Ledger

KILLED = """
import os, signal, sys
from baiwen.files import Ledger
with Ledger(sys.argv[1]) as ledger:
    for number in range(5):
        ledger.add(str(number), {"n": number})
    ledger._file.write(b'{"key": "torn", "n"')
    ledger._file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_rows_come_back_under_their_keys(tmp_path):
    path = tmp_path / "state" / "said.jsonl"
    with Ledger(path) as ledger:
        ledger.add("a", {"text": "你好\n"})
        ledger.add("b", {"text": ""})
    with Ledger(path) as ledger:
        assert ledger.rows == {"a": {"text": "你好\n"}, "b": {"text": ""}}


def test_what_was_added_survives_a_kill_and_a_torn_line_does_not(tmp_path):
    path = tmp_path / "said.jsonl"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)])
    assert done.returncode == -signal.SIGKILL
    with Ledger(path) as ledger:
        assert ledger.rows == {str(number): {"n": number} for number in range(5)}
        ledger.add("5", {"n": 5})
    assert path.read_bytes().count(b"\n") == 6


def test_threads_do_not_tear_each_others_rows(tmp_path):
    path = tmp_path / "said.jsonl"
    with Ledger(path) as ledger:
        adders = [
            threading.Thread(target=lambda t=t: [ledger.add(f"{t}-{n}", {}) for n in range(20)])
            for t in range(4)
        ]
        for adder in adders:
            adder.start()
        for adder in adders:
            adder.join()
    with Ledger(path) as ledger:
        assert len(ledger.rows) == 80


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "said.jsonl"
    for line in (b"not json", b'{"text": "of another file"}'):
        path.write_bytes(b'{"key": "a"}\n' + line + b"\n")
        with pytest.raises(UserError, match=r"said\.jsonl:2"), Ledger(path):
            pass


FULL = """
import resource, sys
from baiwen.errors import UserError
from baiwen.files import Ledger
with Ledger(sys.argv[1]) as ledger:
    ledger.add("a", {})
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, resource.RLIM_INFINITY))
    try:
        ledger.add("b", {"text": "more than there is room for"})
    except UserError as error:
        print(error)
    assert "b" not in ledger.rows
    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
    ledger.add("c", {})
"""


def test_a_full_disk_is_said_in_words_and_tears_no_other_row(tmp_path):
    path = tmp_path / "said.jsonl"
    command = [sys.executable, "-c", FULL, str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "said.jsonl: the file passes the size limit" in told
    with Ledger(path) as ledger:
        assert ledger.rows == {"a": {}, "c": {}}


SHARED = """
import sys
from baiwen.files import Ledger
with Ledger(sys.argv[1]) as ledger:
    print("open", flush=True)
    for number in range(40):
        ledger.add(str(number), {"by": sys.argv[2]})
        ledger.add(sys.argv[2] + str(number), {})
"""


def test_processes_share_a_ledger_and_agree_on_its_rows(tmp_path):
    path = tmp_path / "said.jsonl"
    with Ledger(path) as ledger:
        ledger.add("0", {"by": "us"})
        commands = [[sys.executable, "-c", SHARED, str(path), name] for name in "ab"]
        for process in [subprocess.Popen(c, stdout=subprocess.DEVNULL) for c in commands]:
            assert process.wait() == 0
        assert ledger.get("39") == ledger.add("39", {"by": "us"}) != {"by": "us"}
        assert ledger.get("absent") is None
        seen = dict(ledger.rows)
    assert len(seen) == 120 == path.read_bytes().count(b"\n") and seen["0"] == {"by": "us"}
    with Ledger(path) as ledger:
        assert ledger.rows == seen


def test_the_first_row_of_a_key_stays(tmp_path):
    with Ledger(tmp_path / "said.jsonl") as ledger:
        assert ledger.add("a", {"n": 1}) == {"n": 1} == ledger.add("a", {"n": 2})
    assert (tmp_path / "said.jsonl").read_bytes().count(b"\n") == 1


def test_a_row_may_be_longer_than_what_is_read_at_a_time(tmp_path, monkeypatch):
    rows = {"a": {}, "long": {"text": "x" * 100}, "b": {"text": "y" * 10}}
    with Ledger(tmp_path / "said.jsonl") as ledger:
        for name, row in rows.items():
            ledger.add(name, row)
    monkeypatch.setattr("baiwen.files.ledger.BLOCK", 32)
    with Ledger(tmp_path / "said.jsonl") as ledger:
        assert ledger.rows == rows
