"""Runs of GRPO small enough to repeat: in forks that die in the middle, or under torchrun.

    python tests/stages/grpo_runs.py FOLDER killed-2 3 9 14
    python -m torch.distributed.run ... tests/stages/grpo_runs.py FOLDER ranks

`FOLDER` has a model, `start`, `prompts.jsonl`, and perhaps other knobs in `knobs.json`. The first,
of two updates a rollout, leaves a run alone and kills another (kill -9) in its 3rd step of the
engine, then in its 9th after resuming, and so on, and lets it end; it prints how often it was
killed. A trial is a fork of this process, which has imported torch and run nothing.
"""

import json
import os
import signal
import sys
from pathlib import Path

from baiwen import config, stages
from baiwen.engine.engine import Engine
from baiwen.stages import grpo

KNOBS = {
    "steps": 4,
    "prompts_per_step": 4,
    "samples_per_prompt": 4,
    "max_tokens": 8,
    "refills": 1,
    "micro_tokens": 400,
    "threads": 1,
    "dtype": "float32",
    "save_dtype": "float32",
    "beta": 0.05,
    "optim": {"lr": 1e-2},
    "loop": {"save_every": 2},
}


def run(folder, out, **knobs):
    """Train into `folder / out`, resuming."""
    paths = {"out": folder / out, "start": folder / "start", "prompts": folder / "prompts.jsonl"}
    extra = folder / "knobs.json"
    given = {**KNOBS, **(json.loads(extra.read_text()) if extra.exists() else {}), **knobs}
    parsed = config.parse({**given, **paths}, grpo.Config, "a test")
    stages.run(stages.Recipe(Path("grpo.toml"), "grpo", "grpo", parsed))


def trial(folder, out, die_at=None, **knobs):
    """Run in a fork, which kills itself in its engine step `die_at`; whether it was killed."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    step, steps = Engine.step, 0

    def dying(engine):
        nonlocal steps
        steps += 1
        if steps == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(engine)

    Engine.step = dying
    run(folder, out, **knobs)
    os._exit(0)


if __name__ == "__main__":
    folder, kind, *moments = sys.argv[1:]
    folder = Path(folder)
    if kind == "ranks":
        run(folder, kind)
        run(folder, "tensor", parallel={"tensor": 2})
    else:
        updates = {"steps_per_rollout": int(kind.removeprefix("killed-"))}
        trial(folder, "whole", **updates)
        print(sum(trial(folder, "killed", int(moment), **updates) for moment in moments))
        trial(folder, "killed", **updates)
