"""What the tests share: where the optional shared data lies."""

import signal
from collections import Counter
from pathlib import Path

import hypothesis
import pytest

# A busy machine is no fault of the code: what takes too long ends at pytest's own limit.
hypothesis.settings.register_profile("baiwen", deadline=None)
hypothesis.settings.load_profile("baiwen")

# A shell starts what it puts into the background with Ctrl-C ignored, which children inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: at the end they would keep one of several workers busy."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data beside the checkout; the test is skipped where it is absent."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"needs the shared data, which is not at {path}")
    return path
