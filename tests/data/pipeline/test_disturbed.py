"""The data stage is killed, denied the disk, and run by other engines: its bytes are the same."""

import itertools
import os
import resource
import signal

import pytest

from baiwen.data.pipeline.engines import opened
from baiwen.errors import UserError
from baiwen.files import durable
from benchmarks.sides import data_same
from benchmarks.sides.data_same import content, forked, run, settings


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return data_same.write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def undisturbed(corpus, tmp_path_factory):
    """What an undisturbed run makes, how many files it renames, bytes of the largest part."""
    out, renamed = tmp_path_factory.mktemp("runs") / "undisturbed", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable.os, "replace", counted(renamed.append))
        run(settings(corpus, out))
    largest = max(path.stat().st_size for path in out.glob("parts/*/*.parquet"))
    return content(out), len(renamed), largest


def counted(tell, replace=os.replace):
    """`os.replace`, which tells its number before it does anything."""
    numbers = itertools.count(1)

    def told(path, other):
        tell(next(numbers))
        replace(path, other)

    return told


@pytest.mark.parametrize("share", [0.0, 0.2, 0.45, 0.7, 0.95])
def test_killed_at_any_write_and_gone_on_with_it_ends_in_the_same_bytes(
    corpus, undisturbed, tmp_path, monkeypatch, share
):
    expected, writes, _ = undisturbed
    last, out = max(1, round(share * writes)), tmp_path / "out"

    def dying():
        die = counted(lambda number: number == last and os.kill(os.getpid(), signal.SIGKILL))
        monkeypatch.setattr(durable.os, "replace", die)
        run(settings(corpus, out))

    assert forked(dying) is None
    assert forked(lambda: run(settings(corpus, out))) == 0
    assert content(out) == expected


def test_a_full_disk_is_told_and_costs_nothing_that_was_done(corpus, undisturbed, tmp_path):
    expected, _, largest = undisturbed
    out = tmp_path / "out"

    def denied():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, largest - 1))
        with pytest.raises(UserError, match="passes the size limit"):
            run(settings(corpus, out))

    assert forked(denied) == 0
    assert list((out / "parts").glob("*/*.json"))
    run(settings(corpus, out))
    assert content(out) == expected


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_fifty_random_moments_it_ends_in_the_same_bytes(corpus, tmp_path):
    assert data_same.kills(corpus, tmp_path, times=50) == 50


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "daft", "ray"])
def test_every_engine_writes_the_same_bytes(corpus, tmp_path, engine):
    pytest.importorskip({"local": "pyarrow"}.get(engine, engine))
    assert data_same.engines(corpus, tmp_path, [engine]) == {engine: True}


def late_first(task):
    if task == 5:
        raise UserError("five is wrong")
    return task * task


@pytest.mark.slow
def test_daft_gives_answers_in_the_order_of_the_tasks_and_mistakes_as_they_are():
    pytest.importorskip("daft")
    with opened("daft", workers=2) as work:
        assert list(work(late_first, range(5))) == [0, 1, 4, 9, 16]
        with pytest.raises(UserError, match="five is wrong"):
            list(work(late_first, range(6)))
