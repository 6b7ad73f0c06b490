"""The tiny run, from raw text to a report: its time by stage, its memory, and what it reached.

    python -m benchmarks.tiny                            # what `make tiny` runs, in a fresh folder
    python -m benchmarks.tiny pretrain.tokens=400_000   # overrides, as `baiwen run` takes them
    python -m benchmarks.tiny --recipes PATH

The memory is that of all processes together, each page counted once (PSS, read every half second),
or the peak of the largest one, where that is more or /proc does not say.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

from benchmarks import page
from benchmarks.turns import ROOT

MINUTES, MEMORY = 15, 4 * 10**9  # the targets
# Accuracy, the second model minus the first on the same questions: at least so many points, and
# whether the interval must lie above 0.
GAINS = {"sft - base": (30, True), "dpo - sft": (0, False), "grpo - sft": (8, True)}
PAUSE = 0.5  # seconds between two looks at the memory
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss


def main() -> None:
    """Run, print, and write the page when asked."""
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        wall, memory = run(options, Path(folder))
        body = told(Path(folder), recipes(options.recipes), wall, memory)
    page.publish("tiny", "The tiny run", body, options.write)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--recipes", type=Path, default=ROOT / "recipes" / "tiny")
    parser.add_argument("overrides", nargs="*", help="key=value, for `baiwen run`")
    return parser.parse_args()


def recipes(folder: Path) -> list[dict[str, Any]]:
    """The recipes in their order."""
    paths = sorted(folder.glob("*.toml"), key=lambda path: int(path.name.partition("-")[0]))
    return [tomllib.loads(path.read_text(encoding="utf-8")) for path in paths]


def run(options: argparse.Namespace, folder: Path) -> tuple[float, int]:
    """Wall seconds of the command, and the most bytes that it held."""
    command = [sys.executable, "-m", "baiwen", "run", str(options.recipes.resolve())]
    began, most = time.monotonic(), 0
    # A session of its own, by which its processes are known.
    ran = subprocess.Popen([*command, *options.overrides], cwd=folder, start_new_session=True)
    try:
        while ran.poll() is None:
            most = max(most, held(ran.pid))
            time.sleep(PAUSE)
    finally:
        ran.terminate()  # nothing if it has ended; else the benchmark was stopped
        ran.wait()
    if ran.returncode:
        sys.exit(f"baiwen run ended with code {ran.returncode}")
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * UNIT
    return time.monotonic() - began, max(most, largest)


def held(session: int) -> int:
    """Bytes that the processes of a session hold together; 0 where there is no /proc."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(process.name)) == session:
                total += proportional(process)
        except (ProcessLookupError, PermissionError, FileNotFoundError):
            continue  # it has ended, or belongs to someone else
    return total


def proportional(process: Path) -> int:
    """A process's memory, of shared pages its share."""
    for line in (process / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def told(folder: Path, recipes: list[dict[str, Any]], wall: float, memory: int) -> list[str]:
    """The time by stage, and the claims."""
    rows = [[recipe["out"], f"{seconds(folder / recipe['out']):.1f}"] for recipe in recipes]
    scored = [recipe["out"] for recipe in recipes if recipe["stage"] == "evaluate"]
    return [
        *page.table(["run folder", "wall s"], [*rows, ["the whole command", f"{wall:.1f}"]]),
        "",
        *page.claims(
            [
                ("wall time", f"<= {MINUTES} min", f"{wall / 60:.1f} min", wall <= 60 * MINUTES),
                ("peak memory", "<= 4 GB", f"{memory / 1e9:.2f} GB", memory <= MEMORY),
                *(claim for out in scored for claim in reached(folder / out / "scores.json")),
            ]
        ),
    ]


def seconds(folder: Path) -> float:
    """What a stage says that it took."""
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))["seconds"]


def reached(path: Path) -> list[tuple[str, str, str, bool]]:
    """The claims that the evaluation decides."""
    scores = json.loads(path.read_text(encoding="utf-8"))
    text = scores["models"]["base"]["compression"]["all"]
    bits, xz = text["bits_per_byte"], text["xz"]
    on_text = "bits per byte of the base on held-out text"
    return [
        (on_text, f"< {xz:.3f} (xz)", f"{bits:.3f}", bits < xz),
        *(gain(name, scores["differences"][name]["all"]) for name in GAINS),
    ]


def gain(name: str, found: dict[str, float]) -> tuple[str, str, str, bool]:
    """The claim of one paired difference."""
    least, above = GAINS[name]
    points, low, high = (100 * found[key] for key in ("value", "low", "high"))
    return (
        f"accuracy, {name}, {found['n']} questions",
        f">= {least:+d} points{', the interval above 0' if above else ''}",
        f"{points:+.1f} ({low:+.1f} to {high:+.1f})",
        points >= least and (low > 0 or not above),
    )


if __name__ == "__main__":
    main()
