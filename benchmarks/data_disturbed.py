"""Rows of `benchmarks/data.py`: the same bytes from every engine, and after every interruption.

engines(bench)       `baiwen run` by one process, a pool of two, Daft, and Daft on Ray
kills(bench)         `baiwen run` killed at random moments, gone on with, and run again
"""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks import page
from benchmarks.data_pages import Bench, Claim, Player, Row, side
from benchmarks.sides.data_killed import recipe
from benchmarks.sides.data_same import content
from benchmarks.turns import ROOT

ENGINES = {"local": (), "daft": ("daft",), "ray": ("daft", "ray")}  # what each needs, here
WORKERS = 2
FILES = 8  # that a corpus has: parts that are worked on side by side
KILLS = 50


def engines(bench: Bench) -> Row:
    """One process, then each engine with two workers."""
    corpus = bench.files(2000, FILES)[0].parent
    alone, expected = timed(bench, corpus, "local", 1)
    lines, differ = [["local", 1, f"{alone:.1f}", ""]], []
    for name, needed in ENGINES.items():
        if not all(map(page.installed, needed)):
            lines.append([name, WORKERS, "", "not installed"])
            continue
        seconds, found = timed(bench, corpus, name, WORKERS)
        same = found == expected
        differ += [] if same else [name]
        lines.append([name, WORKERS, f"{seconds:.1f}", "yes" if same else "**no**"])
    ran = [str(line[0]) for line in lines[1:] if line[3] != "not installed"]
    told = f"not by {', '.join(differ)}" if differ else f"the same: {', '.join(ran)}"
    seconds = ", ".join(f"{line[0]} {line[2]} s" for line in lines if line[2])
    what = f"engines, {WORKERS} workers, {len(bench.pages(2000)):,} documents"
    claim = Claim(what, "bytes of one process", told, seconds, not differ)
    head = ["engine", "workers", "wall seconds, with its start", "same bytes"]
    return Row([claim], page.table(head, lines))


def timed(bench: Bench, corpus: Path, engine: str, workers: int) -> tuple[float, dict[str, str]]:
    """Wall seconds of a run by an engine, and the digests of what it made."""
    name = f"{engine}-{workers}"
    out = bench.folder / name
    path = recipe(bench.folder / f"{name}.toml", corpus, out, workers, engine)
    began = time.perf_counter()
    command = [sys.executable, "-m", "baiwen", "run", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if told.returncode:
        sys.exit(f"{engine}: {told.stderr[-3000:]}")
    return time.perf_counter() - began, content(out)


def kills(bench: Bench) -> Row:
    """Killed, gone on with, run again."""
    times, corpus = bench.size(KILLS), bench.files(120, FILES)[0].parent
    settings = {"corpus": str(corpus), "kills": times}
    with side(bench, Player("data_killed", settings)) as one:
        found = one.step()
    claims = [
        Claim(
            f"kill -9 at {times} random moments, then gone on with",
            "bytes of an undisturbed run",
            f"{found['same']} of {times}",
            f"{found['killed']} before their end",
            found["same"] == times,
        ),
        Claim(
            "the same job twice",
            "the same bytes, no row doubled",
            f"{found['twice']} of {times}, {found['doubled']} rows doubled",
            f"of {found['rows']:,} rows",
            found["twice"] == times and not found["doubled"],
        ),
    ]
    told = f"{len(bench.pages(120))} documents, {found['wall']:.0f} s in all."
    return Row(claims, [f"{told} Every tenth run has two workers, which lose their parent."])
