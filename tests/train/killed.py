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
    """Fork a child that trains in `out`; its process id."""
    child = os.fork()
    if child:
        return child
    sys.stderr = open(out.with_suffix(".log"), "a")  # noqa: SIM115
    tiny.run(out, steps=steps, save_every=3)
    os._exit(0)


def killed(out, steps, seconds):
    """Start the run and kill it after `seconds`; whether it was still at work."""
    child = start(out, steps)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def finished(out, steps):
    """Start the run and wait for its end."""
    return os.waitstatus_to_exitcode(os.waitpid(start(out, steps), 0)[1]) == 0


if __name__ == "__main__":
    folder, kills, steps = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    began = time.monotonic()
    assert finished(folder / "whole", steps)
    whole = time.monotonic() - began
    rng, hits = random.Random(0), 0
    while hits < kills and killed(folder / "killed", steps, rng.uniform(0.1, 0.5) * whole):
        hits += 1
    assert finished(folder / "killed", steps)
    print(hits)
