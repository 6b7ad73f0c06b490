"""The data stage, disturbed: killed at random moments, run twice, on other engines; the same bytes?

    python -m benchmarks.sides.data_same --kills 50 --engines daft ray

prints a line of JSON: of how many disturbed runs, how many ended in the bytes of the undisturbed
one. Its corpus is made here; a run is a process forked from this one, so that fifty take a minute.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from baiwen import config, files
from baiwen.data import filters
from baiwen.stages import data

WORDS = ["the", "of", "and", "to", "in", "is", "was", "that", "balen", "goru", "limka", "denmo"]
OWN = ("run.json", "recipe.json", "manifest.json", ".lock")  # that say how and where a run went


def write_corpus(folder: Path, files_: int = 4, documents: int = 12) -> Path:
    """A corpus of a few files of two domains, with copies among them; the folder."""
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.choice([9, 40]))) for _ in range(files_ * documents)]
    for name in range(files_):
        with files.jsonl_writer(folder / f"{name}.jsonl") as put:
            for row in range(documents):
                place = name * documents + row
                text = texts[place % (len(texts) - 5)]
                put({"id": f"d{place}", "text": text, "domain": ["web", "code"][row % 2]})
    return folder


def settings(corpus: Path, out: Path, **knobs: object) -> data.Config:
    """A run over that corpus: a part a file, in this process."""
    raw = {
        "out": str(out),
        "corpus": str(corpus),
        "steps": ["heuristics", "exact", "near"],
        "filters": {rule.__name__: False for rule in filters.ALL} | {"word_count": {"least": 20}},
        "reading": {"chunk_bytes": 3000},
        "heldout_share": 0.2,
        "workers": 1,
        **knobs,
    }
    return config.parse(raw, data.Config, "data.toml")


def run(settings: data.Config) -> None:
    """Run the stage, or go on with it."""
    with files.run_folder(settings.out, config.resolved(settings)) as folder:
        if not folder.done:
            data.run(settings, folder)


def content(out: Path) -> dict[str, str]:
    """A digest of every file that a run made, but for its own records and what is unfinished."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in OWN and path.parent.name != "logs"
    }


def forked(work: Callable[[], object], after: float | None = None) -> int | None:
    """Do work in a fork of this process, killed after so many seconds; its code, None if killed."""
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def kills(corpus: Path, folder: Path, times: int, seed: int = 0) -> int:
    """How many of so many runs, each killed at a random moment and gone on with, end the same."""
    whole = folder / "undisturbed"
    began = time.perf_counter()
    assert forked(lambda: run(settings(corpus, whole))) == 0
    seconds, expected, rng = time.perf_counter() - began, content(whole), random.Random(seed)
    same = 0
    for number in range(times):
        out = folder / f"killed-{number}"
        forked(lambda out=out: run(settings(corpus, out)), after=rng.uniform(0, seconds))
        ended = forked(lambda out=out: run(settings(corpus, out)))
        same += ended == 0 and content(out) == expected
    return same


def engines(corpus: Path, folder: Path, names: list[str], workers: int = 2) -> dict[str, bool]:
    """Whether each engine ends in the bytes of one process; each in a process of its own."""
    whole = folder / "one"
    run(settings(corpus, whole))
    return {name: _ran(name, corpus, folder / name, workers) == content(whole) for name in names}


def _ran(engine: str, corpus: Path, out: Path, workers: int) -> dict[str, str]:
    command = [sys.executable, "-m", __spec__.name, "--one", engine, str(corpus), str(out)]
    told = subprocess.run([*command, str(workers)], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr[-3000:]
    return content(out)


def main() -> None:
    """Print what was the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--engines", nargs="*", default=["local", "daft", "ray"])
    parser.add_argument("--one", nargs=4, help="run one engine: its name, corpus, out, workers")
    asked = parser.parse_args()
    if asked.one:
        engine, corpus, out, workers = asked.one
        run(settings(Path(corpus), Path(out), engine=engine, workers=int(workers)))
        return
    with tempfile.TemporaryDirectory() as place:
        corpus = write_corpus(Path(place) / "corpus")
        same = kills(corpus, Path(place) / "kills", asked.kills)
        by_engine = engines(corpus, Path(place) / "engines", asked.engines)
    print(json.dumps({"kills": asked.kills, "same": same, "engines": by_engine}))


if __name__ == "__main__":
    main()
