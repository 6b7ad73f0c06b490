"""Native kernels: C++ compiled once on the machine that runs it, loaded with ctypes.

    native = library("attention")                    # compiles native/attention.cpp once
    if native is None:
        ...                                      # no compiler, or BAIWEN_NATIVE=0: the plain form
    native.twice(x, out, x.numel())              # tensors and numbers, as the source declares them

A kernel is a function `extern "C" void name(const float *x, int64_t n)` on column 0 of its file;
the declaration in the source is the only one: arguments are converted and checked by it. `float *`
takes a float32 tensor on the CPU, `bf16 *` a bfloat16 one, `const void *` any, all of them None
for a null pointer; strides are the kernel's business.

The shared objects lie in `$XDG_CACHE_HOME/baiwen/native`, named by the hash of source, flags,
compiler and CPU. OpenMP is the runtime that PyTorch brings, so both share one pool of threads.
"""

import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from baiwen import files
from baiwen.errors import UserError
from baiwen.log import say

SOURCES = Path(__file__).parent
COMPILERS = ("g++", "c++", "clang++")
# Apple's clang knows OpenMP, but takes the flag only so (CMake's FindOpenMP does the same).
OPENMP = ("-Xpreprocessor", "-fopenmp") if sys.platform == "darwin" else ("-fopenmp",)
FLAGS = ("-std=gnu++20", "-O3", "-march=native", *OPENMP, "-fPIC", "-fno-math-errno", "-Wall")
SECONDS = 120  # after which a compiler is given up

KERNEL = re.compile(r'^extern "C" (\w+) (\w+)\(([^)]*)\)', re.MULTILINE)
NUMBERS: dict[str, Any] = {
    "void": None,
    "bool": ctypes.c_bool,
    "int": ctypes.c_int,
    "int64_t": ctypes.c_int64,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
}
ELEMENTS = {
    "float": torch.float32,
    "double": torch.float64,
    "bf16": torch.bfloat16,
    "int8_t": torch.int8,
    "uint8_t": torch.uint8,
    "int32_t": torch.int32,
    "int64_t": torch.int64,
    "bool": torch.bool,
    "void": None,
}
PLAIN = (torch.Tensor, torch.nn.Parameter)  # other classes (DTensor, FakeTensor) hold no memory
FLOATS = (torch.float32, torch.bfloat16)  # that kernels for training and serving are made for


@cache
def library(name: str) -> ctypes.CDLL | None:
    """The kernels of native/`name`.cpp; None where they are turned off or cannot be compiled.

    A compiler that is missing is no news; one that fails, or a cache that cannot be written, is
    told once.
    """
    assert (SOURCES / f"{name}.cpp").is_file(), name
    compiler = compiler_found()
    if compiler is None or os.environ.get("BAIWEN_NATIVE") == "0":
        return None
    try:
        return _load(_compiled(name, compiler), SOURCES / f"{name}.cpp")
    except (UserError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", None) or str(error)
        say(f"native/{name}.cpp cannot be used, PyTorch's own operations run instead: {told}")
        return None


def takes(name: str, *tensors: torch.Tensor) -> bool:
    """Whether the kernels of native/`name`.cpp are there and can read these tensors.

    They read memory of the CPU, all of it fp32 or all of it bf16. What `torch.compile` traces takes
    the plain form, which it compiles itself.
    """
    if torch.compiler.is_compiling():
        return False
    dtype = tensors[0].dtype
    alike = all(_in_memory(x) and x.dtype == dtype for x in tensors)
    return alike and dtype in FLOATS and library(name) is not None


def _in_memory(tensor: torch.Tensor) -> bool:
    return type(tensor) in PLAIN and tensor.is_cpu


def compiler_found() -> Path | None:
    """The compiler that would be used."""
    found = next(filter(None, map(shutil.which, COMPILERS)), None)
    return Path(found) if found else None


def _compiled(name: str, compiler: Path) -> Path:
    """The shared object, compiled where the cache does not have it."""
    source = SOURCES / f"{name}.cpp"
    target = cache_folder() / f"{name}-{_hash(source, compiler)}.so"
    if not target.exists():
        say(f"compiling native/{name}.cpp, once on this machine")
        with tempfile.TemporaryDirectory() as folder:
            made = _compile(source, compiler, Path(folder))
            files.write(target, made.read_bytes())  # another process sees all of it or nothing
    return target


def cache_folder() -> Path:
    """Where compiled kernels lie; RuntimeError for a user without a home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "baiwen" / "native"


def _hash(source: Path, compiler: Path) -> str:
    """Of all that decides what a compiler makes of a source."""
    found = compiler.resolve().stat()
    texts = [file.read_text() for file in (source, *sorted(SOURCES.glob("*.h")))]
    facts = (texts, FLAGS, compiler, found.st_size, found.st_mtime_ns, _cpu(), _openmp())
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _cpu() -> list[str]:
    """What `-march=native` depends on: a home folder may be shared by unlike machines."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.is_file() else []
    words = ("model name", "flags", "Features", "CPU part")
    return [platform.machine(), *sorted({line for line in lines if line.startswith(words)})]


def _openmp() -> Path | None:
    """PyTorch's own OpenMP runtime: linking another one would start a second pool of threads."""
    folder = Path(torch.__file__).parent
    places = (folder / "lib", folder.parent / "torch.libs")
    names = ("libgomp*.so*", "libomp*.dylib")
    return next((file for place in places for name in names for file in place.glob(name)), None)


def _compile(source: Path, compiler: Path, folder: Path) -> Path:
    """Compile and link apart: `-fopenmp` would link the compiler's own runtime."""
    made, shared = folder / "kernels.o", folder / "kernels.so"
    runtime = _openmp()
    linked = ["-fopenmp"] if runtime is None else [str(runtime), f"-Wl,-rpath,{runtime.parent}"]
    steps: list[list[str | Path]] = [
        [compiler, *FLAGS, "-c", source, "-o", made],
        [compiler, "-shared", made, *linked, "-o", shared],
    ]
    for step in steps:
        subprocess.run(step, check=True, capture_output=True, text=True, timeout=SECONDS)
    return shared


def _load(path: Path, source: Path) -> ctypes.CDLL:
    """Load, and give every function the types that its source declares."""
    loaded = ctypes.CDLL(str(path))
    for result, name, arguments in KERNEL.findall(source.read_text()):
        function = getattr(loaded, name)
        function.restype = NUMBERS[result]
        function.argtypes = [_converter(one) for one in arguments.split(",") if one.strip()]
    return loaded


def _converter(argument: str) -> Any:  # noqa: ANN401 - what ctypes calls an argtype
    """`const float *x` -> the converter of float32 tensors; `int64_t n` -> c_int64."""
    kind = argument.replace("const", "").split()[0].rstrip("*")
    return _pointer(ELEMENTS[kind]) if "*" in argument else NUMBERS[kind]


@cache
def _pointer(dtype: torch.dtype | None) -> type:
    """A converter of ctypes: a tensor on the CPU becomes its address, None a null pointer."""

    def address(tensor: torch.Tensor | None) -> ctypes.c_void_p:
        if tensor is None:
            return ctypes.c_void_p()
        # Spelled out, as a step of decoding comes here hundreds of times.
        plain = type(tensor) in PLAIN and tensor.is_cpu
        if not plain or (dtype is not None and dtype is not tensor.dtype):
            kind = f"{type(tensor).__name__} of {tensor.dtype} on {tensor.device}"
            raise TypeError(f"a kernel that wants a tensor of {dtype} on the CPU got a {kind}")
        return ctypes.c_void_p(tensor.data_ptr())

    return type("Pointer", (), {"from_param": staticmethod(address)})
