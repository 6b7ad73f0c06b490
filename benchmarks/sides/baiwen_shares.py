"""A side: where the time of Baiwen's training step goes, by the profiler's own count.

Every operation's own seconds (those of what it calls left out) go to the first group below that
names it or something it was called from; what Python itself takes is "rest".
"""

import json
import sys
from typing import Any

from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from baiwen.train.meter import steady
from benchmarks.sides.baiwen_step import batches, place, trainer
from benchmarks.turns import Turn

# Words of the names of operations, of the autograd functions of `baiwen.model` and `baiwen.train`.
GROUPS = {
    "attention": ("_Flash", "scaled_dot_product"),
    "matmul": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "head and loss without matmul": ("_HeadLoss",),
    "norm, rotation, SwiGLU": ("_Norm", "_Rotation", "_SwiGLU", "_FeedForward", "aten::mul"),
    "optimizer and clipping": ("Optimizer.", "_foreach", "_fused_adam", "clip_grad"),
}
STEP = "step"


def main(settings: dict[str, Any]) -> None:
    """Some profiled steps a turn: seconds by group."""
    with place(settings) as world, steady():
        step = trainer(world)
        draw = batches(settings)
        step(draw())  # the first one makes the optimizer's state
        turn = Turn()
        while True:
            turn.wait()
            with profile(activities=[ProfilerActivity.CPU]) as profiled:
                for _ in range(settings["profiled"]):
                    with record_function(STEP):
                        step(draw())
            turn.figures = {"seconds": seconds(profiled.events())}


def seconds(events: list[FunctionEvent]) -> dict[str, float]:
    """Seconds by group."""
    spent = dict.fromkeys([*GROUPS, "rest"], 0.0)
    for event in events:
        names = lineage(event)
        if STEP in names:
            spent[group(names)] += event.self_cpu_time_total / 1e6
    return spent


def lineage(event: FunctionEvent | None) -> list[str]:
    """The names of an operation and of all that it was called from."""
    names = []
    while event is not None:
        names.append(event.name)
        event = event.cpu_parent
    return names


def group(names: list[str]) -> str:
    """The first group of which a word is in one of the names."""
    for told, words in GROUPS.items():
        if any(word in name for name in names for word in words):
            return told
    return "rest"


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
