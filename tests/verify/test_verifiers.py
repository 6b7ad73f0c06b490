"""Each verifier against pairs written by hand: what it has to accept, what it has to refuse."""

import pytest

from baiwen import verify
from baiwen.errors import UserError
from baiwen.verify import Verdict

PERSON = {"name": "Ann", "age": 31}
CALL = {"name": "weather", "arguments": {"city": "Rome", "day": 2}}
CALL_TEXT = (
    '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome", "day": 2}}\n</tool_call>'
)
END = "</tool_call>\\n<tool_call>"  # words, within a string
TAGGED = {"city": "</tool_call>\n<tool_call>", "day": 2}

RIGHT = [
    ("number", "7+5=12\n47+35=82", "82"),
    ("number", "So it is 1,234.50.", 1234.5),
    ("number", "-3", -3),
    ("number", "答案是－3。", "-3"),
    ("number", "x = \u22123", "-3"),
    ("number", "9-4", 4),
    ("number", "3/4", "0.75"),
    ("number", ".5", "1/2"),
    ("number", "８２", 82),
    ("number", "x = \u20133", -3),
    ("number", "The area is 12 m²", 12),
    ("number", "1.5e3", 1500),
    ("number", "0.0000001", 1e-7),
    ("exact", ' "Rome".\n', "Rome"),
    ("exact", "New\n York", "New York"),
    ("exact", "“北京”。", "北京"),
    ("words", "3, 14, 27", ["3", "14", "27"]),
    ("words", "[3 14 27].", ["3", "14", "27"]),
    ("words", "苹果、梨", ["苹果", "梨"]),
    ("json_value", '{"age": 31, "name": "Ann"}', PERSON),
    ("json_value", '```json\n{"age": 31.0,\n "name": "Ann"}\n```', PERSON),
    ("json_value", "null", None),
    ("tool_call", CALL_TEXT, CALL),
    ("tool_call", f"I look it up.\n{CALL_TEXT}", [CALL]),
    ("tool_call", f"{CALL_TEXT}\n{CALL_TEXT}", [CALL, CALL]),
    ("tool_call", CALL_TEXT, {"name": "weather", "schema": {"required": ["day"]}}),
    ("tool_call", CALL_TEXT.replace("Rome", END), {"name": "weather", "arguments": TAGGED}),
    ("instruction", "RED SUN", [{"is": "upper_case"}, {"is": "word_count", "count": 2}]),
    ("instruction", "sun, sun, sun.", [{"is": "repeats", "word": "sun", "count": 3}]),
    ("instruction", "sun sun", [{"is": "repeats", "word": "sun", "count": 1, "most": 2}]),
    ("instruction", "山 山", [{"is": "repeats", "word": "山", "count": 2}]),
    ("instruction", "I saw the Moon!", [{"is": "ends_with", "word": "moon"}]),
    ("instruction", "- a cat\n* dog", [{"is": "bullets", "count": 2}]),
    ("instruction", "A red fox.", [{"is": "contains", "word": "red fox"}]),
    ("instruction", "我爱北京", [{"is": "word_count", "count": 4}]),
]
WRONG = [
    ("number", "none at all", "82"),
    ("number", "146" + " " * 3998, "46"),
    ("number", "82 or 83", "82"),
    ("number", "0.9999999", 1),  # a float tolerance would accept these two
    ("number", "100000.4", 100000),
    ("number", "8 2", 82),
    ("number", "1/0", 1),
    ("number", "9" * 5000, 9),
    ("number", "x = \u20133", 3),
    ("number", "10²", 102),
    ("number", "3½", "11/2"),
    ("number", "1.5²", 1),
    ("number", "1,234²", 1),
    ("number", "1e9999", 1),
    ("exact", "rome", "Rome"),
    ("exact", "It is Rome", "Rome"),
    ("words", "14, 3, 27", ["3", "14", "27"]),
    ("words", "3, 14, 27, 27", ["3", "14", "27"]),
    ("words", "Sorted: 3, 14, 27", ["3", "14", "27"]),
    ("json_value", '{"age": "31", "name": "Ann"}', PERSON),
    ("json_value", '{"age": 31, "name": "Ann", "age": 31}', PERSON),
    ("json_value", '{"age": 31, "name": "Ann",}', PERSON),
    ("json_value", '{"age": 31}', PERSON),
    ("json_value", "true", 1),
    ("json_value", "NaN", None),
    ("json_value", "[" * 100_000, []),
    ("tool_call", CALL_TEXT.replace("Rome", "Oslo"), CALL),
    ("tool_call", CALL_TEXT.replace("2}", '"2"}'), CALL),
    ("tool_call", CALL_TEXT.replace("weather", "wether"), CALL),
    ("tool_call", CALL_TEXT.removesuffix("</tool_call>"), CALL),
    ("tool_call", f"{CALL_TEXT} and more", CALL),
    ("tool_call", f"{CALL_TEXT} and {CALL_TEXT}", [CALL, CALL]),
    ("tool_call", CALL_TEXT.replace("2}", "2} {}"), CALL),
    ("tool_call", f"{CALL_TEXT}\n{CALL_TEXT}", CALL),
    ("tool_call", str(CALL), CALL),
    ("tool_call", CALL_TEXT, {"name": "weather", "schema": {"required": ["hour"]}}),
    ("tool_call", CALL_TEXT, {"name": "alarm", "schema": {}}),
    ("tool_call", f"{CALL_TEXT}\n{CALL_TEXT}", {"name": "weather", "schema": {}}),
    ("tool_call", "", {"name": "weather", "schema": {}}),
    ("instruction", "Red Sun", [{"is": "upper_case"}]),
    ("instruction", "123", [{"is": "upper_case"}]),
    ("instruction", "sun sun", [{"is": "repeats", "word": "sun", "count": 3}]),
    ("instruction", "sun sun", [{"is": "repeats", "word": "sun", "count": 3, "most": 9}]),
    ("instruction", "sun sun", [{"is": "repeats", "word": "sun", "count": 1, "most": 1}]),
    ("instruction", "sun moon", [{"is": "repeats", "word": "sun", "count": 1, "most": 9}]),
    ("instruction", "the concatenate", [{"is": "contains", "word": "cat"}]),
    ("instruction", "---\n- a", [{"is": "bullets", "count": 2}]),
    ("instruction", "moonlight", [{"is": "ends_with", "word": "light"}]),
]
FAULTY = [
    ("number", "7", "seven"),
    ("exact", "", ""),
    ("words", "a", "a"),
    ("words", "", []),
    ("tool_call", CALL_TEXT, {"name": "weather"}),
    ("tool_call", "", []),
    ("tool_call", CALL_TEXT, {"name": "weather", "schema": {"type": "thing"}}),
    ("instruction", "anything", [{"is": "rhymes"}]),
    ("instruction", "anything", [{"is": "word_count", "words": 1}]),
    ("instruction", "anything", []),
    ("instruction", "anything", [{"is": "word_count", "count": "1"}]),
    ("instruction", "anything", [{"is": "contains", "word": ""}]),
    ("instruction", "anything", [{"is": "repeats", "word": "!", "count": 1}]),
]


@pytest.mark.parametrize(("verifier", "answer", "truth"), RIGHT)
def test_it_accepts(verifier, answer, truth):
    assert verify.check(verifier, answer, truth) is Verdict.right


@pytest.mark.parametrize(("verifier", "answer", "truth"), WRONG)
def test_it_refuses(verifier, answer, truth):
    assert verify.check(verifier, answer, truth) is Verdict.wrong


@pytest.mark.parametrize(("verifier", "answer", "truth"), FAULTY)
def test_a_truth_that_cannot_be_read_is_an_error_and_no_verdict_on_the_answer(
    verifier, answer, truth
):
    assert verify.check(verifier, answer, truth) is Verdict.error


def test_a_verifier_that_does_not_exist_is_named():
    with pytest.raises(UserError, match="no verifier 'numbre'; there are choice"):
        verify.check("numbre", "1", 1)


def test_a_verdict_is_its_own_name_in_json():
    assert f"{Verdict.undecided}" == "undecided"
