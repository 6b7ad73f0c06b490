"""The report: one HTML page with everything in it, and the same in Markdown.

Reads run folders, as far as they are there; writes

    report.html    figures and styles inside, nothing loaded from elsewhere, no script
    report.md      the same, with its figures beside it
    *.svg          the figures

The pages say when the stages ran, not when they were written: the same folders give the same bytes.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from baiwen import files, log
from baiwen.config import Knobs
from baiwen.errors import UserError
from baiwen.report import page
from baiwen.report.runs import Run
from baiwen.report.sections import sections

Name = Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]  # part of a file's name


class Config(Knobs):
    """What to report on."""

    out: Path  # the run folder
    title: str = "Baiwen: report of a run"  # of the page
    runs: dict[Name, Path]  # run folders by their name in the report, in the order of stages


def reads(config: Config) -> dict[str, list[Path]]:
    """The run folders; one that is not there is left out of the report."""
    return {f"runs.{name}": [path] for name, path in config.runs.items()}


def run(config: Config, folder: files.RunFolder) -> None:
    """Write both pages."""
    found = [Run(name, path) for name, path in config.runs.items() if path.is_dir()]
    if not found:
        raise UserError(f"none of the runs is there: {', '.join(map(str, config.runs.values()))}")
    report = page.Page(config.title, sections(found))
    for name, svg in page.figures(report).items():
        files.write(folder.path / name, svg)
    files.write(folder.path / "report.md", page.markdown(report))
    files.write(folder.path / "report.html", page.html(report))
    log.say(f"the report of {len(found)} runs is {folder.path / 'report.html'}")
