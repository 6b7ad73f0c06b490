"""Run folders: fresh, resumable, done or refused."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from baiwen import files
from baiwen.errors import UserError
from baiwen.files import runs

RECIPE = {
    "stage": "sft",
    "out": Path("runs/sft"),
    "seed": 7,
    "optim": {"lr": 1e-3, "betas": (0.9, 0.95)},
}


INPUTS = {"data": "sha256 1", "heldout": "sha256 1"}


def run(out: Path, recipe: dict = RECIPE) -> files.RunFolder:
    """A stage that goes on from its state, as a real one does."""
    with files.run_folder(out, recipe) as folder:
        if not folder.done:
            (out / "state").mkdir(exist_ok=True)
            files.write(out / "state" / "step", "1")
            files.write(out / "model", "weights")
        return folder


def test_a_fresh_run_is_sealed_and_the_next_one_is_done(tmp_path):
    out = tmp_path / "deep" / "out"
    assert run(out) == files.RunFolder(out, done=False, resumable=False)
    files.check(out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert run(out) == files.RunFolder(out, done=True, resumable=False)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_failed_run_is_resumable_and_not_complete(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.run_folder(tmp_path, RECIPE) as folder:
        files.write(folder.path / "state" / ".step-1.0123abcd.partial" / "model", "half")
        assert not files.look(tmp_path, RECIPE).resumable
        files.write(folder.path / "state" / "step-1", "whole")
        raise KeyboardInterrupt
    assert not files.complete(tmp_path)
    assert run(tmp_path) == files.RunFolder(tmp_path, done=False, resumable=True)
    assert files.complete(tmp_path)


def test_the_manifest_leaves_out_state_and_logs(tmp_path):
    with files.run_folder(tmp_path, RECIPE) as folder:
        for name in ("state/1", "logs/events", "model"):
            files.write(folder.path / name, "x")
    listed = files.read_json(tmp_path / "manifest.json")["files"]
    assert sorted(listed) == ["model", "recipe.json", "run.json"]


def test_the_record_says_what_ran_with_what_where_and_when(tmp_path):
    run(tmp_path)
    record = files.read_json(tmp_path / "run.json")
    assert record["seed"] == 7
    assert record["versions"]["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}")
    assert record["versions"]["numpy"]
    assert record["host"]["cores"] == os.cpu_count()
    assert record["command"].split()[0] == sys.orig_argv[0]
    assert record["started"] <= record["finished"]
    assert record["resumed"] == []
    assert json.loads((tmp_path / "recipe.json").read_text())["optim"] == {
        "lr": 1e-3,
        "betas": [0.9, 0.95],
    }


def test_seconds_of_interrupted_sessions_add_up(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.run_folder(tmp_path, RECIPE):
        time.sleep(0.2)
        raise KeyboardInterrupt
    first = files.read_json(tmp_path / "run.json")
    assert first["finished"] is None
    with files.run_folder(tmp_path, RECIPE):
        time.sleep(0.2)
    second = files.read_json(tmp_path / "run.json")
    assert second["started"] == first["started"]
    assert len(second["resumed"]) == 1
    assert second["seconds"] >= 0.4


def test_another_recipe_is_refused_key_by_key(tmp_path):
    run(tmp_path)
    other = {
        "stage": "sft",
        "out": Path("runs/sft"),
        "optim": {"lr": 2e-3, "betas": (0.9, 0.95)},
        "new": {},
    }
    with pytest.raises(UserError) as error:
        run(tmp_path, other)
    lines = str(error.value).splitlines()
    assert lines[0] == f"{tmp_path} belongs to another recipe:"
    assert lines[1:-1] == [
        "  seed: 7 -> absent",
        "  optim.lr: 0.001 -> 0.002",
        "  new: absent -> {}",
    ]
    assert "choose another `out`, or delete the folder" in lines[-1]


def test_a_folder_of_foreign_files_is_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds files that no run wrote \(thesis.txt\)"):
        run(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="out is a file"):
        run(tmp_path / "out")


def test_a_finished_run_that_was_damaged_is_refused_by_name(tmp_path):
    run(tmp_path)
    (tmp_path / "model").unlink()
    with pytest.raises(UserError, match="model: it is missing"):
        run(tmp_path)


def test_unfinished_writes_of_a_dead_run_are_swept(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.run_folder(tmp_path, RECIPE):
        files.write(tmp_path / "state" / ".step-3.0123abcd.partial" / "model", "half")
        files.write(tmp_path / ".model.0123abcd.partial", "half")
        raise KeyboardInterrupt
    with files.run_folder(tmp_path, RECIPE):
        assert not list(tmp_path.rglob("*.partial"))


def test_a_second_process_is_refused_with_the_pid_of_the_first_until_that_is_killed(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from baiwen import files\n"
        "with files.run_folder(Path(sys.argv[1]), {'a': 1}):\n"
        "    print('open', flush=True); time.sleep(60)"
    )
    first = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert first.stdout.readline() == b"open\n"
    with pytest.raises(UserError, match=rf"another process is writing here \(pid {first.pid}\)"):
        run(tmp_path, {"a": 1})
    first.send_signal(signal.SIGKILL)
    first.wait()
    first.stdout.close()
    run(tmp_path, {"a": 1})


def test_a_run_killed_anywhere_is_run_again_to_its_end(tmp_path, faults):
    out = tmp_path / "disk" / "out"
    for ending in faults(tmp_path / "disk", lambda: None, lambda: run(out)):
        assert ending == "killed" or files.complete(out)
        finished = (out / "manifest.json").exists()
        assert run(out).done == finished
        files.check(out)
        assert (out / "model").read_text() == "weights"


def test_other_ranks_wait_for_rank_0_and_write_nothing(tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setenv("RANK", "1")
    rank_0 = threading.Timer(0.3, lambda: files.write_json(out / "recipe.json", {"a": 1}))
    rank_0.start()
    with files.run_folder(out, {"a": 1}) as folder:
        assert folder == files.RunFolder(out, done=False, resumable=False)
    rank_0.join()
    assert os.listdir(out) == ["recipe.json"]


def test_other_ranks_do_not_wait_where_a_run_is_done_with_other_free_knobs(tmp_path, monkeypatch):
    run(tmp_path)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(runs, "RANK_TIMEOUT", 0.1)
    with files.run_folder(tmp_path, RECIPE | {"workers": 2}, free=("workers",)) as folder:
        assert folder.done


def test_another_rank_that_waits_in_vain_says_for_whom(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setattr(runs, "RANK_TIMEOUT", 0.1)
    with pytest.raises(UserError, match=r"rank 3 waited .* for rank 0 to open"):
        run(tmp_path / "out")


def test_a_run_with_nothing_to_go_on_from_leaves_its_place_to_a_mended_recipe(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.run_folder(tmp_path, RECIPE) as folder:
        files.write(folder.path / "rows.json", "{}")
        raise KeyboardInterrupt
    mended = RECIPE | {"seed": 8}
    assert files.look(tmp_path, mended).replaces
    assert not files.look(tmp_path, RECIPE).replaces
    with pytest.raises(files.OtherRunError, match='stage: "sft" -> "data"'):
        run(tmp_path, mended | {"stage": "data"})
    assert run(tmp_path, mended).replaces
    assert files.read_json(tmp_path / "recipe.json")["seed"] == 8


def test_a_run_that_can_be_resumed_keeps_its_place(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.run_folder(tmp_path, RECIPE) as folder:
        files.write(folder.path / "state" / "step", "1")
        raise KeyboardInterrupt
    with pytest.raises(files.OtherRunError, match="seed: 7 -> 8"):
        run(tmp_path, RECIPE | {"seed": 8})


@pytest.mark.parametrize(
    ("ending", "told"), [(None, "was made from"), (KeyError, "was begun with")]
)
def test_another_content_of_an_input_is_refused(tmp_path, ending, told):
    with contextlib.suppress(KeyError), files.run_folder(tmp_path, RECIPE, INPUTS) as folder:
        files.write(folder.path / "state" / "step", "1")
        if ending:
            raise ending
    other = INPUTS | {"data": "sha256 2"}
    with pytest.raises(files.OtherRunError, match=f"{told} another content of data\n"):
        files.look(tmp_path, RECIPE, other)
    gone = {"heldout": "sha256 1"}
    assert files.look(tmp_path, RECIPE, gone) == files.look(tmp_path, RECIPE, INPUTS)
    assert files.changed(tmp_path, other) == {"data": True}


def test_an_input_that_may_only_have_been_touched_is_no_error(tmp_path):
    with files.run_folder(tmp_path, RECIPE, INPUTS | {"data": "stat 1"}):
        pass
    touched = INPUTS | {"data": "stat 2"}
    assert files.look(tmp_path, RECIPE, touched).done
    assert files.changed(tmp_path, touched) == {"data": False}


def test_a_run_that_starts_over_does_so_from_what_its_inputs_are_by_then(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.run_folder(tmp_path, RECIPE, INPUTS):
        raise KeyboardInterrupt
    other = INPUTS | {"data": "sha256 2"}
    with files.run_folder(tmp_path, RECIPE, other):
        pass
    assert files.read_json(tmp_path / "run.json")["inputs"] == other


def test_a_run_that_made_nothing_leaves_its_place_to_a_mended_recipe(tmp_path):
    with pytest.raises(UserError), files.run_folder(tmp_path, RECIPE):
        raise UserError("micro_tokens = 100 is less than a row")
    mended = RECIPE | {"seed": 8}
    run(tmp_path, mended)
    assert files.read_json(tmp_path / "recipe.json")["seed"] == 8
    assert files.read_json(tmp_path / "run.json")["resumed"] == []
