"""A rank that dies or stands still is named, once, and all others end; a slow one is waited for."""

import json
import re
from pathlib import Path

import pytest

from baiwen.dist.verdict import SILENT

pytestmark = pytest.mark.slow  # one launch of all jobs, which wait for bounds to pass

WATCHED = Path(__file__).with_name("watched.py")


@pytest.fixture(scope="module")
def jobs(forks, tmp_path_factory):
    """What became of each job of `watched.py`."""
    folder = tmp_path_factory.mktemp("jobs")
    done = forks.run(WATCHED, folder, timeout=400)
    assert done.returncode == 0, done.stderr[-4000:]
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def said(job):
    """The lines of all ranks."""
    return "".join(job["printed"]).splitlines()


def test_a_killed_rank_is_named_at_once_and_once_and_the_others_end(jobs):
    job = jobs["killed"]
    assert job["codes"] == [1, -9, 1]
    assert max(job["seconds"]) < SILENT
    (line,) = [line for line in said(job) if "died" in line]
    assert re.match(rf"baiwen: rank 1 \(\S+, pid {job['pids'][1]}\) died", line)
    assert [json.loads(left)["message"]["message"].split(" died")[0] for left in job["left"]] == [
        line.removeprefix("baiwen: ").split(" died")[0]
    ] * 2


def test_a_crash_in_native_code_shows_where_and_is_named(jobs):
    job = jobs["crashed"]
    assert job["codes"] == [-11, 1]
    assert "string_at" in job["printed"][0] and "rank 0 (" in job["printed"][1]


def test_a_rank_that_stands_still_is_named_with_step_and_stack(jobs):
    job = jobs["hung"]
    assert job["codes"] == [1, 1, 1]
    (line,) = [line for line in said(job) if "stands still" in line]
    assert f"pid {job['pids'][2]}) stands still at step 20, reading rows, for" in line
    assert "The others wait at step 21, summing" in "\n".join(said(job))
    assert "in stand_still" in job["printed"][2]
    assert sum("stands here" in printed for printed in job["printed"]) == 1


def test_who_makes_no_mark_while_others_catch_up_is_named(jobs):
    assert jobs["stuck"]["codes"] == [1, 1]
    (line,) = [line for line in said(jobs["stuck"]) if "stands still" in line]
    assert f"pid {jobs['stuck']['pids'][1]}) stands still at step 0, reading rows, for" in line


def test_a_stopped_process_is_named_and_killed(jobs):
    job = jobs["stopped"]
    assert job["codes"] == [-9, 1]
    assert "rank 0 (" in job["printed"][1] and "is stopped" in job["printed"][1]
    assert max(job["seconds"]) < SILENT  # in which torchrun would wait for it


@pytest.mark.parametrize(
    ("name", "text"), [("mistaken", "steps = 3"), ("all_mistaken", "steps = 4")]
)
def test_a_mistake_is_told_once_and_all_exit_with_2(jobs, name, text):
    job = jobs[name]
    assert job["codes"] == [2, 2]
    (line,) = said(job)
    assert re.match(rf"baiwen \(rank \d\): {text} is too few", line)
    assert all(text in left for left in job["left"]) and len(job["left"]) == 2


def test_the_exception_of_a_rank_is_the_only_traceback(jobs):
    job = jobs["failed"]
    assert job["codes"] == [1, 1]
    assert sum("Traceback" in line for line in said(job)) == 1
    assert "IndexError: list index out of range" in job["printed"][1]
    assert all("IndexError" in left for left in job["left"])


def test_one_rank_that_is_asked_to_end_ends_all_alike(jobs):
    job = jobs["asked"]
    assert job["codes"] == [143, 143]
    assert said(job) == []


def test_a_slow_write_a_slow_rollout_and_a_suspended_job_are_no_trouble(jobs):
    assert jobs["patient"]["codes"] == [0, 0]
    assert said(jobs["patient"]) == []


def test_the_doctor_tells_who_is_where_and_how_fast_they_exchange(jobs):
    assert jobs["examined"]["codes"] == [0, 0]
    found = json.loads(jobs["examined"]["printed"][0])
    assert list(found) == ["ranks", "versions", "all-reduce", "all-to-all"]
    assert found["ranks"][1].startswith("2 on 1 machine: ")
    assert found["versions"][0] == "ok"
    for name in ("all-reduce", "all-to-all"):
        size, milliseconds, rate = re.match(
            r"(\d+) MiB in ([\d.,]+) ms: ([\d.]+) GB/s", found[name][1]
        ).groups()
        seconds = float(milliseconds.replace(",", "")) / 1e3
        carried = (1.0 if name == "all-reduce" else 0.5) * int(size) * 2**20  # by two ranks
        rounding = 0.06e9 * seconds + 0.01 * carried
        assert float(rate) * 1e9 * seconds == pytest.approx(carried, abs=rounding)


def test_a_store_that_answers_no_more_ends_the_job(jobs):
    job = jobs["storeless"]
    assert job["codes"] == [1, 1]
    (line,) = [line for line in said(job) if "does not answer" in line]
    assert "the machine of rank 0 (" in line
