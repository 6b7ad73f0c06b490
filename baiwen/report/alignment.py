"""The sections of what follows SFT: preference pairs, reward model, reinforcement learning.

    for block in reinforcement([read("grpo", Path("runs/tiny/grpo"))]): ...

Each yields nothing where no run folder has what it shows. A run is known by its files: pairs by
`pairs.json`, a reward model by the calibration in its `scores.json`, RL by `rollouts.jsonl`.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from baiwen.report import figures
from baiwen.report.page import Block, Figure, Sample, Samples, Table, Text
from baiwen.report.runs import Run
from baiwen.report.words import between, count, cut, percent, told

ROLLOUTS = "rollouts.jsonl"
ANSWERS = 4  # of a group that are shown
# Figures of a step of RL, by the panel that they share.
PANELS = {
    "reward, and gain over what was measured before": ("reward", "gain"),
    "tokens of an answer": ("answer_tokens",),
    "entropy, nats a token": ("entropy",),
    "KL to the reference, nats a token": ("kl",),
    "trainer against sampler, nats a token": ("mismatch",),
    "groups and answers that teach nothing": ("zero_variance", "truncated", "undecided"),
}


def preferences(runs: Sequence[Run]) -> Iterator[Block]:
    """Pairs by kind of prompt, why other prompts gave none, and how the policy took them up."""
    for run in runs:
        found = run.table("pairs.json")
        if "without" in found:
            yield from _pairs(run, found)
    for run in runs:
        if run.metrics and "margin" in run.metrics[-1] and "reward_chosen" in run.metrics[-1]:
            panels = {
                "implicit reward": ("reward_chosen", "reward_rejected", "margin"),
                "share of pairs in order": ("accuracy",),
            }
            yield _panels(run, panels, f"preferences-{run.name}.svg")


def reward_models(runs: Sequence[Run]) -> Iterator[Block]:
    """How well a reward model orders answers that it has not learned from."""
    for run in runs:
        scores = run.table("scores.json")
        if "calibration" not in scores:
            continue
        source = run.source("scores.json")
        rows = [["all", *_estimate(scores["accuracy"])]]
        for part, label in (("by_kind", ""), ("by_source", "source: ")):
            rows += [[label + name, *_estimate(found)] for name, found in scores[part].items()]
        rows.append(["by length alone: the longer one", *_estimate(scores["longer"])])
        if "best" in scores:
            for name, which in (("chosen", "highest reward"), ("drawn", "drawn at random")):
                rows.append([f"best of all answers: {which}", *_estimate(scores["best"][name])])
        head = [f"{run.name}: the better answer preferred", "prompts", "accuracy"]
        yield Table([*head, "95 % interval"], rows, source)
        yield _calibration(run, scores["calibration"], source)
        margin = scores["margin"]
        marks = ", ".join(
            f"{mark} {margin[mark]:.2f}" for mark in ("p5", "p25", "p50", "p75", "p95")
        )
        yield Text(
            f"Margin of the better answer's reward over {count(scores['pairs'])} held-out pairs: "
            f"mean {margin['mean']:.2f}, deviation {margin['deviation']:.2f}, {marks}."
        )


def reinforcement(runs: Sequence[Run]) -> Iterator[Block]:
    """Curves of every run of RL, its alarms, and groups of answers with their rewards."""
    for run in runs:
        groups = _groups(run)
        if not groups:
            continue
        yield _panels(run, PANELS, f"rl-{run.name}.svg")
        yield from _alarms(run)
        yield Text(
            f"Of {run.name}: a group of the first step and one of the last, whose answers differ "
            "in reward; what an answer is pushed by is its advantage."
        )
        yield Samples([_sample(row) for group in groups for row in group], run.source(ROLLOUTS))


def _pairs(run: Run, found: dict[str, Any]) -> Iterator[Block]:
    source = run.source("pairs.json")
    answers = found["answers"]
    every = {**found, "right": answers["right"] / max(sum(answers.values()), 1)}
    counted = "prompts", "prompts with pairs", "pairs"
    rows = [
        [kind, percent(one["right"]), *(count(one[key]) for key in counted)]
        for kind, one in {"all": every, **found["kinds"]}.items()
    ]
    yield Table(["kind of prompt", "answers right", *counted], rows, source)
    why = [[reason, count(number)] for reason, number in found["without"].items() if number]
    if why:
        yield Table(["prompts that gave no pair", ""], why, source)
    length = found["length"]
    yield Text(
        f"The chosen answer has {length['chosen']:.1f} tokens, the rejected one "
        f"{length['rejected']:.1f} in the mean; the chosen one is the longer in "
        f"{percent(length['chosen longer'])} of the pairs, the shorter in "
        f"{percent(length['chosen shorter'])}."
    )


def _estimate(found: dict[str, Any]) -> list[str]:
    return [count(found["n"]), percent(found["value"]), between(found, percent)]


def _calibration(run: Run, found: dict[str, Any], source: str) -> Figure:
    alt = (
        f"How often {run.name} is right, by how sure it is of the pair; a calibrated model lies on "
        f"the diagonal. Mean distance: {percent(found['error'])}"
    )
    points = [(one["predicted"], one["observed"], one["n"]) for one in found["bins"]]
    return Figure(f"calibration-{run.name}.svg", figures.calibration(points), alt, source)


def _panels(run: Run, panels: dict[str, tuple[str, ...]], name: str) -> Figure:
    """The panels of which the run has a figure, over its steps."""
    drawn = {
        title: [
            figures.Curve(key.replace("_", " "), *columns)
            for key in keys
            if any(columns := run.curve(key))
        ]
        for title, keys in panels.items()
    }
    drawn = {title: curves for title, curves in drawn.items() if curves}
    alt = f"{run.name} over {count(run.metrics[-1]['step'])} steps: {', '.join(drawn)}"
    return Figure(name, figures.panels(drawn), alt, run.source("metrics.jsonl"))


def _alarms(run: Run) -> Iterator[Block]:
    rows = []
    for name, one in run.table("alarms.json").items():
        value = "not finite" if one["value"] is None else f"{one['value']:.3g}"
        steps = (count(one[key]) for key in ("first", "last", "steps"))
        rows.append([name, *steps, value, f"{one['bound']:.3g}"])
    if rows:
        head = ["alarm", "first step", "last step", "steps", "last value", "bound"]
        yield Table(head, rows, run.source("alarms.json"))


def _groups(run: Run) -> list[list[dict[str, Any]]]:
    """The first group of the first step and of the last whose answers differ in reward."""
    by_step: dict[int, list[dict[str, Any]]] = {}
    for (step, _), rows in groupby(run.rows(ROLLOUTS), key=itemgetter("step", "prompt")):
        group = list(rows)
        if step not in by_step and len({row["reward"] for row in group}) > 1:
            by_step[step] = sorted(group, key=lambda row: -(row["reward"] or 0.0))
    steps = sorted({min(by_step), max(by_step)}) if by_step else []
    return [_spread(by_step[step]) for step in steps]


def _spread(group: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best and the worst answers of a group."""
    if len(group) <= ANSWERS:
        return list(group)
    return [*group[: ANSWERS // 2], *group[-ANSWERS // 2 :]]


def _sample(row: dict[str, Any]) -> Sample:
    parts = {"asked": row["asked"], "answered": row["answer"], "truth": told(row["truth"])}
    reward = "none" if row["reward"] is None else f"{row['reward']:.2f}"
    advantage = "left out" if row["advantage"] is None else f"advantage {row['advantage']:+.2f}"
    parts["reward"] = f"{reward}, {advantage}"
    if row["score"] is not None:
        parts["reward"] += f", reward model {row['score']:+.2f}"
    title = f"step {row['step']}, {row['kind']}"
    return Sample(title, row["verdict"], [(label, cut(text)) for label, text in parts.items()])
