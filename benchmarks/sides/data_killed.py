"""A side: `baiwen run` of the data stage, killed at random moments, and the same job twice.

    settings: {"corpus": FOLDER, "kills": 50, "threads": 1}

Each time a run is killed by SIGKILL, gone on with to its end, and run once more. Every tenth has
two workers, which lose their parent. A run is the command itself in a process forked from this
one, so that most of its time is the work and not its start. The figures of a turn:
{"kills", "killed": before they ended, "same": ended in the bytes of an undisturbed run, "twice":
changed nothing when run again, "rows", "doubled": rows of the output that come twice, "documents"}.
"""

import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from baiwen import cli, files
from benchmarks.sides.data_same import content, forked
from benchmarks.turns import Turn

POOLED = 10  # one run of so many has workers of its own
RECIPE = """
stage = "data"
out = {out}
corpus = {corpus}
steps = ["language", "heuristics", "exact", "near"]
heldout_share = 0.1
engine = {engine}
workers = {workers}

[reading]
chunk_bytes = 100_000
"""


def recipe(path: Path, corpus: Path, out: Path, workers: int, engine: str = "local") -> Path:
    """Write a recipe of the data stage."""
    said = {name: json.dumps(str(one)) for name, one in (("out", out), ("corpus", corpus))}
    path.write_text(RECIPE.format(**said, workers=workers, engine=json.dumps(engine)))
    return path


def ran(path: Path, after: float | None = None) -> bool:
    """Run a recipe in a fork of this process, killed after so many seconds; was it killed?"""

    def work() -> None:
        log = os.open(path.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        assert cli.main(["run", str(path)]) == 0

    code = forked(work, after)
    assert code in (None, 0), path.with_suffix(".log").read_text()[-3000:]
    return code is None


def disturbed(corpus: Path, folder: Path, kills: int, seed: int = 0) -> dict[str, int]:
    """How many killed runs end in the bytes of an undisturbed one, and stay so when run again."""
    seconds = {}
    for workers in (1, 2):
        whole = recipe(
            folder / f"whole-{workers}.toml", corpus, folder / f"whole-{workers}", workers
        )
        began = time.perf_counter()
        ran(whole)
        seconds[workers] = time.perf_counter() - began
    expected, rng = content(folder / "whole-1"), random.Random(seed)
    assert content(folder / "whole-2") == expected
    counts: Counter[str] = Counter(kills=kills)
    for number in range(kills):
        workers = 2 if number % POOLED == POOLED - 1 else 1
        out = folder / f"killed-{number}"
        again = recipe(folder / f"killed-{number}.toml", corpus, out, workers)
        counts["killed"] += ran(again, after=rng.uniform(0, seconds[workers]))
        ran(again)
        counts["same"] += content(out) == expected
        ran(again)
        counts["twice"] += content(out) == expected
        ids = rows(out)
        counts["rows"] += len(ids)
        counts["doubled"] += len(ids) - len(set(ids))
    return dict(counts)


def rows(out: Path) -> list[str]:
    """The ids of all documents that a run has written."""
    return [row["id"] for path in out.glob("*.jsonl.zst") for row in files.read_jsonl(path)]


def main(settings: dict[str, Any]) -> None:
    """All kills whenever it is told."""
    turn = Turn()
    while True:
        turn.wait()
        with tempfile.TemporaryDirectory() as name:
            turn.figures = disturbed(Path(settings["corpus"]), Path(name), settings["kills"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
