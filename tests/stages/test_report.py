"""The report stage: its files, and what it refuses."""

import pytest

from baiwen import config as recipes
from baiwen import files
from baiwen.errors import UserError
from baiwen.stages import report


def made(out, runs):
    config = report.Config(out=out, runs=runs)
    with files.run_folder(out, recipes.resolved(config)) as folder:
        report.run(config, folder)
    return out


def test_both_pages_and_the_figures_lie_in_the_folder(tmp_path):
    sft = tmp_path / "sft"
    sft.mkdir()
    (sft / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5, "lr": 0.1, "tokens": 10}\n')
    out = made(tmp_path / "report", {"sft": sft, "later": tmp_path / "later"})
    assert files.complete(out)
    assert (out / "report.html").read_text().startswith("<!doctype html>")
    assert "![" in (out / "report.md").read_text()
    assert (out / "loss-sft.svg").is_file()


def test_no_run_at_all_is_an_error(tmp_path):
    with pytest.raises(UserError, match="none of the runs is there"):
        made(tmp_path / "report", {"sft": tmp_path / "sft"})
