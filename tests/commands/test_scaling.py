import pytest

from baiwen import cli
from baiwen.commands.scaling import number
from baiwen.errors import UserError


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.5B", 1.5e9), ("300m", 3e8), ("3e10", 3e10), ("18T", 18e12), ("7", 7.0), ("5e-1B", 5e8)],
)
def test_numbers_are_read_with_their_units(text, value):
    assert number(text) == value


@pytest.mark.parametrize("text", ["", "B", "1.5X", "-3B", "0", "1.2.3M", "1e999"])
def test_what_is_no_number_is_named(text):
    with pytest.raises(UserError, match="is not a number above 0"):
        number(text)


def test_the_presets_stand_side_by_side(capsys):
    assert cli.main(["scaling", "predict", "--params", "357.9M", "--tokens", "10B"]) == 0
    told = capsys.readouterr().out
    assert "Step Law" in told and "0.00168" in told
    assert "DeepSeek" in told and "MiniCPM" in told and "Kaplan" in told and "epoch" in told
    assert "steplaw: AdamW, 2,000 steps of warm-up" in told  # each with its scope


def test_a_size_is_known_by_name_without_its_embeddings(capsys):
    assert cli.main(["scaling", "predict", "--model", "0.5b", "--tokens", "10B"]) == 0
    assert "0.00168" in capsys.readouterr().out  # the 357.9M of its 494M that are no embedding


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--tokens", "1B"], "give --tokens, and one of --params"),
        (["--params", "1B"], "give --tokens"),
        (["--model", "6b", "--tokens", "1B"], "there is no size 6b"),
        (["--active", "1B", "--tokens", "1B"], "--active needs --total"),
        (["--active", "2B", "--total", "1B", "--tokens", "1B"], "--active needs --total"),
        (["--params", "1B", "--active", "1B", "--tokens", "1B"], "one of --params"),
    ],
)
@pytest.mark.parametrize("what", ["predict", "parity"])
def test_half_a_target_is_refused(what, words, told, capsys):
    assert cli.main(["scaling", what, *words]) == 2
    assert told in capsys.readouterr().err


def test_half_a_target_is_refused_before_anything_is_fitted(runs, tmp_path, capsys):
    out = tmp_path / "laws.json"
    words = ["fit", str(runs), "--params", "1B", "--out", str(out)]
    assert cli.main(["scaling", *words]) == 2
    assert "give --tokens" in capsys.readouterr().err and not out.exists()


def test_a_budget_has_its_best_size_and_tokens(capsys):
    assert cli.main(["scaling", "predict", "--flops", "5.76e23"]) == 0
    (line,) = [one for one in capsys.readouterr().out.splitlines() if one.startswith("epoch")]
    assert "7.22e+10  1.33e+12  parameters 4.52x above" in line


def test_a_mixture_by_name_is_its_active_parameters_and_has_an_equal_dense_model(capsys):
    assert cli.main(["scaling", "predict", "--model", "a2.7b", "--tokens", "80B"]) == 0
    assert "N 2.067e+09 active of 1.369e+10 without embeddings" in capsys.readouterr().out
    assert cli.main(["scaling", "parity", "--model", "a2.7b", "--tokens", "80B"]) == 0
    told = capsys.readouterr().out
    assert (
        "arXiv 2202.01169, S-BASE                3.3e+09        1.60x  active 1.59x above" in told
    )


def test_a_dense_model_has_equal_mixtures(capsys):
    assert cli.main(["scaling", "parity", "--params", "1B", "--tokens", "20B"]) == 0
    assert capsys.readouterr().out.count("arXiv 2502.05172") == 4


@pytest.fixture
def runs(tmp_path):
    """A table of dense runs and mixtures around a known best, where an expert counts as 0.5."""
    rows = [
        (n * x, n, d, lr * 2 * n**-0.7 * d**0.3, b * 0.6 * d**0.57 / 2048, loss)
        for n in (1e8, 1e9)
        for x in (1, 4)
        for d in (1e9, 1e10, 1e11)
        for loss in [2 + 1e3 / (n * x**0.5) ** 0.4 + 9 / d**0.1]
        for lr in (0.9, 1.1)
        for b in (0.9, 1.1)
    ]
    lines = [",".join(map(repr, row)) for row in rows]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(["N,active N,D,lr,bs,smooth loss", *lines]))
    return path


def test_runs_give_laws_and_what_they_say_of_a_target(runs, tmp_path, capsys):
    out = tmp_path / "laws.json"
    words = ["--params", "3B", "--tokens", "10B", "--draws", "20", "--out", str(out)]
    assert cli.main(["scaling", "fit", str(runs), *words]) == 0
    told = capsys.readouterr().out
    assert "-0.700" in told and "0.300" in told and "0.570" in told
    rates, loss = (line for line in told.splitlines() if line.startswith("your runs"))
    assert "parameters 3x above" in rates and "parameters 3x above" in loss
    assert "is the least that was tried" in told
    words = ["--active", "1B", "--total", "4B", "--tokens", "10B", "--laws", str(out)]
    assert cli.main(["scaling", "parity", *words]) == 0
    (own,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("your")]
    assert "2.00x" in own


def test_a_law_that_own_runs_do_not_tell_is_said_and_why(tmp_path, capsys):
    rows = [f"{n},{d},0.01,16,{3 / n}" for n in (1, 2) for d in (1e8, 1e9)]
    (tmp_path / "runs.csv").write_text("\n".join(["N,D,lr,bs,smooth loss", *rows]))
    laws = str(tmp_path / "laws.json")
    assert (
        cli.main(["scaling", "fit", str(tmp_path / "runs.csv"), "--draws", "9", "--out", laws]) == 0
    )
    assert "4 of 4 cells have a single run" in capsys.readouterr().out
    target = ["--params", "1B", "--tokens", "1B", "--laws", laws]
    assert cli.main(["scaling", "predict", *target]) == 0
    assert "your runs tell no law of the loss: 4 runs of 2 sizes" in capsys.readouterr().out
    assert cli.main(["scaling", "parity", *target]) == 0
    told = "your runs tell no law of mixtures of experts: none of them is one"
    assert told in capsys.readouterr().out
