"""Every recipe that is shipped, and every override that the README shows."""

import argparse
import re
from itertools import pairwise
from pathlib import Path

import pytest

from baiwen import config, stages
from baiwen.commands import plan

ROOT = Path(__file__).parents[1]
FOLDERS = sorted({path.parent for path in (ROOT / "recipes").rglob("*.toml")})
FILES = sorted((ROOT / "recipes").rglob("*.toml"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

MINE = "mine"  # what a user brings to recipes/data

every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_there_are_recipes():
    assert FILES


@every_folder
def test_every_recipe_parses(folder):
    assert len(stages.load(folder)) == len(list(folder.glob("*.toml")))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_recipe_is_read_aloud(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    assert text.startswith("#"), "the first line says what the recipe does"


@every_folder
def test_a_folder_runs_in_order(folder):
    """What a recipe reads out of `runs` lies in the run folder of an earlier one."""
    if folder not in (ROOT / "recipes" / name for name in ("tiny", "long", "data", "moe")):
        pytest.skip("the others start from what was made elsewhere")
    recipes = stages.load(folder)
    before = stages.load(ROOT / "recipes" / "tiny") if folder.name == "moe" else []
    for index, recipe in enumerate(recipes):
        earlier = [one.out for one in [*before, *recipes[:index]]]
        for key, path in config.inputs(recipe.config):
            made = any(path.is_relative_to(out) for out in earlier)
            assert made or path.is_relative_to(MINE), f"{recipe.path.name}: {key}"


def test_the_data_recipes_can_be_planned_before_anything_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipes = stages.load(ROOT / "recipes" / "data")
    alone = {"gpus": None, "gpu": None, "size": None, "mfu": None}
    plan.main(argparse.Namespace(recipe=ROOT / "recipes" / "data", overrides=[], **alone))
    told = capsys.readouterr().out
    assert all(f"{recipe.path.name}: {recipe.stage}" in told for recipe in recipes)
    assert "mine/corpus" in told


PUBLISHED = {  # rows and rotary bases of each stage (TR 3.3; 1M report, section 3; spec 5)
    "open": {4096: 1e4, 32768: 1e6},
    "turbo": {4096: 1e4, 32768: 1e7, 65536: 1e7, 131072: 1e7, 262144: 1e7},
    "1m": {4096: 1e4, 32768: 1e6, 65536: 1e6, 131072: 5e6, 262144: 1e7},
}


@pytest.mark.parametrize("line", PUBLISHED)
def test_the_published_lines_grow_as_the_report_says(line):
    recipes = stages.load(ROOT / "recipes" / "qwen2.5" / line)
    trained = [recipe.config for recipe in recipes if recipe.stage == "pretrain"]
    grown = {stage.sequence_length: stage.rope_theta for stage in trained}
    assert grown == PUBLISHED[line]
    for before, after in pairwise(trained):
        assert after.start == before.out
        assert after.mixture.long_share == (0.75 if line == "1m" else 0.4)
    taught = [recipe.config for recipe in recipes if recipe.stage == "sft"]
    assert taught[0].start == trained[-1].out
    assert [stage.sequence_length for stage in taught] == [32768, 262144][: len(taught)]


def test_the_1m_line_ends_with_dual_chunk_attention():
    recipes = stages.load(ROOT / "recipes" / "qwen2.5" / "1m")
    *earlier, last = [recipe.config for recipe in recipes if recipe.stage == "pretrain"]
    assert (last.dual_chunk.chunk_size, last.dual_chunk.local_size) == (262144, 8192)
    assert all(stage.dual_chunk is None for stage in earlier)


@pytest.mark.parametrize("line", PUBLISHED)
def test_a_size_goes_to_every_stage_of_a_line(line):
    recipes = stages.load(ROOT / "recipes" / "qwen2.5" / line, ["size=0.5b"])
    assert {recipe.config.size for recipe in recipes if recipe.stage == "pretrain"} == {"0.5b"}


@pytest.mark.parametrize("line", PUBLISHED)
def test_what_the_published_lines_read_is_written_by_their_data(line):
    folder = ROOT / "recipes" / "qwen2.5"
    made = [recipe.out for name in ("data", line) for recipe in stages.load(folder / name)]
    for recipe in stages.load(folder / line):
        for key, path in config.inputs(recipe.config):
            known = any(path.is_relative_to(out) for out in made)
            assert known or path.name == "conversations.jsonl", f"{recipe.path.name}: {key}"
    names = {
        recipe.config.name
        for recipe in stages.load(folder / "data")
        if recipe.stage == "synthesize"
    }
    for recipe in stages.load(folder / line):
        weights = getattr(recipe.config, "mixture", None) and recipe.config.mixture.weights
        assert set(weights or ()) <= names


def test_every_override_in_the_documents_exists():
    shown = [
        (document.name, recipe, assignment)
        for document in DOCUMENTS
        if document.exists()
        for recipe, assignments in re.findall(
            r"baiwen (?:run|plan) (recipes/[\w./-]+)((?: [\w.]+=\S+)*)",
            document.read_text(encoding="utf-8"),
        )
        for assignment in [[], *[[each] for each in assignments.split()]]
    ]
    for name, recipe, assignment in shown:
        assert stages.load(ROOT / recipe, assignment), f"{name} shows {recipe} {assignment}"
    assert shown, "the README shows how a recipe is run"
