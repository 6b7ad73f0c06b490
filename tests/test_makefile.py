"""The Makefile: what it offers, and that every target sets up `.venv` where it is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TARGETS = ("tiny", "test", "slow", "check", "abuse", "bench")

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="needs make")


@pytest.fixture
def checkout(tmp_path):
    """What the Makefile reads, and no environment."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder, *words):
    command = ["make", "--no-print-directory", f"PYTHON={sys.executable}", *words]
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ready(folder):
    (folder / ".venv").mkdir()
    (folder / ".venv" / ".ready").touch()


def test_bare_make_prints_the_targets_and_makes_nothing(checkout):
    lines = make(checkout).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["make", target] for target in TARGETS]
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_makes_the_environment_where_it_is_missing(checkout, target):
    told = make(checkout, "-n", target)
    assert "-m venv .venv" in told
    assert "--constraint constraints.txt" in told
    assert told.index("-m venv .venv") < told.rindex(".venv/bin/")


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_leaves_an_environment_that_is_ready(checkout, target):
    ready(checkout)
    assert "venv .venv" not in make(checkout, "-n", target)


def test_an_environment_older_than_the_constraints_is_brought_up_to_date(checkout):
    ready(checkout)
    os.utime(checkout / ".venv" / ".ready", (1, 1))
    assert "pip install" in make(checkout, "-n", "test")
