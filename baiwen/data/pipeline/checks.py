"""What a run does not pass over in silence: documents that failed, and sources that are gone.

check_failed(folder, made, most=0.01)         # made: the manifests of all steps
check_kept(counted, ["corpus", "tasks"])
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import pyarrow.compute as pc

from baiwen.data.pipeline.card import Manifests, dropped, funnel
from baiwen.data.pipeline.census import Census
from baiwen.data.pipeline.ending import KEPT, origin
from baiwen.data.pipeline.part import Part
from baiwen.data.pipeline.quarantine import ERROR, MESSAGE
from baiwen.data.pipeline.reading import CORPUS, FLAW
from baiwen.data.pipeline.sidecar import DOCUMENTS, READ, Manifest
from baiwen.data.split import RULE as HELD_OUT
from baiwen.errors import UserError

SHOWN = 3  # documents that an error names


def check_sources(folder: Path, made: Manifests, sources: Sequence[str]) -> None:
    """Stop with a `UserError` if of a source not one document could be read."""
    for source in sources:
        own = [number for number, one in enumerate(made[DOCUMENTS]) if source in one.sources]
        if any(made[READ][number].after["documents"] for number in own):
            continue
        flaws = list(islice(_failures(folder, READ, made[READ], own), SHOWN))
        told = "can be read:" if flaws else "is there: its files are empty. Give others."
        raise UserError(
            f"not one document of {_named(source)} {told}" + "".join(f"\n  {one}" for one in flaws)
        )


def check_failed(folder: Path, made: Manifests, most: float) -> None:
    """Stop with a `UserError` if more than the share `most` could not be read or worked on."""
    total = funnel(READ, made[READ])["in"]
    failed = sum(
        tally["documents"]
        for step, parts in made.items()
        for rule, tally in dropped(parts).items()
        if step == READ or rule.startswith(ERROR)
    )
    if failed > most * total:
        every = (_failures(folder, step, parts, range(len(parts))) for step, parts in made.items())
        examples = islice(chain.from_iterable(every), SHOWN)
        raise UserError(
            f"{failed:,} of {total:,} documents cannot be read, more than max_unreadable = {most}:"
            + "".join(f"\n  {told}" for told in examples)
        )


def check_kept(counted: Census, sources: Sequence[str]) -> None:
    """Stop with a `UserError` if nothing is left of a source, or to train on."""
    for source in sources:
        fates = counted.fates.get(source, {})
        if not fates.get(KEPT) and not fates.get(HELD_OUT):
            most_first = sorted(fates.items(), key=lambda fate: (-fate[1], fate[0]))
            told = ", ".join(f"{rule} {count:,}" for rule, count in most_first)
            raise UserError(
                f"not one document of {_named(source)} is left: {told}. Loosen these rules "
                "([filters] NAME = false), leave out their step, or give other text."
            )
    if not counted.kept:
        held = sum(tally["documents"] for tally in counted.heldout.values())
        raise UserError(
            f"not one document is left to train on: {held:,} held out. Give more text, or lower "
            "heldout_share."
        )


def _named(source: str) -> str:
    return "the corpus" if source == CORPUS else source


def _failures(
    folder: Path, step: str, parts: Sequence[Manifest], numbers: Iterable[int]
) -> Iterator[str]:
    """Where documents of these parts lie that failed at a step, and why."""
    column = FLAW if step == READ else MESSAGE
    for number in numbers:
        if column not in parts[number].columns:
            continue
        part = Part(folder, number, list(dict.fromkeys([READ, step])))
        reasons = part.column(f"{step}.{column}")
        rows = pc.is_valid(reasons)
        metas = part.column("meta").filter(rows).to_pylist()
        for meta, reason in zip(metas, reasons.filter(rows).to_pylist(), strict=True):
            yield f"{origin(json.loads(meta))}: {reason}"
