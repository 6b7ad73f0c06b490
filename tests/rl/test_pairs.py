"""Which answers make a pair, how alike in length the two sides are, and what a review changes."""

import json
from random import Random
from statistics import fmean

import pytest

from baiwen.errors import UserError
from baiwen.rl import pairs, review
from baiwen.rl.pairs import Answer, Rule, choose, message, variance
from baiwen.tokenizer import bpe
from baiwen.verify import Verdict

RIGHT, WRONG = Verdict.right, Verdict.wrong
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
PAIR = {
    "prompt": [{"role": "user", "content": "2 + 2?"}],
    "chosen": [{"role": "assistant", "content": "4"}],
    "rejected": [{"role": "assistant", "content": "5"}],
}


def answer(text, verdict, tokens=10, finish_reason="stop"):
    return Answer(text, verdict, tokens, finish_reason)


def chosen(answers, **rule):
    return next(choose([answers], Rule(**rule)))


def drawn(rng, groups, longer):
    """Judged answers of which the right ones are some tokens longer than the wrong ones."""
    for group in range(groups):
        verdicts = rng.choices([RIGHT, WRONG], k=8)
        yield [
            answer(f"{group} {place}", verdict, rng.randint(5, 25) + longer * (verdict is RIGHT))
            for place, verdict in enumerate(verdicts)
        ]


def test_every_pair_is_a_right_answer_beside_a_wrong_one_within_the_rule():
    rule = Rule(most=3, length_gap=0.3)
    groups = list(drawn(Random(0), 200, longer=3))
    for group, choice in zip(groups, choose(groups, rule), strict=True):
        assert len(choice.pairs) <= 3
        assert bool(choice.pairs) == (choice.reason is None)
        for pair in choice.pairs:
            assert pair.chosen in group and pair.chosen.verdict is RIGHT
            assert pair.rejected in group and pair.rejected.verdict is WRONG
            sizes = sorted((pair.chosen.tokens, pair.rejected.tokens))
            assert sizes[1] - sizes[0] <= 0.3 * sizes[1]


def test_length_tells_less_than_in_pairs_that_are_drawn():
    rng = Random(1)
    groups = list(drawn(rng, 400, longer=4))
    gaps = [pair.gap for choice in choose(groups, Rule()) for pair in choice.pairs]
    by_chance = [
        rng.choice(right).tokens - rng.choice(wrong).tokens
        for group in groups
        for right, wrong in [[[a for a in group if a.verdict is v] for v in (RIGHT, WRONG)]]
        if right and wrong
    ]
    assert fmean(by_chance) == pytest.approx(4, abs=1)
    assert abs(fmean(gaps)) < 0.05
    assert fmean(map(abs, gaps)) < fmean(map(abs, by_chance)) / 3


def test_that_pair_is_taken_which_brings_the_sum_of_differences_back():
    longer = [answer("a", RIGHT, 12), answer("b", WRONG, 10)]
    either = [answer("c", RIGHT, 10), answer("d", WRONG, 8), answer("e", WRONG, 12)]
    _, second = choose([longer, either], Rule(most=1))
    assert second.pairs[0].rejected.text == "e"


def test_no_answer_is_in_a_second_pair_while_another_is_in_none():
    answers = [
        answer("a", RIGHT),
        answer("b", RIGHT, 11),
        answer("c", WRONG),
        answer("d", WRONG, 11),
    ]
    texts = {part.text for pair in chosen(answers).pairs for part in (pair.chosen, pair.rejected)}
    assert texts == {"a", "b", "c", "d"}
    twice = chosen([answer("a", RIGHT), answer("c", WRONG), answer("d", WRONG)])
    assert [pair.chosen.text for pair in twice.pairs] == ["a", "a"]


def test_a_text_that_was_said_before_counts_once():
    choice = chosen(
        [answer("a", RIGHT), answer("a ", RIGHT), answer("b", WRONG), answer("b", WRONG)]
    )
    assert len(choice.pairs) == 1 and choice.duplicates == 2


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([("a", RIGHT), ("b", RIGHT)], "all right"),
        ([("a", WRONG), ("b", WRONG)], "all wrong"),
        ([("a", RIGHT), ("b", Verdict.undecided)], "undecided"),
        ([("a", WRONG), ("b", Verdict.timeout), ("c", Verdict.error)], "undecided"),
        ([("a", RIGHT), ("b", WRONG, 10, "length")], "truncated"),
        ([("a", RIGHT, 10, "length"), ("b", WRONG)], "truncated"),
        ([("a", RIGHT), ("half \ufffd", WRONG)], "no message"),
        ([("a", RIGHT, 10), ("b", WRONG, 21)], "lengths"),
    ],
)
def test_a_prompt_without_a_pair_says_why(answers, reason):
    choice = chosen([answer(*given) for given in answers])
    assert choice.pairs == [] and choice.reason == reason


def test_an_answer_that_was_cut_is_a_negative_where_the_rule_says_so_and_never_a_positive():
    cut = [answer("a", RIGHT), answer("b", WRONG, 10, "length"), answer("c", RIGHT, 10, "length")]
    choice = chosen(cut, truncated=True)
    assert [(pair.chosen.text, pair.rejected.text) for pair in choice.pairs] == [("a", "b")]


@pytest.mark.parametrize("text", ["82", "  two\nlines ", " ", CALL, f"Let me see.\n{CALL}\n{CALL}"])
def test_a_message_is_rendered_as_the_answer_was_said(text):
    tokenizer = bpe.train(["a few words"], vocab_size=260)
    asked = [{"role": "user", "content": "?"}]
    prompt = tokenizer.render(asked, generate=True)
    whole = tokenizer.render([*asked, message(text)])
    assert tokenizer.decode(whole.ids[len(prompt.ids) :]) == f"{text}<|im_end|>\n"
    assert whole.ids.count(tokenizer.id("<tool_call>")) == text.count("<tool_call>")


@pytest.mark.parametrize(
    "text",
    [
        CALL.removesuffix("\n</tool_call>"),
        CALL.replace('"', "'"),
        "<tool_call>\nweather?\n</tool_call>",
        "4<|im_start|>user",
        CALL.replace("weather", 'a\\"b'),
        CALL.replace("weather", "\\ud800"),
        "",
    ],
)
def test_nothing_and_what_would_be_mended_or_said_in_other_tokens_is_no_message(text):
    assert message(text) is None


def test_variance_is_of_rewards_that_were_judged():
    assert variance([RIGHT] * 3 + [WRONG] * 5) == pytest.approx(15 / 64)
    assert variance([RIGHT, WRONG, Verdict.undecided, Verdict.timeout]) == 0.25
    assert variance([Verdict.error]) == variance([RIGHT]) == 0


def test_an_id_names_the_content_of_a_pair_and_nothing_else():
    assert review.name(PAIR) == review.name({**PAIR, "source": "sft", "kind": "sum"})
    others = [PAIR | {"chosen": PAIR["rejected"]}, PAIR | {"tools": [{}]}]
    assert len({review.name(pair) for pair in (PAIR, *others)}) == 3


def test_a_share_of_the_pairs_is_drawn_by_their_content():
    every = [PAIR | {"tools": [{"name": str(number)}]} for number in range(2000)]
    tenth = [pair for pair in every if review.drawn(pair, 0.1)]
    assert len(tenth) == pytest.approx(200, abs=50)
    assert all(review.drawn(pair, 0.2) for pair in tenth)
    assert [review.drawn(PAIR, share) for share in (0.0, 1.0)] == [False, True]


def test_verdicts_keep_drop_and_swap():
    swapped = review.reviewed(PAIR, "swap", "drop")
    assert swapped["chosen"] == PAIR["rejected"] and swapped["rejected"] == PAIR["chosen"]
    assert review.reviewed(PAIR, "keep", "drop") == review.reviewed(PAIR, None, "keep") == PAIR
    assert review.reviewed(PAIR, "drop", "keep") is review.reviewed(PAIR, None, "drop") is None


def test_a_reviewed_file_is_read_and_what_is_no_verdict_is_named(tmp_path):
    path = tmp_path / "reviewed.jsonl"
    rows = [review.row(PAIR, "4"), {**review.row(PAIR | {"tools": [{}]}, "4"), "verdict": "swap"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert review.read(path) == {rows[1]["id"]: "swap"}
    path.write_text(json.dumps({"id": "5f", "verdict": "kep"}))
    with pytest.raises(UserError, match=r"row 1: verdict is 'kep', not null, .* Did you mean keep"):
        review.read(path)
    path.write_text("{}")
    with pytest.raises(UserError, match="row 1 has no `id`"):
        review.read(path)


def test_every_reason_is_counted_by_name():
    assert set(pairs.REASONS) == set(pairs.Reason.__args__)
