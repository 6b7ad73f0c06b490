"""The benchmarks run: every command line answers, and small sizes go through to the end."""

import random
import runpy
import sys
from pathlib import Path

import pytest

from benchmarks import data, data_pages, page, prefill, tokenizer, turns

FOLDER = turns.ROOT / "benchmarks"
PARTS = {"page", "turns", "planted"}  # what the benchmarks share
SMALL = ("--rows=1", "--length=16", "--steps=1", "--threads=1", "--dtype=float32")
STEMS = sorted(path.stem for path in FOLDER.glob("*.py"))
SCRIPTS = [name for name in STEMS if name not in PARTS and not name.startswith("data_")]


@pytest.fixture
def run(capsys, monkeypatch):
    """What `python -m` prints of a module and its words; here, since torch is here already."""

    def printed(module, *words):
        monkeypatch.setattr(sys, "argv", [module, *words])
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as stop:  # as --help does
            assert not stop.code, stop.code
        return capsys.readouterr().out

    return printed


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_benchmark_tells_its_command_line(run, name):
    assert "--write" in run(f"benchmarks.{name}", "--help")


@pytest.mark.parametrize("name", SCRIPTS)
def test_make_bench_and_the_readme_name_every_benchmark(name):
    recipe = (turns.ROOT / "Makefile").read_text().partition("\nbench:")[2].partition("\n\n")[0]
    assert f"benchmarks.{name}" in recipe.split()
    assert f"`{name}.py`" in (FOLDER / "README.md").read_text()


@pytest.mark.slow
def test_a_small_training_step_goes_through_with_equal_losses_on_both_sides(run):
    told = run("benchmarks.train_step", *SMALL)
    assert "| baiwen |" in told
    assert "| transformers |" in told
    assert "rate, CPU seconds" in told


@pytest.mark.slow
def test_the_shares_of_a_step_add_up_to_all_of_it(run):
    rows = [row.split("|") for row in run("benchmarks.train_step", "--share", *SMALL).splitlines()]
    shares = [float(row[3].strip(" %")) for row in rows if len(row) == 5 and "%" in row[3]]
    assert len(shares) == 6
    assert sum(shares) == pytest.approx(100, abs=0.5)


@pytest.mark.slow
def test_a_small_sparse_layer_goes_through_with_equal_norms_on_all_sides(run):
    told = run("benchmarks.moe", "--shapes", "tiny-moe", "--tokens", "64", "--rounds", "1")
    assert "| tiny-moe | 64 |" in told
    assert "(loop)" in told and "(grouped_mm)" in told


@pytest.mark.slow
def test_the_kernels_go_through_at_a_small_size(run):
    told = run("benchmarks.kernels", "--tokens", "192", "--rounds", "1", "--steps", "1")
    assert "| 192 |" in told
    assert "keeping it saves" in told


def test_a_side_of_a_long_prompt_is_so_many_times_as_fast_as_another():
    def rounds(*seconds):
        return [{"seconds": one} for one in seconds]

    sides = {"full": rounds(10, 30, 12), "sparse 10 %": rounds(2, 10, 3), "sparse 5 %": rounds(1)}
    found = {32768: sides, 131072: {"sparse 10 %": rounds(5)}}
    told = ("sparse 10 %, 32,768 tokens, of full", ">= 2.3x", "4.00x", True)
    assert list(prefill.long_claims(found)) == [told]


def test_sides_take_turns_and_the_first_turns_do_not_count():
    order = []
    sides = {name: Recorded(name, order) for name in "ab"}
    rows = turns.take_turns(sides, steps=3, seconds=60)
    assert order == ["a", "b"] * (turns.WARM + 3)
    assert [row["turn"] for row in rows["b"]] == [2, 3, 4]


def test_a_peer_is_compared_with_our_side_on_as_many_threads():
    def rounds(*cpu):
        return [turns.Spent(seconds, 0) for seconds in cpu]

    spent = {
        "baiwen, 1 thread": rounds(1, 1, 1),
        "baiwen, 2 threads": rounds(2, 2, 4),
        "peer, 2 threads": rounds(1, 4, 4),
        "another": rounds(3, 3, 3),
    }
    rows = tokenizer.claims("encoding", spent)
    assert [row[2:] for row in rows] == [("1.00x", True), ("3.00x", True)]


@pytest.mark.slow
def test_the_tokenizers_go_through_at_a_small_size(run):
    told = run(
        "benchmarks.tokenizer", f"--corpus={FOLDER}", "--megabytes=1", "--vocab=500", "--rounds=1"
    )
    assert told.count("CPU seconds | >= 0.95x |") == 3


@pytest.mark.slow
def test_rows_of_the_data_pipeline_go_through_at_a_small_size(run, tmp_path):
    words = ["the", "of", "and", "boat", "harbour", "sails", "to", "that", "tide\u2028"]
    lines = [" ".join(random.Random(seed).choices(words, k=2000)) for seed in range(20)]
    for number, text in enumerate(lines):
        (tmp_path / f"{number}.txt").write_text(text)
    small = ("--documents", str(tmp_path), "--share=0.01", "--rounds=1")
    told = run("benchmarks.data", "heuristics", "duplicates", "classifier", *small)
    assert "| removals that are false | <= 1 % | 0.0% |" in told
    assert told.count("documents a CPU second | >= ") == 3


def test_a_row_without_a_peer_says_so():
    peers = {"daft": data_pages.Peer("python", "0.7.26")}
    (told, _) = data.lacking(("datatrove", "daft"), peers)
    assert told == "Without datatrove: not installed (--peer-python)."
    assert data.lacking(("daft",), peers) == []


def test_a_slow_side_has_one_turn_in_the_midst_of_the_others(monkeypatch):
    order = []
    monkeypatch.setattr(data_pages, "side", lambda bench, player: Recorded(player.module, order))
    bench = data_pages.Bench(Path(), [], None, {}, share=1, rounds=4)
    players = {name: data_pages.Player(name, {}) for name in "abs"}
    rows = data_pages.in_turns(bench, players | {"gone": data_pages.Player("g", {}, "g")}, ["s"])
    assert order == ["a", "b"] * 3 + ["s"] + ["a", "b"] * 2
    assert {name: len(turns) for name, turns in rows.items()} == {"a": 4, "b": 4, "s": 1}


def test_a_side_that_fails_is_named_with_what_it_said():
    with (
        pytest.raises(
            SystemExit, match=r"(?s)benchmarks.nobody ended with code 1.*No module named"
        ),
        turns.Side("benchmarks.nobody", {"threads": 1}),
    ):
        pass


def test_a_result_page_holds_command_machine_and_date_but_no_path(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "RESULTS", tmp_path / "results")
    given = ["--peer-python", str(tmp_path / "python"), f"data.corpus={tmp_path / 'texts'}"]
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "sft.py"), *given])
    page.publish("sft_again", "SFT", ["| a |"], write=True)
    text = (tmp_path / "results" / "sft_again.md").read_text()
    assert "`python -m benchmarks.sft --peer-python python data.corpus=texts`" in text
    assert all(word in text for word in ("- date: 2", "- machine: ", "- versions: ", "| a |"))
    assert str(Path(tmp_path)) not in text


class Recorded:
    def __init__(self, name, order):
        self.name, self.order, self.turns = name, order, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def step(self):
        self.order.append(self.name)
        self.turns += 1
        return {"turn": self.turns - 1}
