import pytest

from baiwen import cli
from baiwen.commands.scaling import number
from baiwen.errors import UserError


@pytest.mark.parametrize(
    ("text", "value"), [("1.5B", 1.5e9), ("300m", 3e8), ("3e10", 3e10), ("18T", 18e12), ("7", 7.0)]
)
def test_numbers_are_read_with_their_units(text, value):
    assert number(text) == value


@pytest.mark.parametrize("text", ["", "B", "1.5X", "-3B", "0", "1.2.3M"])
def test_what_is_no_number_is_named(text):
    with pytest.raises(UserError, match="is not a number above 0"):
        number(text)


def test_the_presets_stand_side_by_side(capsys):
    assert cli.main(["scaling", "predict", "--params", "357.9M", "--tokens", "10B"]) == 0
    told = capsys.readouterr().out
    assert "Step Law" in told and "0.00168" in told
    assert "DeepSeek" in told and "MiniCPM" in told and "Kaplan" in told and "epoch" in told


def test_a_size_is_known_by_name_without_its_embeddings(capsys):
    assert cli.main(["scaling", "predict", "--model", "0.5b", "--tokens", "10B"]) == 0
    assert "0.00168" in capsys.readouterr().out  # the 357.9M of its 494M that are no embedding


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--tokens", "1B"], "give --tokens, and --params"),
        (["--params", "1B"], "give --tokens"),
        (["--model", "6b", "--tokens", "1B"], "there is no size 6b"),
    ],
)
def test_half_a_target_is_refused(words, told, capsys):
    assert cli.main(["scaling", "predict", *words]) == 2
    assert told in capsys.readouterr().err


def test_runs_give_laws_and_what_they_say_of_a_target(tmp_path, capsys):
    rows = [
        (n, d, lr * 2 * n**-0.7 * d**0.3, b * 0.6 * d**0.57 / 2048, 2 + 1e3 / n**0.4 + 9 / d**0.1)
        for n in (1e8, 1e9)
        for d in (1e9, 1e10, 1e11)
        for lr in (0.9, 1.1)
        for b in (0.9, 1.1)
    ]
    table = tmp_path / "runs.csv"
    lines = [",".join(map(repr, row)) for row in rows]
    table.write_text("\n".join(["N,D,lr,bs,smooth loss", *lines]))
    words = ["--params", "3B", "--tokens", "10B", "--draws", "20"]
    assert cli.main(["scaling", "fit", str(table), *words]) == 0
    told = capsys.readouterr().out
    assert "-0.700" in told and "0.300" in told and "0.570" in told
    assert "beyond the runs in parameters" in told
