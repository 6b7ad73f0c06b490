"""The scripts of this folder as fixtures, since test folders are no packages."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from baiwen.dist import World


def loaded(name):
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny():
    return loaded("tiny")


@pytest.fixture(scope="session")
def shared_rows(tiny):
    assert tiny  # which it imports
    return loaded("shared_rows")


@pytest.fixture(scope="session")
def spread_experts(shared_rows):
    assert shared_rows  # which it imports
    return loaded("spread_experts")


@pytest.fixture(scope="session")
def layouts(shared_rows):
    assert shared_rows  # which it imports
    return loaded("layouts")


@pytest.fixture(scope="session")
def made_by(forks, tmp_path_factory):
    """The folder that a script of this folder has filled: `made_by("layouts")`, or with words."""

    def run(name, *words):
        folder = tmp_path_factory.mktemp(name)
        script = Path(__file__).with_name(f"{name}.py")
        done = forks.run(script, folder, *words, timeout=280)
        assert done.returncode == 0, done.stderr[-4000:]
        return folder

    return run


@pytest.fixture
def world():
    return World(0, 1, torch.device("cpu"), torch.float32)
