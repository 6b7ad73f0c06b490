"""Multiple choice and matches: what an answer has settled on, and what it has only mentioned."""

import pytest

from baiwen.verify import Verdict, choice, match

ASKED = {"letter": "B", "options": ["Oslo", "Rome", "Bonn"]}
RIGHT = ["B", "b", "(B)", "B.", "B. Rome", "**B**", "The answer is B", "The answer is (B)."]
RIGHT += [
    "Answer: B",
    "answer is: **B**",
    "答案：B",
    "答案是B。",
    "故选B",
    "应选（Ｂ）",
    "$\\boxed{B}$",
]
RIGHT += [
    "$\\boxed{\\text{(B)}}$",
    "\\boxed{Rome}",
    "The correct option is B because of Rome",
    "rome.",
]
RIGHT += [
    "I would choose\nB. Rome",
    "Oslo is A, no. So (B)",
    "The answer is A. No: the answer is B.",
]
RIGHT += ["\\boxed{A} no, \\boxed{B}", "ANSWER: B", "The best choice is B.", "正确的选项是 B"]
RIGHT += ["Option B is correct.", "A is wrong. B is correct", "选项B正确", "不对，B项是正确的"]
RIGHT += [
    "I choose B.",
    "不选A，选B",
    "答案应为B",
    "The correct answer is option B",
    "\\boxed{B. Rome}",
]
RIGHT += [
    "Answer: Rome",
    "The answer is **Rome**.",
    "The answer is B, since A is right-handed.\nC is correct too",
]
WRONG = [
    "",
    "A",
    "C. Rome",
    "A or B",
    "B and C",
    "The answer is B or C",
    "答案是A和B",
    "\\boxed{A,B}",
]
WRONG += [
    "The answer is A",
    "the answer is a dog",
    "banana",
    "A man walks",
    "I do not know",
    "BC",
    "I choose B or C",
    "(A) or else (B)",
]
UNDECIDED = ["A. Oslo\nB. Rome\nC. Bonn", "The answer is not B", "Perhaps B, perhaps not."]
UNDECIDED += [
    "不应选B",
    "不能选择B",
    "并不应该选B",
    "B不正确",
    "I doubt that B is correct",
    "Is B right?",
    "A is wrong. B is correct. C is correct",
]
UNDECIDED += ["I think of Rome, in Italy", "Option B is wrong"]


@pytest.mark.parametrize("answer", RIGHT)
def test_a_settled_answer_is_right(answer):
    assert choice.check(answer, ASKED) is Verdict.right


@pytest.mark.parametrize("answer", WRONG)
def test_another_letter_or_two_or_none_are_wrong(answer):
    assert choice.check(answer, ASKED) is Verdict.wrong


@pytest.mark.parametrize("answer", UNDECIDED)
def test_a_letter_that_is_only_mentioned_is_undecided(answer):
    assert choice.check(answer, ASKED) is Verdict.undecided


def test_several_letters_can_be_asked_for():
    found = [
        choice.check(answer, "BD") for answer in ("BD", "答案：D、B", "B and D", "B", "A, B, D")
    ]
    assert found == [Verdict.right] * 3 + [Verdict.wrong] * 2


@pytest.mark.parametrize("truth", ["", "K", "1", None, {}, {"letter": "D", "options": ["a", "b"]}])
def test_a_letter_that_there_is_not_is_an_error(truth):
    assert choice.check("B", truth) is Verdict.error


ACCEPTED = [
    ("Eiffel tower", ["the Eiffel Tower", "La Tour Eiffel"]),
    ("“La tour Eiffel.”", ["the Eiffel Tower", "La Tour Eiffel"]),
    ("埃菲尔铁塔。", "《埃菲尔铁塔》"),
    ("1,000 men", "1 000 men"),
    ("Saint Johns", "Saint John's"),
    ("%", "%"),
    ("−5 degrees", "-5 degrees"),
    ("–5 degrees", "-5 degrees"),
]
REFUSED = [("the tower", "Eiffel tower"), ("Eiffel tower in Paris", "Eiffel tower"), ("", "%")]
REFUSED += [
    ("5", "-5"),
    ("–5", "5"),
    ("3 14", "3.14"),
    ("10.30", "10:30"),
    ("C", "C++"),
    ("C#", "C"),
]


@pytest.mark.parametrize(("answer", "truth"), ACCEPTED)
def test_a_match_is_the_same_words(answer, truth):
    assert match.check(answer, truth) is Verdict.right


@pytest.mark.parametrize(("answer", "truth"), REFUSED)
def test_other_words_are_no_match(answer, truth):
    assert match.check(answer, truth) is Verdict.wrong


@pytest.mark.parametrize("truth", ["", [], [""], None, 3, ["a", 3]])
def test_a_match_with_nothing_is_an_error(truth):
    assert match.check("a", truth) is Verdict.error


def test_f1_is_the_best_overlap_with_an_accepted_answer():
    # 2 shared words of 3 and 4 (articles do not count): precision 2/3, recall 2/4
    assert match.f1("in the old town", ["the old town of Bern", "Rome"]) == pytest.approx(4 / 7)
    assert match.f1("Rome", ["Oslo", "rome."]) == 1.0
    assert match.f1("", ["Rome"]) == 0.0
