"""The tiny run of `tiny.py` as a fixture, since test folders are no packages."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from baiwen.dist import World


@pytest.fixture(scope="session")
def tiny():
    path = Path(__file__).with_name("tiny.py")
    spec = importlib.util.spec_from_file_location("tiny", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def world():
    return World(0, 1, 0, torch.device("cpu"), torch.float32, None)
