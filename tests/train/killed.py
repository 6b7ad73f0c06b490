"""A run in one folder, again and again killed and started anew, beside one that is left alone.

    python tests/train/killed.py FOLDER KILLS STEPS

Every trial is a fork of this process, which has imported torch and run nothing, so that a start
costs milliseconds. Prints how often the run was killed before it ended.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import tiny


def start(out, steps):
    """Fork a child that trains in `out`; its process id, as soon as it has logged something."""
    log = out.with_suffix(".log")
    log.touch()
    before = log.stat().st_size
    child = os.fork()
    if child:
        while log.stat().st_size == before:
            time.sleep(0.001)
        return child
    sys.stderr = open(log, "a", buffering=1)  # noqa: SIM115
    tiny.run(out, steps=steps, save_every=3)
    os._exit(0)


def killed(out, steps, seconds):
    """Start the run and kill it `seconds` after its first step; whether it was still at work."""
    child = start(out, steps)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def finished(out, steps):
    """Start the run and wait for its end; the seconds that its steps took."""
    child, began = start(out, steps), time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return time.monotonic() - began


if __name__ == "__main__":
    folder, kills, steps = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    whole = finished(folder / "whole", steps)
    rng, hits = random.Random(0), 0
    while hits < kills and killed(folder / "killed", steps, rng.uniform(0.0, 0.3) * whole):
        hits += 1
    finished(folder / "killed", steps)
    print(hits)
