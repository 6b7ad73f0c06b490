"""Kernels are compiled once, found again, and done without where they cannot be had."""

import pwd
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from baiwen.model.native import build

SOURCE = """
#include <cstdint>
extern "C" void twice(const float *x, float *out, int64_t n) {
#pragma omp parallel for
    for (int64_t i = 0; i < n; i++) out[i] = 2 * x[i];
}
"""
needs_compiler = pytest.mark.skipif(build.compiler_found() is None, reason="no C++ compiler")


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A folder of sources and a cache of their own."""
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("BAIWEN_NATIVE", raising=False)
    (tmp_path / "double.cpp").write_text(SOURCE)
    build.library.cache_clear()
    yield tmp_path
    build.library.cache_clear()


def doubled(native):
    x, out = torch.randn(100), torch.empty(100)
    native.twice(x, out, x.numel())
    return torch.equal(out, 2 * x)


@needs_compiler
def test_a_source_is_compiled_and_runs(sources):
    assert doubled(build.library("double"))


@needs_compiler
def test_what_was_compiled_is_found_again(sources, monkeypatch):
    assert build.library("double")
    build.library.cache_clear()
    monkeypatch.setattr(build, "_compile", None)  # calling it would fail
    assert doubled(build.library("double"))


@needs_compiler
def test_another_source_is_another_library(sources):
    build.library("double")
    (sources / "double.cpp").write_text(SOURCE.replace("2 *", "3 *"))
    build.library.cache_clear()
    assert not doubled(build.library("double"))


@needs_compiler
def test_two_may_compile_at_once(sources):
    compiler = build.compiler_found()
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: build._compiled("double", compiler), range(2)))
    assert paths[0] == paths[1]
    assert [path.name for path in build.cache_folder().iterdir()] == [paths[0].name]


@needs_compiler
def test_a_source_that_does_not_compile_is_told_once(sources, capsys):
    (sources / "double.cpp").write_text("this is not C++")
    assert build.library("double") is None
    assert build.library("double") is None
    assert capsys.readouterr().err.count("double.cpp cannot be used") == 1


@needs_compiler
def test_a_cache_that_cannot_be_written_is_told(sources, capsys, monkeypatch):
    (sources / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(sources / "file"))
    assert build.library("double") is None
    assert "a part of the path is a file" in capsys.readouterr().err


@needs_compiler
def test_a_user_without_a_home_is_told(sources, capsys, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # a container's own user id
    assert build.library("double") is None
    assert "double.cpp cannot be used" in capsys.readouterr().err


def test_a_compiler_that_hangs_is_given_up(sources, capsys, monkeypatch):
    compiler = sources / "g++"
    compiler.write_text("#!/bin/sh\nsleep 30\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(build, "COMPILERS", (str(compiler),))
    monkeypatch.setattr(build, "SECONDS", 0.2)
    begin = time.monotonic()
    assert build.library("double") is None
    assert time.monotonic() - begin < 10
    assert "timed out" in capsys.readouterr().err


@needs_compiler
def test_another_cpu_has_another_library(sources, monkeypatch):
    build.library("double")
    monkeypatch.setattr(build, "_cpu", lambda: ["another"])
    build.library.cache_clear()
    assert build.library("double")
    assert len(list(build.cache_folder().iterdir())) == 2


@pytest.mark.parametrize("variable", ["BAIWEN_NATIVE", "PATH"])
def test_kernels_that_are_turned_off_or_have_no_compiler_are_done_without(
    sources, monkeypatch, capsys, variable
):
    monkeypatch.setenv(variable, "0")
    assert build.library("double") is None
    assert capsys.readouterr().err == ""


@needs_compiler
def test_arguments_are_checked_by_the_declaration(sources):
    native, x = build.library("double"), torch.ones(4)
    with pytest.raises(Exception, match="float64"):
        native.twice(x.double(), x, 4)
    with FakeTensorMode():
        fake = torch.ones(4)
    with pytest.raises(Exception, match="got a FakeTensor"):
        native.twice(fake, x, 4)
    with pytest.raises(Exception, match="argument 3"):
        native.twice(x, x, 4.0)


@needs_compiler
def test_kernels_and_pytorch_share_one_openmp(sources):
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("/proc is Linux's")

    def runtimes():
        return {line.split()[-1] for line in maps.read_text().splitlines() if "libgomp" in line}

    before = runtimes()  # PyTorch's, and those of what other tests have imported
    assert doubled(build.library("double"))
    assert runtimes() == before
