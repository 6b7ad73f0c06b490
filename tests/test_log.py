"""The log: lines for the eye, metrics.jsonl, progress."""

import json
import math
import os
import pty
import re
import subprocess
import sys

import pytest

from baiwen import log
from baiwen.log import StepLog

METRICS = {
    "loss": 3.21004,
    "lr": 3e-4,
    "grad_norm": 0.8,
    "tokens_per_second": 12_345.0,
    "mfu": 0.412,
    "memory": 3 * 2**29,
    "skipped": 1,
}


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def on_a_terminal(script: str, *arguments: str) -> str:
    """Run a script whose stderr is a terminal of 80 columns; return what the terminal got."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    child = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stderr=theirs, env=environment
    )
    os.close(theirs)
    got = b""
    try:
        while block := os.read(ours, 1 << 16):
            got += block
    except OSError:  # how Linux says that the other side is closed
        pass
    child.wait()
    os.close(ours)
    return got.decode()


def test_a_step_is_one_plain_line_where_there_is_no_terminal(tmp_path, capsys):
    with StepLog(tmp_path, total=1000, label="sft") as steps:
        steps.step(120, METRICS)
    assert re.fullmatch(
        r"sft 120/1,000 12\.0 %  loss 3\.2100  lr 3\.00e-04  grad 0\.80  12\.3k tokens/s"
        r"  MFU 41\.2 %  1\.50 GiB  ETA \d+:\d\d:\d\d\n",
        capsys.readouterr().err,
    )


def test_metrics_hold_every_step_as_given(tmp_path):
    with StepLog(tmp_path, total=2) as steps:
        steps.step(1, METRICS)
        assert rows(tmp_path) == [{"step": 1, **METRICS}]  # on disk as soon as the step is over
        steps.step(2, {"loss": 1.5})
    assert rows(tmp_path)[1:] == [{"step": 2, "loss": 1.5}]


def test_numbers_that_are_not_finite_are_null(tmp_path):
    with StepLog(tmp_path, total=1) as steps:
        steps.step(1, {"loss": math.nan, "grad_norm": math.inf, "lr": 1.0})
    text = (tmp_path / "metrics.jsonl").read_text()
    strict = json.loads(text, parse_constant=pytest.fail)
    assert strict == {"step": 1, "loss": None, "grad_norm": None, "lr": 1.0}


@pytest.mark.parametrize("torn", ["", '{"step": 6, "lo', '{"step": 6}\n{"st'])
def test_resuming_cuts_later_and_torn_rows(tmp_path, torn):
    with StepLog(tmp_path, total=9) as steps:
        for step in range(1, 6):
            steps.step(step, {"loss": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    with StepLog(tmp_path, total=9, start=3) as steps:
        steps.step(4, {"loss": 40})
    assert [(row["step"], row["loss"]) for row in rows(tmp_path)] == [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 40),
    ]


def test_starting_over_cuts_every_row(tmp_path):
    for _ in range(2):
        with StepLog(tmp_path, total=2) as steps:
            steps.step(1, {"loss": 1.0})
    assert len(rows(tmp_path)) == 1


def test_other_ranks_neither_show_nor_write(tmp_path, capsys):
    with StepLog(tmp_path, total=1, main=False, trackers=("no such tracker",)) as steps:
        steps.step(1, METRICS)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""


def test_the_eta_follows_a_change_of_pace(monkeypatch):
    clock = 0.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    pace = log._Pace()
    for done in range(1, 101):
        clock += 1.0 if done <= 50 else 10.0
        pace.reach(done)
    assert pace.rate == pytest.approx(0.1, rel=0.01)
    assert pace.eta(112) == ["ETA 0:02:00"]


def test_track_yields_every_item_and_is_silent_when_short(capsys):
    assert list(log.track(iter("abc"), "letters")) == ["a", "b", "c"]
    assert list(log.track([], "nothing")) == []
    assert capsys.readouterr().err == ""


def test_track_tells_count_rate_and_eta_every_ten_seconds(monkeypatch, capsys):
    clock = 0.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    for _ in log.track(range(1600), "filter", unit="documents"):
        clock += 1 / 64
    assert capsys.readouterr().err.splitlines() == [
        "filter 640/1,600 40.0 % documents  64.0 documents/s  ETA 0:00:15",
        "filter 1,280/1,600 80.0 % documents  64.0 documents/s  ETA 0:00:05",
        "filter 1,600/1,600 100.0 % documents  64.0 documents/s  ETA 0:00:00",
    ]


def test_track_without_a_total_tells_no_share(monkeypatch, capsys):
    clock = 0.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    for _ in log.track(iter(range(1000)), "read", unit="rows"):
        clock += 1 / 64
    assert capsys.readouterr().err.splitlines()[0] == "read 640 rows  64.0 rows/s"


def test_say_prints_the_text_as_it_is(capsys):
    log.say("[bold]百问[/bold] :smile: " + "x" * 200)
    assert capsys.readouterr().err == "[bold]百问[/bold] :smile: " + "x" * 200 + "\n"


def test_a_terminal_gets_one_live_line_and_its_cursor_back_after_ctrl_c(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from baiwen.log import StepLog, say\n"
        "with StepLog(Path(sys.argv[1]), total=9) as steps:\n"
        "    for step in range(1, 4):\n"
        "        steps.step(step, {'loss': float(step)}); time.sleep(0.12)\n"
        "    say('a word between')\n"
        "    raise KeyboardInterrupt"
    )
    got = on_a_terminal(script, str(tmp_path))
    assert "train 3/9 33.3 %  loss 3.0000  ETA" in got
    assert "\x1b[2K" in got  # redrawn in place
    assert "a word between\r\n" in got
    assert got.index("\x1b[?25l") < got.rindex("\x1b[?25h")  # hidden, then shown again
    assert len(rows(tmp_path)) == 3


def test_a_live_line_that_is_too_long_is_cut_to_the_terminal(tmp_path):
    script = (
        "import sys; from pathlib import Path; from baiwen.log import StepLog\n"
        "with StepLog(Path(sys.argv[1]), total=1, label='l' * 200) as steps: steps.step(1, {})"
    )
    got = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", on_a_terminal(script, str(tmp_path)))
    assert all(len(line) <= 80 for line in re.split(r"[\r\n]+", got))


def test_the_log_does_not_import_torch():
    script = "import sys; import baiwen.log; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False False\n"
