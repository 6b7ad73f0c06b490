"""A ledger keeps what was added, whatever ends the process."""

import os
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
    path.write_bytes(b'{"key": "a"}\nnot json\n')
    with pytest.raises(UserError, match=r"said\.jsonl:2"), Ledger(path):
        pass


def test_a_full_disk_is_said_in_words(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with Ledger(tmp_path / "said.jsonl") as ledger:
        ledger._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
        with pytest.raises(UserError, match="space"):
            ledger.add("a", {})
        assert "a" not in ledger.rows
    with pytest.raises(UserError, match="space"), Ledger(tmp_path / "said.jsonl") as ledger:
        ledger._file = open("/dev/full", "ab")  # noqa: SIM115 - with a buffer, as it is
        ledger.add("a", {})
