"""A run that was killed or stopped anywhere and goes on ends in the same bits as one left alone."""

import os
import signal
from pathlib import Path

import pytest

from baiwen.train.checkpoint.image import Image

HERE = Path(__file__).parent


def same(tiny, one, other):
    assert tiny.weights(one) == tiny.weights(other)
    assert tiny.metrics(one) == tiny.metrics(other)


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """A run left alone: 23 steps, five to an epoch."""
    out = tmp_path_factory.mktemp("whole")
    tiny.run(out, steps=23)
    return out


@pytest.mark.parametrize("stop", [1, 5, 6, 12, 22])
def test_a_run_stopped_at_any_step_goes_on_in_the_same_bits(
    tiny, whole, tmp_path, stop, monkeypatch
):
    """Also on the border of an epoch (5), right after it, and between two checkpoints."""
    steps = tiny.Loader.step

    def until(self, step):
        if step == stop:
            os.kill(os.getpid(), signal.SIGINT)
        return steps(self, step)

    monkeypatch.setattr(tiny.Loader, "step", until)
    with pytest.raises(KeyboardInterrupt):
        tiny.run(tmp_path, steps=23)
    monkeypatch.undo()
    assert len(tiny.metrics(tmp_path)) == stop + 1
    tiny.run(tmp_path, steps=23)
    same(tiny, whole, tmp_path)


def test_a_run_stopped_in_its_last_write_finishes_it_and_stops(tiny, whole, tmp_path, monkeypatch):
    write = Image.write

    def stopped(self, path):
        if path.name.startswith("model"):
            os.kill(os.getpid(), signal.SIGTERM)
        return write(self, path)

    monkeypatch.setattr(Image, "write", stopped)
    with pytest.raises(SystemExit, match="143"):
        tiny.run(tmp_path, steps=23, save_every=23)
    same(tiny, whole, tmp_path)


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_in_the_same_bits(tiny, tmp_path, forks):
    """kill -9 at random moments, in steps and in the writing of checkpoints (each third step)."""
    done = forks.run(HERE / "killed.py", tmp_path, "6", "30")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3
    resumed = (tmp_path / "killed.log").read_text().count("resumed after step")
    assert resumed >= 2
    same(tiny, tmp_path / "whole", tmp_path / "killed")
