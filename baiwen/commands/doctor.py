"""`baiwen doctor`: this machine and this installation, and whether the parts work here.

    ok    python     3.11.7 on Linux-6.18
    ok    cpu        2 cores, 2 threads; matmul 67 GFLOPS in fp32, 190 in bf16, which is the default
    note  packages   1 of 86 not as in constraints.txt: numpy 2.5.0 (2.4.6)
    ok    native     attention, linear compiled by g++
    ok    model      a training step takes the loss from 8.397 to 7.670

A note is worth reading; a fault (exit code 1) must be mended before a run. Under torchrun rank 0
says this of its machine, and then how the ranks exchange (`exchange.py`).
"""

import argparse
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import torch
import torch.nn.functional as F

from baiwen import dist
from baiwen.commands import exchange
from baiwen.commands.exchange import Finding
from baiwen.errors import UserError
from baiwen.model.native import build
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.tokenizer import bpe
from baiwen.verify import sandbox

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
GIB = 2**30
TEXT = "Documents in, a chat model out. 百问,千问. def f(x): return x ** 2\n"

LEVELS = {
    "A": "bubblewrap and a control group",
    "B": "bubblewrap, its memory watched; no control group can be written",
    "C": "Landlock and seccomp, without a scratch folder; bubblewrap would be better",
}


def main(options: argparse.Namespace) -> int:
    """Print one line a check; 1 if one of them found a fault."""
    del options
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return _print(_here())
    with dist.session() as world:
        faults = _print(_here()) if world.main else 0
        dist.barrier(world)
        found = exchange.findings(world)
        return max(faults, _print(found.items())) if world.main else 0


def _here() -> Iterator[tuple[str, Finding]]:
    """What this process finds on its machine, as it finds it."""
    checks: dict[str, Callable[[], Finding]] = {
        "python": _python,
        "torch": _torch,
        "cpu": _cpu,
        "native": _native,
        "sandbox": _sandbox,
        "gpu": _gpu,
        "memory": _memory,
        "disk": _disk,
        "packages": _packages,
        "tokenizer": _tokenizer,
        "model": _model,
    }
    for name, check in checks.items():
        yield name, check()


def _print(findings: Iterable[tuple[str, Finding]]) -> int:
    faults = 0
    for name, (state, found) in findings:
        print(f"{state:5} {name:10} {found}")
        faults += state == "fault"
    return int(faults > 0)


def _python() -> Finding:
    return "ok", f"{platform.python_version()} on {platform.platform()}"


def _torch() -> Finding:
    return "ok", f"{torch.__version__}, CPU code for {torch.backends.cpu.get_cpu_capability()}"


def _cpu() -> Finding:
    rate = f"matmul {_rate(torch.float32):,.0f} GFLOPS in fp32"
    if dist.fast_bf16():
        rate += f", {_rate(torch.bfloat16):,.0f} in bf16, which is the default"
    else:
        rate += ", which is the default: no bf16 in hardware"
    return "ok", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads; {rate}"


def _rate(dtype: torch.dtype, size: int = 1024, repeats: int = 3) -> float:
    """GFLOPS of a square matmul, the best of a few."""
    left, right = (torch.randn(size, size).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds) / 1e9


def _native() -> Finding:
    """Whether the kernels in C++ run here, or PyTorch's own operations in their place."""
    compiler = build.compiler_found()
    if os.environ.get("BAIWEN_NATIVE") == "0":
        return "note", "turned off by BAIWEN_NATIVE=0; PyTorch's own operations run instead"
    if compiler is None:
        wanted = ", ".join(build.COMPILERS)
        return "note", f"no compiler ({wanted}), which would make training and serving faster"
    names = sorted(source.stem for source in build.SOURCES.glob("*.cpp"))
    missing = [name for name in names if build.library(name) is None]
    if missing:
        return "note", f"{compiler.name} cannot compile {', '.join(missing)} (see above)"
    return "ok", f"{', '.join(names)} compiled by {compiler.name}"


def _sandbox() -> Finding:
    """The level at which programs of a model run here; the verifier `code` needs one."""
    try:
        level = sandbox.best()
    except UserError as error:
        return "note", str(error)
    return ("ok" if level in "AB" else "note"), f"level {level}: {LEVELS[level]}"


def _gpu() -> Finding:
    if not torch.cuda.is_available():
        return "ok", "none that this PyTorch can use; everything runs on the CPU"
    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return "ok", ", ".join(f"{gpu.name} ({gpu.total_memory / GIB:.0f} GiB)" for gpu in devices)


def _memory() -> Finding:
    page = os.sysconf("SC_PAGE_SIZE")
    total = page * os.sysconf("SC_PHYS_PAGES") / GIB
    state = "ok" if total >= 4 else "note"
    return state, f"{total:.1f} GiB{'' if state == 'ok' else '; recipes/tiny wants 4'}"


def _disk() -> Finding:
    free = shutil.disk_usage(".").free / GIB
    state = "ok" if free >= 2 else "note"
    return state, f"{free:.1f} GiB free here{'' if state == 'ok' else '; recipes/tiny wants 2'}"


def _packages() -> Finding:
    """Installed versions beside the ones Baiwen is tested with."""
    if not CONSTRAINTS.is_file():
        return "ok", "installed without a checkout, so there is no constraints.txt to compare with"
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line and line[0] != "#")
    installed = {name: _version(name) for name in pinned}
    differing = [
        f"{name} {installed[name] or 'missing'} ({version})"
        for name, version in pinned.items()
        if (installed[name] or "").partition("+")[0] != version.partition("+")[0]
    ]
    if not differing:
        return "ok", f"all {len(pinned)} as in constraints.txt"
    listed = ", ".join(differing)
    return "note", f"{len(differing)} of {len(pinned)} not as in constraints.txt: {listed}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _tokenizer() -> Finding:
    tokenizer = bpe.train([TEXT] * 8, vocab_size=280)
    back = tokenizer.decode(tokenizer.encode(TEXT))
    return ("ok", "text comes back from its ids") if back == TEXT else ("fault", f"gave {back!r}")


def _model() -> Finding:
    """Whether a step down the gradient lowers the loss of the batch it was taken on."""
    model = Transformer(replace(SIZES["tiny"], num_hidden_layers=2))
    model.init_weights(seed=0)
    tokens = torch.arange(2 * 33).view(2, 33)  # [B, T+1]

    def loss() -> torch.Tensor:
        logits = model.logits(tokens[:, :-1])  # [B, T, V]
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    before = loss()
    before.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    after = loss()
    told = f"a training step takes the loss from {before:.3f} to {after:.3f}"
    return ("ok" if after < before else "fault"), told
