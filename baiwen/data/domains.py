"""The step `domain`: what a classifier takes a document for becomes its domain, where it is sure.

    steps = ["classify", "domain", "mixture"]
    [domain]
    least = 0.6

The report assigns domains by a model and balances the mixture by them (section 3.1).
"""

from functools import partial
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from baiwen.config import Knobs
from baiwen.data.document import CODE
from baiwen.data.pipeline.step import Map


class Assign(Knobs):
    """When a label becomes the domain."""

    step: str = "classify"  # that found the label
    least: Annotated[float, Field(ge=0, le=1)] = 0.5  # its probability; not reported
    fixed: tuple[str, ...] = (CODE,)  # domains that stay as they are


def steps(knobs: Assign) -> tuple[Map]:
    """The step."""
    reads = ("domain", f"{knobs.step}.label", f"{knobs.step}.probability")
    return (Map("domain", partial(assigned, knobs=knobs), reads),)


def assigned(table: pa.Table, knobs: Assign) -> pa.Table:
    """The `domain` that documents have from here on; null: as it was."""
    sure = pc.greater_equal(table[f"{knobs.step}.probability"], knobs.least)
    free = pc.invert(pc.is_in(table["domain"], pa.array(knobs.fixed, pa.string())))
    label = pc.if_else(pc.and_(sure, free), table[f"{knobs.step}.label"], None)
    return pa.table({"domain": label})
