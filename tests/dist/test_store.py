"""A rank finds the store of its job, or says where it looks, and what is wrong."""

import socket
import threading
import time

import pytest
from torch.distributed import TCPStore

from baiwen.dist import store
from baiwen.dist.store import connected
from baiwen.errors import UserError


@pytest.fixture
def said(monkeypatch):
    """The lines that are said, from the first moment on."""
    lines = []
    monkeypatch.setattr(store.log, "say", lines.append)
    monkeypatch.setattr(store, "FIRST", 0.0)
    monkeypatch.setattr(store, "PAUSE", 0.05)
    return lines


@pytest.fixture
def place(monkeypatch):
    """A port of this machine that is nobody's, of which rank 1 of 2 is told."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = {"RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in told.items():
        monkeypatch.setenv(name, str(value))
    return port


def test_where_nobody_listens_it_says_so_and_gives_up_in_words_that_mend(place, said):
    with pytest.raises(UserError, match=r"within 0 s.*refused.\nRank 0.*nc -vz 127\.0\.0\.1"):
        connected(patience=0.3)
    (line,) = said  # once a minute
    assert line.startswith("rank 1 (")
    assert f"finds nobody at 127.0.0.1:{place} (MASTER_ADDR:MASTER_PORT): Conn" in line


def test_a_name_that_means_no_machine_is_told(place, said, monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "no-such-node.invalid")
    with pytest.raises(UserError, match="found nobody at no-such-node"):
        connected(patience=0.1)
    assert said


def test_a_store_that_is_late_is_waited_for(place, said):
    kept = []

    def late():
        time.sleep(0.3)
        kept.append(TCPStore("127.0.0.1", place, is_master=True, wait_for_workers=False))

    thread = threading.Thread(target=late)
    thread.start()
    found = connected(patience=20.0)
    thread.join()
    kept[0].set("word", "here")
    assert found.store.get("word") == b"here"
    assert (found.rank, found.size, found.place) == (1, 2, f"127.0.0.1:{place}")


def test_rank_0_keeps_the_store_whatever_the_others_call_its_machine(place, said, monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "no-such-node.invalid")
    monkeypatch.setenv("RANK", "0")
    found = connected(patience=5.0)
    found.store.set("word", "here")
    assert TCPStore("127.0.0.1", place).get("word") == b"here"
    assert not said


@pytest.mark.parametrize(
    ("name", "value"), [("MASTER_ADDR", ""), ("MASTER_PORT", "a"), ("WORLD_SIZE", "")]
)
def test_a_variable_that_is_missing_or_no_number_is_named(place, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"environment variable {name} is {value!r}"):
        connected(patience=1.0)
