"""The sections of the report, in order: what came out first, then how it was made.

    sections([read("data", Path("runs/tiny/data")), read("sft", Path("runs/tiny/sft")), ...])

A section whose files are absent is left out. Every table and figure names the files that its
numbers come from.
"""

from collections.abc import Sequence

from baiwen.report import (
    alignment,
    data,
    examples,
    experts,
    judged,
    long,
    making,
    results,
    scaling,
)
from baiwen.report.page import Section
from baiwen.report.runs import Run

ALL = {
    "Results": results.results,
    "Accuracy by task": results.accuracy,
    "Bits per byte": results.compression,
    "Long context": long.long_context,
    "Answers": results.answers,
    "Preference pairs": alignment.preferences,
    "Reward model": alignment.reward_models,
    "Reinforcement learning": alignment.reinforcement,
    "Mixture of experts": experts.experts,
    "Scaling laws": scaling.scaling,
    "Training": making.training,
    "Data": data.data,
    "Classifiers, recall, synthetic documents": judged.judged,
    "Documents kept and dropped": examples.examples,
    "Stages": making.stages,
    "Recipes": making.recipes,
}


def sections(runs: Sequence[Run]) -> list[Section]:
    """All sections that the folders have something for."""
    found = [Section(title, list(section(runs))) for title, section in ALL.items()]
    return [section for section in found if section.blocks]
