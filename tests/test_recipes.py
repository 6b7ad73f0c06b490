"""Every recipe that is shipped, and every override that the README shows."""

import re
from pathlib import Path

import pytest

from baiwen import config, stages

ROOT = Path(__file__).parents[1]
FOLDERS = sorted({path.parent for path in (ROOT / "recipes").rglob("*.toml")})
FILES = sorted((ROOT / "recipes").rglob("*.toml"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

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
    if folder.name != "tiny":
        pytest.skip("only the tiny run starts from nothing")
    recipes = stages.load(folder)
    for index, recipe in enumerate(recipes):
        earlier = [before.out for before in recipes[:index]]
        for key, path in config.inputs(recipe.config):
            assert any(path.is_relative_to(out) for out in earlier), f"{recipe.path.name}: {key}"


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
