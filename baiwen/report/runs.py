"""What a run folder holds, read as far as it is there.

    run = read("sft", Path("runs/tiny/sft"))
    run.stage, run.seconds, run.metrics[-1]["loss"], run.table("scores.json")

A report is also wanted of a run that is half done, so an absent file is empty and never an error.
"""

from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from baiwen import files
from baiwen.errors import UserError
from baiwen.files.manifest import MANIFEST


@dataclass(frozen=True)
class Run:
    """A stage's run folder under the name that the report gives it."""

    name: str
    folder: Path

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The resolved recipe."""
        return self.table("recipe.json")

    @cached_property
    def record(self) -> dict[str, Any]:
        """Command, versions, host, start, end, seconds of work."""
        return self.table("run.json")

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """A row a step, where the stage trains."""
        return list(self.rows("metrics.jsonl"))

    @property
    def stage(self) -> str:
        """The stage that ran here."""
        return str(self.recipe.get("stage", self.name))

    @property
    def seconds(self) -> float:
        """Of work, over all the sessions that it took."""
        return float(self.record.get("seconds") or 0.0)

    def table(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder; empty where there is none."""
        path = self.folder / name
        return dict(files.read_json(path)) if path.is_file() else {}

    def rows(self, name: str) -> Iterator[dict[str, Any]]:
        """The rows of a JSONL file of the folder; none where there is none.

        Of an unfinished run those up to a row that is being written, or that a kill has torn.
        """
        path = self.folder / name
        finished = (self.folder / MANIFEST).is_file()
        with nullcontext() if finished else suppress(UserError):
            yield from files.read_jsonl(path) if path.is_file() else ()

    def curve(self, key: str) -> tuple[list[int], list[float]]:
        """Steps and values of a column of the metrics, without the rows that have no number."""
        rows = [row for row in self.metrics if row.get(key) is not None]
        return [row["step"] for row in rows], [row[key] for row in rows]

    def source(self, *names: str) -> str:
        """How the report names files of this folder."""
        return ", ".join((self.folder / name).as_posix() for name in names)
