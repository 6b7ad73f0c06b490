"""The sandbox as a tool: what it hands in and out, from many threads, and where it says no."""

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from baiwen.errors import UserError
from baiwen.verify import sandbox
from baiwen.verify.sandbox import Limits, cgroup, execute, jail, languages, watch

QUIET = Limits(wall=60.0)


@pytest.fixture(params=sandbox.LEVELS)
def level(request):
    if reason := sandbox.unusable(request.param):
        pytest.skip(f"level {request.param} does not run here: {reason}")
    return request.param


def test_input_goes_in_and_output_comes_out(level):
    program = (
        "import sys; data = sys.stdin.read(); print(len(data), data[-1]); print(7, file=sys.stderr)"
    )
    result = sandbox.run(program, b"x" * 300_000 + b"y", limits=QUIET, level=level)
    assert (result.stdout, result.stderr, result.exit) == (b"300001 y\n", b"7\n", 0)
    assert result.done and result.level == level and result.seconds > 0


def test_the_exit_code_is_that_of_a_shell(level):
    assert sandbox.run("raise SystemExit(3)", limits=QUIET, level=level).exit == 3
    crash = "import ctypes; ctypes.string_at(0)"
    assert sandbox.run(crash, limits=QUIET, level=level).exit == 128 + 11


def test_a_program_has_the_standard_library_and_threads(level):
    program = "import collections, decimal, heapq, itertools, json, math, random, re, threading\n"
    program += "t = threading.Thread(target=print, args=[1]); t.start(); t.join()"
    assert sandbox.run(program, limits=QUIET, level=level).stdout == b"1\n"


def test_at_levels_a_and_b_there_is_a_scratch_folder(level):
    program = "open('/tmp/file', 'w').write('kept'); print(open('/tmp/file').read())"
    assert sandbox.run(program, limits=QUIET, level=level).done is (level != "C")


def test_strings_hash_alike_in_every_run(level):
    printed = {sandbox.run("print(hash('a'))", limits=QUIET, level=level).stdout for _ in range(2)}
    assert len(printed) == 1


def test_threads_run_programs_at_once_and_each_gets_its_own_output(level):
    def answer(number):
        return sandbox.run(f"print({number})", limits=QUIET, level=level).stdout

    with ThreadPoolExecutor(6) as pool:
        assert [*pool.map(answer, range(12))] == [b"%d\n" % number for number in range(12)]


def test_asyncio_goes_on_while_a_program_sleeps():
    async def both():
        program = "import time; time.sleep(0.5); print(1)"
        running = asyncio.create_task(asyncio.to_thread(sandbox.run, program, limits=QUIET))
        ticks = 0
        while not running.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return (await running).stdout, ticks

    stdout, ticks = asyncio.run(both())
    assert stdout == b"1\n"
    assert ticks > 5


def test_a_forked_child_of_the_parent_can_run_programs():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, sandbox.run("print(1)", limits=QUIET).stdout)
        os._exit(0)
    assert os.read(reading, 10) == b"1\n"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_nothing_is_left_open_or_made(level):
    sandbox.run("print(1)", limits=QUIET, level=level)
    before = sorted(os.listdir("/proc/self/fd"))
    sandbox.run("print(1)", limits=QUIET, level=level)
    with pytest.raises(UserError):
        sandbox.run("", language="cobol")
    assert sorted(os.listdir("/proc/self/fd")) == before
    for parent in cgroup.Cgroup.parents():
        assert not list(parent.glob(f"{cgroup.PREFIX}-{os.getpid()}-*"))


def test_an_unknown_language_and_a_level_that_is_not_there_are_named(monkeypatch):
    with pytest.raises(UserError, match=r"no language 'cobol'.*python"):
        sandbox.run("", language="cobol")
    monkeypatch.setattr(jail, "PATH", "/nowhere")
    execute.unusable.cache_clear()
    try:
        with pytest.raises(UserError, match=r"no level B here: no program .*apt install"):
            sandbox.run("", level="B")
    finally:
        execute.unusable.cache_clear()


def test_without_any_level_the_refusal_says_how_to_mend_it(monkeypatch):
    monkeypatch.setattr(execute, "unusable", lambda level, language: "broken")
    execute.best.cache_clear()
    try:
        with pytest.raises(
            UserError, match=r"A: broken; B: broken; C: broken.*apt install bubblewrap"
        ):
            sandbox.run("print(1)")
    finally:
        execute.best.cache_clear()


def test_an_interpreter_has_to_be_readable_by_the_user_of_the_sandbox(tmp_path):
    inner = tmp_path / "private"
    inner.mkdir(mode=0o755)
    program = inner / "python"
    program.write_text("")
    program.chmod(0o755)
    for folder in (tmp_path, *tmp_path.parents):
        if not os.access(folder, os.X_OK) or not folder.stat().st_mode & 1:
            folder.chmod(folder.stat().st_mode | 0o011)
    stranger = jail.NOBODY if os.getuid() != jail.NOBODY else 1
    assert languages.reachable(program, stranger)
    inner.chmod(0o700)
    assert not languages.reachable(program, stranger)


def test_a_group_of_version_2_is_made_where_controllers_are_handed_on(tmp_path):
    own = tmp_path / "own"
    own.write_text("0::/user.slice/session.scope\n")
    scope = tmp_path / "user.slice" / "session.scope"
    scope.mkdir(parents=True)
    assert cgroup.Cgroup.parents(tmp_path, own) == ()
    (scope / "cgroup.subtree_control").write_text("")
    (scope.parent / "cgroup.subtree_control").write_text("cpu memory pids\n")
    assert cgroup.Cgroup.parents(tmp_path, own) == (scope.parent,)


def test_groups_that_a_killed_process_left_are_removed(tmp_path, monkeypatch):
    gone = tmp_path / f"{cgroup.PREFIX}-{2**22 + 1}-00"  # above the largest number of a process
    others = [tmp_path / f"{cgroup.PREFIX}-{os.getpid()}-00", tmp_path / "system.slice"]
    for folder in (gone, *others):
        folder.mkdir()
    cgroup.sweep(tmp_path)
    assert gone.is_dir()  # it may have been made this moment, by a process we cannot see
    monkeypatch.setattr(cgroup, "STALE", -1.0)
    cgroup.sweep.cache_clear()
    cgroup.sweep(tmp_path)
    assert not gone.exists()
    assert all(folder.is_dir() for folder in others)


def test_groups_of_version_1_are_made_below_our_own(tmp_path):
    own = tmp_path / "own"
    own.write_text("4:memory:/here\n3:cpu,cpuacct:/\n2:pids:/\n")
    for folder in (tmp_path / "memory" / "here", tmp_path / "pids"):
        folder.mkdir(parents=True)
        (folder / "cgroup.procs").touch()
    assert cgroup.Cgroup.parents(tmp_path, own) == (tmp_path / "memory/here", tmp_path / "pids")


def test_the_watch_counts_children_and_what_they_hold():
    holding = "open('/proc/self/comm', 'wb').write(b'\\xff'); "  # a name that is no text
    holding += "held = b'1' * 2**26; print(len(held), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        child.stdout.readline()
        alone, together = watch.held(child.pid), watch.held(os.getpid())
        assert 2**26 < alone < 2**28
        assert together > alone
        child.kill()
