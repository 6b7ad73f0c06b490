"""The page of a result: what was run, when, on what machine, and what came out.

    page.publish("train_step", "Training step against transformers", body, options.write)

prints the body, and with `--write` also puts the page into `benchmarks/results/train_step.md`.
"""

import datetime
import os
import platform
import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
# What decides how fast a CPU multiplies matrices, as Linux and macOS name it.
FEATURES = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "bf16", "sve")
PACKAGES = ("torch", "transformers", "tokenizers", "tiktoken", "numpy")
GIB = 2**30
BEFORE = os.getloadavg()  # before the benchmark adds its own


def parser(description: str | None) -> ArgumentParser:
    """A command line that begins with what all benchmarks take."""
    made = ArgumentParser(description=(description or "").splitlines()[0])
    made.add_argument("--write", action="store_true", help="also write the page of the result")
    return made


def publish(
    name: str,
    title: str,
    body: Sequence[str],
    write: bool,
    versions: Mapping[str, str | None] | None = None,
) -> None:
    """Print the body; with `write`, keep it as the page `name`.

    `versions` are those of packages in another environment than this one.
    """
    print("\n".join(body), flush=True)
    if write:
        RESULTS.mkdir(exist_ok=True)
        text = "\n".join([f"# {title}", "", *circumstances(versions or {}), "", *body, ""])
        (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")


def circumstances(others: Mapping[str, str | None]) -> list[str]:
    """Command, date, machine, versions, and how busy the machine was."""
    packages = {package: installed(package) for package in PACKAGES} | dict(others)
    told = [f"{package} {found}" for package, found in packages.items() if found]
    load = " -> ".join(f"{average[0]:.1f}" for average in (BEFORE, os.getloadavg()))
    return [
        f"- command: `{command()}`",
        f"- date: {datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}",
        f"- machine: {machine()}",
        f"- versions: Python {platform.python_version()}, {', '.join(told)}",
        f"- load average before -> after: {load}",
    ]


def command() -> str:
    """What to type to do it again; of a path on this machine only the last part."""
    module = f"benchmarks.{Path(sys.argv[0]).stem}"  # `python -m` puts the file's path there
    return shlex.join(["python", "-m", module, *map(_without_place, sys.argv[1:])])


def _without_place(word: str) -> str:
    name, equals, value = word.rpartition("=")
    return f"{name}{equals}{Path(value).name if Path(value).is_absolute() else value}"


def machine() -> str:
    """The CPU, what it can, its cores, the memory, the system."""
    lines = []
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set((told.get("flags") or told.get("Features") or "").split())
    features = " ".join(name for name in FEATURES if name in flags)
    cpu = told.get("model name") or platform.processor() or platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    named = f"{cpu} ({features})" if features else cpu
    return f"{named}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"


def installed(package: str) -> str | None:
    """The version of a package here; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table; the first column is words, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]


def claims(rows: Iterable[tuple[str, str, str, bool]]) -> list[str]:
    """A Markdown table of (claim, target, measured, whether it holds)."""
    told = [(*row[:3], "yes" if row[3] else "**no**") for row in rows]
    return table(["claim", "target", "measured", "holds"], told)
