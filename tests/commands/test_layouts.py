"""`baiwen plan --gpus`: what a run takes on a cluster, as it is printed."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from baiwen import cli
from baiwen.stages import pretrain

ROOT = Path(__file__).parents[2]
OWN = "memory=79.6,flops=989e12,hbm=3350,link=450,network=50,node={}"
TABLE = "baiwen plan --size all --gpus 8,64,512 --gpu h100,h200"


def plan(capsys, *words):
    code = cli.main(["plan", *words])
    found = capsys.readouterr()
    return code, found.out + found.err


def test_the_table_of_the_page_is_what_is_printed(capsys):
    page = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
    _, _, block = page.partition(f"$ {TABLE}\n")
    _, printed = plan(capsys, *TABLE.split()[2:])
    lines = [line.rstrip() for line in printed.splitlines()]
    assert block.partition("\n```")[0].splitlines() == lines


def test_the_lines_for_the_recipe_are_knobs_of_the_stage(capsys):
    _, told = plan(capsys, "--size", "72b", "--gpus", "64", "--gpu", "h100")
    lines = tomllib.loads(told.partition("for the recipe:\n")[2])
    knobs = {"out": "a", "shards": "b", "tokenizer": "c", "size": "72b", "steps": 1}
    taken = pretrain.Config(**knobs, tokens_per_step=2**22, **lines)
    assert taken.parallel.activation_checkpointing


def test_a_recipe_is_planned_with_its_own_rows_and_steps(capsys):
    recipe = str(ROOT / "recipes/qwen2.5/open/1-pretrain.toml")
    _, told = plan(capsys, recipe, "tokens_per_step=1048576", "--gpus", "8", "--gpu", "h200")
    assert "rows of 4,096 tokens, 1,048,576 a step" in told
    assert "days" in told


LAWFUL = """
stage = "pretrain"
out = "out"
shards = "shards"
tokenizer = "tokenizer"
size = "0.5b"
tokens = 10_000_000_000
tokens_per_step = "law"
law = "steplaw"
"""


@pytest.mark.parametrize(("gpus", "step"), [(8, 327_680), (64, 524_288)])
def test_a_step_by_law_is_the_nearest_that_all_gpus_divide(gpus, step, tmp_path, capsys):
    """The law says 297,460; a micro-batch of each GPU has 8,192."""
    (tmp_path / "law.toml").write_text(LAWFUL)
    _, told = plan(capsys, str(tmp_path / "law.toml"), "--gpus", str(gpus), "--gpu", "h200")
    assert f"{step:,} a step" in told
    lines = tomllib.loads(told.partition("for the recipe:\n")[2])
    assert lines["tokens_per_step"] == step


def test_a_step_that_no_layout_divides_is_refused(tmp_path, capsys):
    (tmp_path / "law.toml").write_text(LAWFUL.replace('"law"', "294_912").replace("law =", "#"))
    code, told = plan(capsys, str(tmp_path / "law.toml"), "--gpus", "64", "--gpu", "h200")
    assert code == 2 and "multiple of 262,144" in told


def test_where_nothing_fits_it_says_how_many_gpus_would_do(capsys):
    _, told = plan(capsys, "--size", "72b", "--gpus", "8", "--gpu", "h100")
    assert "no layout fits; 16 are enough" in told
    assert "does not fit" in told


def test_a_gpu_of_ones_own_is_like_one_of_the_table(capsys):
    _, ours = plan(capsys, "--size", "7b", "--gpus", "16", "--gpu", OWN.format(8))
    _, theirs = plan(capsys, "--size", "7b", "--gpus", "16", "--gpu", "h100")
    assert ours.splitlines()[1:] == theirs.splitlines()[1:]


@pytest.mark.parametrize(
    "words, told",
    [
        (["--gpus", "8"], "a cluster is --gpus N and --gpu KIND"),
        (["--size", "7b", "--gpus", "8", "--gpu", "h1000"], "Did you mean h100?"),
        (["--gpus", "8", "--gpu", "h100", "--size", "72"], "Did you mean 72b?"),
        (["--gpus", "0", "--gpu", "h100", "--size", "7b"], "'0' is not a number of GPUs"),
        (["--gpus", "²", "--gpu", "h100", "--size", "7b"], "'²' is not a number of GPUs"),
        (["--gpus", "65537", "--gpu", "h100", "--size", "7b"], "'65537' is not a number of GPUs"),
        (["--gpus", "8", "--gpu", "memory=80", "--size", "7b"], "unknown or missing"),
        (["--gpus", "8", "--gpu", OWN.format("8.5"), "--size", "7b"], "node = 8.5 is not a number"),
        (["--gpus", "8", "--gpu", OWN.format("inf"), "--size", "7b"], "node = 'inf' is not a"),
        (["--gpus", "8", "--gpu", "h100"], "name a recipe, or a size"),
        (["--gpus", "8", "--gpu", "h100", "--size", "7b", "--mfu", "40"], "share of the peak"),
        ([], "name a recipe or a folder"),
    ],
)
def test_mistakes_are_told(capsys, words, told):
    code, printed = plan(capsys, *words)
    assert code == 2
    assert told in printed


def test_a_cluster_is_planned_without_torch():
    script = (
        "import sys; from baiwen import cli;"
        "cli.main(['plan', '--size', '7b', '--gpus', '8', '--gpu', 'h100']);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, capture_output=True)
