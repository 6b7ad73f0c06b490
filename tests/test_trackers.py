"""Trackers: only when named, and what their own readers find afterwards.

wandb and Trackio are no dependencies of the tests: `pip install wandb trackio` runs their part.
"""

import importlib.util
import json
import os
import subprocess
import sys
from typing import get_args

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from baiwen.errors import UserError
from baiwen.log import StepLog
from baiwen.trackers import TRACKERS
from baiwen.train.loop import Tracker


def test_a_recipe_may_name_each_of_them():
    assert get_args(Tracker) == tuple(TRACKERS)


def test_tensorboard_reads_every_step_once_after_a_resume(tmp_path):
    with StepLog(tmp_path, total=9, trackers=("tensorboard",)) as steps:
        for step in range(1, 6):
            steps.step(step, {"loss": step / 2, "tokens": 100})
    with StepLog(tmp_path, total=9, start=3, trackers=("tensorboard",)) as steps:
        steps.step(4, {"loss": float("nan"), "tokens": 400})
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    tokens = [(event.step, event.value) for event in events.Scalars("tokens")]
    assert tokens == [(1, 100), (2, 100), (3, 100), (4, 400)]
    losses = [event.value for event in events.Scalars("loss")]
    assert losses[:3] == [0.5, 1.0, 1.5]
    assert losses[3] != losses[3]


def test_an_unknown_tracker_is_refused_beside_those_there_are(tmp_path):
    with (
        pytest.raises(UserError, match=r"'tensorbord' is unknown; .* tensorboard, wandb, trackio"),
        StepLog(tmp_path, total=1, trackers=("tensorbord",)),
    ):
        pytest.fail("opened")


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_refused_with_the_remedy(tmp_path, name):
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    with (
        pytest.raises(UserError, match=rf"'{name}' is not installed; `pip install {name}`"),
        StepLog(tmp_path, total=1, trackers=("tensorboard", name)),
    ):
        pytest.fail("opened")


def test_no_tracker_is_imported_unless_named(tmp_path):
    script = (
        "import sys; from pathlib import Path; from baiwen.log import StepLog\n"
        "with StepLog(Path(sys.argv[1]), total=1) as steps: steps.step(1, {'loss': 1.0})\n"
        "print({'tensorboard', 'wandb', 'trackio'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def played(folder, name, environment):
    """A run of four steps, and its resumption after the second, up to the sixth."""
    script = (
        "import sys; from pathlib import Path; from baiwen.trackers import tracker\n"
        "for start, end in ((0, 4), (2, 6)):\n"
        "    with tracker(sys.argv[1], Path(sys.argv[2]), start) as record:\n"
        "        for step in range(start + 1, end + 1):\n"
        "            record(step, {'loss': 1 / step, 'mfu': None})\n"
    )
    folder.mkdir(exist_ok=True)
    (folder / "recipe.json").write_text('{"optim": {"lr": 0.001}}')
    command = [sys.executable, "-c", script, name, str(folder)]
    subprocess.run(command, env=os.environ | environment, capture_output=True, check=True)


def test_trackio_holds_a_resumed_run_under_one_name_and_a_new_one_under_another(tmp_path):
    pytest.importorskip("trackio", reason="needs trackio")
    place = {"TRACKIO_DIR": str(tmp_path / "trackio")}
    for _ in range(2):
        played(tmp_path / "run", "trackio", place)
    script = (
        "import json; from trackio.sqlite_storage import SQLiteStorage as storage\n"
        "rows = {run: storage.get_logs('baiwen', run) for run in storage.get_runs('baiwen')}\n"
        "print(json.dumps({run: [row['step'] for row in found] for run, found in rows.items()}))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | place, capture_output=True, check=True
    )
    steps = json.loads(told.stdout)
    assert len(steps) == 2 and all(str(tmp_path / "run") in name for name in steps)
    assert all(found == [1, 2, 3, 4, 3, 4, 5, 6] for found in steps.values())


def test_wandb_holds_a_resumed_run_under_one_id_and_a_new_one_under_another(tmp_path):
    pytest.importorskip("wandb", reason="needs wandb")
    for _ in range(2):
        played(tmp_path / "run", "wandb", {"WANDB_MODE": "offline"})
    logs = tmp_path / "run" / "logs" / "wandb"
    ids = [path.stem.removeprefix("run-") for path in logs.glob("offline-run-*/run-*.wandb")]
    assert len(ids) == 4 and len(set(ids)) == 2
