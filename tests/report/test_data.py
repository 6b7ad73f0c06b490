"""What the report tells of documents, after a small run of the data stage."""

import json

import pytest

from baiwen import config, files
from baiwen.report import data, examples, judged, page
from baiwen.report.page import Code, Figure, Section, Table, Text
from baiwen.report.runs import Run
from baiwen.stages import data as stage

SUBJECTS = ["rivers", "clocks", "bridges", "whales", "letters", "windows", "harbours", "orchards"]
TEST = "The ferry leaves at nine and comes back at noon, so how many hours is it away each day?"


def prose(number):
    """About a hundred words that are a text, and like no other number's."""
    own = " ".join(f"{SUBJECTS[(number + i) % 8]} of {number * 7 + i}" for i in range(24))
    return f"This is what is known of the {SUBJECTS[number % 8]} that we have seen: {own} and more."


@pytest.fixture(scope="module")
def run(tmp_path_factory, hostile):
    """Documents of two domains; too short ones, a copy, and two that hold a test."""
    folder = tmp_path_factory.mktemp("data")
    rows = [{"id": f"whole {n}", "text": f"{prose(n)} {hostile}"} for n in range(30)]
    rows += [{"id": f"short {n}", "text": f"{hostile} {n}"} for n in range(15)]
    rows += [{"id": f"test {n}", "text": f"{prose(50 + n)} {TEST}"} for n in range(2)]
    rows += [{"id": "copy", "text": rows[0]["text"], "meta": {"license": hostile}}]
    for n, row in enumerate(rows):
        row.setdefault("meta", {})["domain"] = hostile if n % 3 else "letters"
    for name, found in {"corpus": rows, "tests": [{"question": TEST}]}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    recipe = {
        "out": folder / "out",
        "corpus": [str(folder / "corpus.jsonl")],
        "steps": ["language", "heuristics", "exact", "decontaminate", "mixture"],
        "filters": {"letters": False, "symbols": False, "mean_word_length": False},
        "decontaminate": {"against": [folder / "tests.jsonl"]},
        "balance": {"times": {"letters": 0.5}},
        "heldout_share": 0.1,
        "workers": 1,
    }
    made = config.parse(recipe, stage.Config, "recipe.toml")
    with files.run_folder(made.out, config.resolved(made)) as opened:
        stage.run(made, opened)
    return Run("web", made.out)


@pytest.fixture(scope="module")
def told(run):
    return [*data.data([run]), *examples.examples([run])]


def table(blocks, first):
    return next(one for one in blocks if isinstance(one, Table) and one.head[0] == first)


def folded(blocks):
    """The texts of the folded examples by reason."""
    found = [block for block in blocks if isinstance(block, Code)]
    return {block.summary.split(", ", 1)[1].rsplit(": ", 1)[0]: block for block in found}


def test_the_funnel_narrows_by_what_each_step_drops(told, run):
    rows = table(told, "step of web").rows
    assert [(row[0], row[1], row[2]) for row in rows[:2]] == [
        ("read", "48", "48"),
        ("language", "48", "48"),
    ]
    dropped = table(told, "outcome").rows
    for step, came, left, *_ in rows:
        gone = sum(int(row[2]) for row in dropped if row[0] == f"dropped by {step}")
        held = sum(int(row[2]) for row in dropped if row[0] == "heldout" == step)
        assert int(came) - int(left) == gone + held
    kept = sum(int(row[2]) for row in dropped if row[0] == "kept")
    assert kept == int(rows[-1][2])


def test_every_reason_has_its_examples_ten_at_most(told, run):
    found = folded(told)
    card = run.table("data.json")
    reasons = {
        f"{step}: {rule}": tally["documents"]
        for step, rules in card["dropped"].items()
        for rule, tally in rules.items()
    }
    kept = sum(tally["documents"] for tally in card["kept"].values())
    assert {*found} == {"kept", *reasons}
    for reason, documents in (reasons | {"kept": kept}).items():
        shown = min(documents, examples.SHOWN)
        assert f": {shown} of {documents} documents (from " in found[reason].summary
        assert found[reason].text.count("corpus.jsonl@") == shown


def test_an_example_says_what_was_measured_and_what_was_found(told):
    found = folded(told)
    short = next(text.text for name, text in found.items() if "too few words" in name)
    assert "bound 50" in short
    contaminated = found["decontaminate: evaluation: common subsequence"].text
    assert "tests.jsonl:1 question" in contaminated and "common: " in contaminated
    assert [row[1] for row in table(told, "dropped for holding").rows] == ["2"]


def test_the_same_run_gives_the_same_figures_and_examples(told, run):
    again = [*data.data([run]), *examples.examples([run])]
    assert again == told


def test_a_run_that_is_not_done_has_no_examples(tmp_path):
    (tmp_path / "parts").mkdir()
    assert [*data.data([Run("web", tmp_path)]), *examples.examples([Run("web", tmp_path)])] == []


def test_mixture_and_scores_are_drawn(told):
    names = {block.name for block in told if isinstance(block, Figure)}
    assert names == {"funnel-web.svg", "mixture-web.svg", "scores-web.svg"}
    rows = {row[0]: row[1:] for row in table(told, "mixture of web").rows}
    before, after = (int(rows["letters/en"][place]) for place in (0, 4))
    assert 0 < after < before


def test_hostile_texts_stay_in_their_place(told):
    report = page.Page("t", [Section("Data", told)])
    assert "<script>" not in page.html(report) and "\x1b" not in page.html(report)
    assert "\x00" not in page.markdown(report)


def test_of_a_long_table_the_rest_is_one_row(tmp_path):
    sources = {f"host{n:02}": {"documents": 1, "bytes": 100 - n} for n in range(25)}
    files.write_json(tmp_path / "data.json", {"sources": sources})
    (found,) = data.data([Run("web", tmp_path)])
    assert [row[0] for row in found.rows[:2]] == ["host00", "host01"]
    assert found.rows[-1] == ["15 more", "15", f"{sum(100 - n for n in range(10, 25)):,}"]


def test_replies_that_became_no_document_are_shown_by_reason(tmp_path, hostile):
    files.write_json(tmp_path / "data.json", {"kept": {}})
    verdict = {"step": "format", "rule": "too short", "value": 3.0, "bound": 200.0}
    rows = [{"id": f"d{n}", "text": hostile, "meta": {}, "verdict": verdict} for n in range(12)]
    with files.jsonl_writer(tmp_path / "dropped-00000.jsonl.zst") as put:
        for row in rows:
            put(row)
    (found,) = examples.examples([Run("made", tmp_path)])
    assert "format: too short: 10 of 12 documents" in found.summary
    assert found.text.count("value 3, bound 200") == 10


def test_a_measure_without_meaning_is_left_blank(tmp_path):
    share = {"value": 0.5, "low": 0.25, "high": 0.75}
    one = {"n": 40, "good": 0.5} | dict.fromkeys(judged.MEASURES, share) | {"auc": None}
    told = {"judge": {"labels": "labels.jsonl"}}
    told["agreement"] = {"dimensions": {"clarity": one}, "domains": None}
    files.write_json(tmp_path / "classifier.json", told)
    found, text = judged.judged([Run("quality", tmp_path)])
    assert found.rows == [
        ["clarity", "40", *["0.50 [0.25 to 0.75]"] * 3, "", "0.50 [0.25 to 0.75]"]
    ]
    assert isinstance(text, Text) and "labels.jsonl" in text.text


def test_what_the_judge_saw_of_a_round_is_added_up(tmp_path):
    share = {"value": 0.9, "n": 100, "low": 0.8, "high": 0.95}
    bands = [{"judged": share}, {"judged": {**share, "value": 0.5, "n": 10}}, {"judged": None}]
    row = {"round": 1, "fresh": 60, "found": 60, "precision": None, "recall": share, "end": None}
    told = {"name": "math", "rounds": [{**row, "ways": {"score": bands, "source": []}}]}
    files.write_json(tmp_path / "recall.json", told | {"sources": []})
    (found,) = judged.judged([Run("math", tmp_path)])
    expected = "90.0 % (80.0 % to 95.0 %), n = 100"
    assert found.rows == [["1", "60", "60", "", expected, "95 of 110", ""]]


def test_mixtures_stand_best_first(tmp_path):
    def row(mean, spread):
        bits = {"bits_per_byte": mean, "spread": spread, "runs": 2}
        behind = {"bits_per_byte": mean - 1.5, "standard_error": spread}
        return {"mean": bits, "domains": {"code": bits}, "behind": behind}

    told = {"best": "b", "mixtures": {"a": row(1.75, None), "b": row(1.5, 0.01)}}
    files.write_json(tmp_path / "mixtures.json", told)
    found, _ = judged.judged([Run("proxies", tmp_path)])
    assert found.rows == [
        ["b", "2", "+0.0000 ± 0.0100", "1.500 ± 0.010", "1.500 ± 0.010"],
        ["a", "2", "+0.2500", "1.750", "1.750"],
    ]
