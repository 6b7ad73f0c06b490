"""The sections: what they tell, and that they tell what is there of a run that is half done."""

import re

import pytest

from baiwen import files
from baiwen.errors import UserError
from baiwen.report import data, figures, page
from baiwen.report.page import Cards, Figure, Samples, Table, Text
from baiwen.report.runs import Run
from baiwen.report.sections import sections
from baiwen.report.words import (
    count,
    duration,
    percent,
    points,
    probability,
    short,
    size,
    tokens,
)


@pytest.fixture(scope="module", autouse=True)
def drawn_once():
    """A figure of equal data has equal bytes (test_page.py), so here each is drawn once."""
    kinds = ("bars", "calibration", "curves", "grids", "histograms", "intervals", "panels")
    with pytest.MonkeyPatch.context() as patch:
        for kind in kinds:
            patch.setattr(figures, kind, kept(getattr(figures, kind)))
        yield


def kept(draw):
    found = {}

    def drawn(*given):
        if (key := repr(given)) not in found:
            found[key] = draw(*given)
        return found[key]

    return drawn


@pytest.fixture(scope="module")
def made(folders):
    return sections([Run(name, path) for name, path in folders.items()])


def blocks(made, kind):
    return [block for section in made for block in section.blocks if isinstance(block, kind)]


def table(made, first):
    return next(table for table in blocks(made, Table) if table.head[0] == first)


def answers(made):
    """The samples of the section of that name."""
    section = next(section for section in made if section.title == "Answers")
    return [sample for block in blocks([section], Samples) for sample in block.samples]


def test_any_part_of_the_folders_makes_a_report(folders):
    half = len(folders) // 2
    parts = [[name] for name in folders] + [list(folders)[:half], list(folders)[half:]]
    for names in parts:
        report = page.Page("t", sections([Run(name, folders[name]) for name in names]))
        assert page.html(report)
        assert page.markdown(report)


def test_an_empty_folder_makes_an_empty_report(tmp_path):
    assert sections([Run("nothing", tmp_path)]) == []
    assert sections([Run("absent", tmp_path / "absent")]) == []


def test_a_row_that_a_kill_has_torn_ends_what_is_told_of_an_unfinished_run(tmp_path):
    rows = '{"step": 1, "loss": 4.0, "lr": 1e-3, "tokens": 9}\n{"step": 2, "lo'
    (tmp_path / "metrics.jsonl").write_text(rows)
    (section,) = sections([Run("sft", tmp_path)])
    assert table([section], "stage").rows[0][:4] == ["sft", "1", "9", "4.000"]
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match=r"metrics\.jsonl:2: this line is not JSON"):
        sections([Run("sft", tmp_path)])


def test_accuracy_stands_with_its_n_and_interval(made):
    row = next(row for row in table(made, "task").rows if row[0] == "sums")
    assert row[1:4] == ["10", "20.0 %", "10.0 % to 30.0 %"]


def test_the_gain_is_on_the_first_screen_in_points(made):
    cards = [card for block in blocks(made, Cards) for card in block.cards]
    assert ("+50.0", "points, +30.0 to +70.0, paired") in [card[1:] for card in cards]


def test_the_pass_key_is_on_the_first_screen_at_the_longest_length(made):
    cards = [card for block in blocks(made, Cards) for card in block.cards]
    told = ("sft: pass key in 128K tokens", "25.0 %", "12.5 % to 100.0 %, n = 4")
    assert told in cards


def test_answers_that_no_verifier_could_judge_are_told(made):
    told = [block.text for block in blocks(made, Text)]
    assert any("counted as not right: 1 undecided" in text for text in told)


def test_the_first_answer_of_each_kind_and_verdict_is_shown(made, hostile):
    samples = answers(made)
    assert len(samples) == 6
    assert {s.verdict for s in samples if s.title == "sums"} == {"right", "wrong", "undecided"}
    assert all(dict(sample.parts)["answered"] == f"{hostile}0" for sample in samples)


def test_the_truth_stands_beside_an_answer_that_is_not_right(made):
    samples = answers(made)
    assert all(("truth" in dict(s.parts)) == (s.verdict != "right") for s in samples)


def test_the_pass_key_stands_by_length_for_each_model_with_how_it_was_read(made, hostile):
    assert table(made, "model").rows == [
        [name, "chat", f"4,096 tokens {hostile}"] for name in (hostile, "sft")
    ]
    assert table(made, "pass key, length").rows == [
        ["4K", "4", *["75.0 % (37.5 % to 100.0 %)"] * 2],
        ["128K", "4", *["25.0 % (12.5 % to 100.0 %)"] * 2],
    ]


def test_needles_are_drawn_as_full_as_they_are_found(made):
    drawn = next(block for block in blocks(made, Figure) if block.name.startswith("needles-"))
    opacities = re.findall(r"fill: var\(--one[^;]*; fill-opacity: ([\d.]+)", drawn.svg)
    assert sorted(map(float, opacities)) == [0.25, 0.25, 0.75, 0.75]
    assert {"4K", "128K", "0 %", "100 %", "sft"} <= {*re.findall(r">([^<>]+)</text>", drawn.svg)}


def test_ruler_stands_in_both_marks_beside_the_report_where_it_has_the_model(made, hostile):
    assert table(made, f"{hostile}: ours / official").rows == [
        ["vt", "50.0 % / 100.0 %", "12.5 % / 100.0 %"],
        ["mean, 1 of 13 tasks", "50.0 % / 100.0 %", "12.5 % / 100.0 %"],
        ["95 % interval of ours", "25.0 % to 100.0 %", "6.2 % to 100.0 %"],
        ["report, Qwen2.5-7B-Instruct, official, 13 tasks", "96.7 %", ""],
    ]
    assert len(table(made, "sft: ours / official").rows) == 3
    seen = table(made, "read sparsely").rows
    assert seen[0] == [hostile, "128K", "12.5 %", "97.0 %", "50.0 %"]
    told = [block.text for block in blocks(made, Text) if "qa_1" in block.text]
    assert told == [f"qa_1 is left out: {hostile}"]


def test_speed_is_the_median_steps_and_tokens_are_all(made):
    row = next(row for row in table(made, "stage").rows if row[0] == "sft")
    assert row[1:] == ["40", "164k", "1.265", "1.281", "9k", "30.0 %", "1.0 GiB", "0"]


def test_wall_time_adds_up(made, folders):
    rows = table(made, "run").rows
    assert rows[-1][2] == duration(61 * len(folders))


def test_dropped_documents_stand_with_their_reason(made):
    assert table(made, "outcome").rows == [["kept", "code", "1,032", "3,500,000"]]


def test_exercises_stand_by_kind_with_why_texts_gave_none(tmp_path):
    tally = {"kinds": {"fim": 1200, "echo": 3}, "unfit": {"fim: too short": 7}}
    files.write_json(tmp_path / "exercises.json", {"documents": tally})
    (found,) = data.data([Run("at256", tmp_path)])
    assert found.rows == [
        ["documents", "made", "echo", "3"],
        ["documents", "made", "fim", "1,200"],
        ["documents", "not made", "fim: too short", "7"],
    ]


def test_pairs_stand_with_the_share_of_right_answers_and_why_prompts_gave_none(made, hostile):
    assert table(made, "kind of prompt").rows == [
        ["all", "25.0 %", "30", "20", "40"],
        [hostile, "25.0 %", "30", "20", "40"],
    ]
    assert table(made, "prompts that gave no pair").rows == [["all right", "4"], [hostile, "6"]]


def test_a_reward_model_stands_beside_preferring_the_longer_answer(made):
    rows = {row[0]: row[1:] for row in table(made, "reward: the better answer preferred").rows}
    assert rows["all"] == ["40", "75.0 %", "60.0 % to 90.0 %"]
    assert "by length alone: the longer one" in rows


def test_groups_of_the_first_and_the_last_step_are_shown_best_and_worst_answers(made):
    section = next(section for section in made if section.title == "Reinforcement learning")
    samples = [sample for block in blocks([section], Samples) for sample in block.samples]
    assert [s.title.split(",")[0] for s in samples] == ["step 1"] * 4 + ["step 5"] * 4
    rewards = [dict(sample.parts)["reward"].split(",")[0] for sample in samples]
    assert rewards == ["1.00", "1.00", "0.00", "0.00"] * 2


def test_an_alarm_stands_with_its_steps_and_bound(made, hostile):
    assert table(made, "alarm").rows == [
        [hostile, "2", "4", "3", "0.9", "0.8"],
        ["kl", "5", "1,005", "2", "not finite", "0.5"],
    ]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (percent(0.8125), "81.2 %"),
        (points(-0.05), "-5.0"),
        (points(0.425), "+42.5"),
        (duration(3.21), "3.2 s"),
        (duration(59.96), "1 min 00 s"),
        (duration(245), "4 min 05 s"),
        (tokens(131_072), "128K"),
        (tokens(1000), "1,000"),
        (duration(7322), "2 h 02 min"),
        (count(1234567), "1,234,567"),
        (short(950), "950"),
        (short(163_840), "164k"),
        (short(18e12), "18T"),
        (size(2**31), "2.0 GiB"),
        (size(12), "12 B"),
        (probability(1e-9), "< 0.0001"),
        (probability(0.0421), "0.0421"),
    ],
)
def test_numbers_are_written_for_a_reader(written, expected):
    assert written == expected
