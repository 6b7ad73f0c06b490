"""Function calls: BFCL's rows, their gold answers in both forms, and what may not pass for one."""

import copy
import gzip
import json
from itertools import product

import pytest

from baiwen.verify import Verdict, function_call, python_call

KINDS = ["simple_python", "multiple", "parallel", "parallel_multiple"]
TYPED = ["simple_java", "simple_javascript"]
# The gold answer of parallel_multiple_12 gives an argument that its function does not have.
DEFECTS = {"parallel_multiple_12"}


def rows(shared, kind):
    with gzip.open(shared / f"eval/bfcl_v4/{kind}_dev.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def first(accepted):
    """The first accepted value that is one; within dicts each key has such a list again."""
    return unwrapped(next((value for value in accepted if value != ""), accepted[0]))


def unwrapped(value):
    if isinstance(value, dict):
        return {key: first(each) if isinstance(each, list) else each for key, each in value.items()}
    return [unwrapped(each) for each in value] if isinstance(value, list) else value


def gold(row):
    return [
        {"name": name, "arguments": {key: first(values) for key, values in accepted.items()}}
        for call in row["ground_truth"]
        for name, accepted in call.items()
    ]


def tagged(calls):
    return "\n".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls)


def python(calls):
    words = [", ".join(f"{k}={v!r}" for k, v in call["arguments"].items()) for call in calls]
    named = [f"{call['name']}({given})" for call, given in zip(calls, words, strict=True)]
    return f"[{', '.join(named)}]"


@pytest.mark.parametrize(
    ("kind", "form"), [*product(KINDS, (tagged, python)), *product(TYPED, (tagged,))]
)
def test_the_gold_answer_is_right(shared, kind, form):
    refused = [
        row["id"]
        for row in rows(shared, kind)
        if function_call.check(form(gold(row)), row) is not Verdict.right
    ]
    assert set(refused) <= DEFECTS


@pytest.mark.parametrize("kind", KINDS + TYPED)
def test_a_wrong_value_everywhere_is_wrong(shared, kind):
    for row in rows(shared, kind):
        calls = gold(row)
        for call in calls:
            call["arguments"] = dict.fromkeys(call["arguments"], "WRONG")
        assert function_call.check(tagged(calls), row) is Verdict.wrong


def spoilt(value):
    """A value of the same type that is another."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 7
        case str():
            return f"{value}x"
        case list():
            return [*value, "x"]
        case _:
            return {**value, "unasked": 1}


def spoilt_calls(row):
    """Calls one step away from the gold ones."""
    calls = gold(row)
    yield calls[1:]
    yield [*calls, calls[0]]
    yield [{**calls[0], "name": "other"}, *calls[1:]]
    for at, key in ((at, key) for at, call in enumerate(calls) for key in call["arguments"]):
        accepted = next(iter(row["ground_truth"][at].values()))[key]
        for changed in (
            {**calls[at]["arguments"], "unasked": 1},
            without(calls[at], key, accepted),
        ):
            if changed is not None:
                yield [*calls[:at], {**calls[at], "arguments": changed}, *calls[at + 1 :]]
        value = spoilt(calls[at]["arguments"][key])
        if value not in accepted:
            other = copy.deepcopy(calls)
            other[at]["arguments"][key] = value
            yield other


def without(call, key, accepted):
    if "" in accepted:
        return None
    return {name: value for name, value in call["arguments"].items() if name != key}


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_away_from_the_gold_answer_is_wrong(shared, kind):
    passed = [
        (row["id"], calls)
        for row in rows(shared, kind)
        for calls in spoilt_calls(row)
        if function_call.check(tagged(calls), row) is not Verdict.wrong
    ]
    assert passed == []


def test_where_nothing_fits_words_are_right_and_calls_are_wrong(shared):
    for row in rows(shared, "irrelevance"):
        call = {"name": row["function"][0]["name"], "arguments": {}}
        assert function_call.check("None of these functions fits.", row) is Verdict.right
        for answer in ("", tagged([call]), python([call]), "<tool_call>\n{broken", "[f(1)]"):
            assert function_call.check(answer, row) is Verdict.wrong


KIND = {
    "city": {"type": "string"},
    "days": {"type": "integer"},
    "wind": {"type": "float"},
    "hours": {"type": "array", "items": {"type": "float"}},
    "place": {"type": "dict"},
    "stops": {"type": "array", "items": {"type": "dict"}},
    "exact": {"type": "boolean"},
    "unit": {"type": "string"},
}
ROW = {
    "function": [{"name": "geo.trip", "parameters": {"properties": KIND, "required": ["city"]}}],
    "ground_truth": [
        {
            "geo.trip": {
                "city": ["St. John's", "Saint John"],
                "days": [2],
                "wind": [3.0, ""],
                "hours": [[1.0, 2.5], ""],
                "place": [{"lat": [5], "near": [{"name": ["Oslo"]}, ""]}, ""],
                "stops": [[{"name": ["A", "B"]}], ""],
                "exact": [True, ""],
                "unit": ["", "km"],
            }
        }
    ],
}
ACCEPTED = [
    '[geo.trip(city="St. John\'s", days=2)]',
    "geo.trip(city='st johns', days=2)".replace("johns", 'john"s'),
    '```python\n[geo.trip(city="saint_john", days=2, wind=3)]\n```',
    'geo.trip(city="Saint John", days=2, hours=(1, 2.5), exact=True, unit="KM")',
    'geo.trip(city="Saint John", days=2, place={"lat": 5, "near": {"name": "Oslo"}})',
    'geo.trip(city="Saint John", days=2, place={"lat": 5}, stops=[{"name": "b"}])',
    "Let me see.\n<tool_call>\n"
    '{"name": "geo.trip", "arguments": {"city": "Saint John", "days": 2}}\n</tool_call>',
]
REFUSED = [
    'geo.trip(city="Saint John", days=2.0)',
    'geo.trip(city="Saint John", days="2")',
    'geo.trip(city="Saint John", days=True)',
    'geo.trip(city="Saint John", days=1 + 1)',
    'geo.trip("Saint John", 2)',
    'geo.trip(**{"city": "Saint John", "days": 2})',
    'geo.trip(city="Saint John")',
    'geo.trip(city="Saint John", days=2, exact=1)',
    'geo.trip(city="Saint John", days=2, hours=[2.5, 1])',
    'geo.trip(city="Saint John", days=2, place={"near": {"name": "Oslo"}})',
    'geo.trip(city="Saint John", days=2, place={"lat": 5, "near": {"name": "Bonn"}})',
    'geo.trip(city="Saint John", days=2, stops=[{"name": "c"}])',
    'trip(city="Saint John", days=2)',
    'print(geo.trip(city="Saint John", days=2))',
    'I call geo.trip(city="Saint John", days=2)',
    'geo.trip(city="Saint John", days=2), geo.trip(city="Saint John", days=2)',
]


@pytest.mark.parametrize("answer", ACCEPTED)
def test_it_accepts(answer):
    assert function_call.check(answer, ROW) is Verdict.right


@pytest.mark.parametrize("answer", REFUSED)
def test_it_refuses(answer):
    assert function_call.check(answer, ROW) is Verdict.wrong


def test_parallel_calls_are_paired_as_a_whole():
    """Taken one by one, the first expectation would take the only call that fits the second."""
    function = {"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}}}
    row = {"function": [function], "ground_truth": [{"f": {"a": [1, 2]}}, {"f": {"a": [1]}}]}
    assert function_call.check("[f(a=1), f(a=2)]", row) is Verdict.right
    assert function_call.check("[f(a=2), f(a=2)]", row) is Verdict.wrong


FAULTY = [
    {},
    {"function": []},
    {"function": [{"name": "f"}], "ground_truth": []},
    {**ROW, "ground_truth": None},
    {**ROW, "ground_truth": [{"other": {"a": [1]}}]},
    {**ROW, "ground_truth": [{"geo.trip": {"city": "Rome"}}]},
]


@pytest.mark.parametrize("truth", FAULTY)
def test_a_row_that_cannot_be_read_is_an_error(truth):
    assert function_call.check('[f(city="Rome")]', truth) is Verdict.error


def test_python_is_parsed_and_never_run(tmp_path):
    made = tmp_path / "made"
    with pytest.raises(ValueError, match="keyword"):
        python_call.calls(f"[open({str(made)!r}, 'w')]")
    assert python_call.calls(f"f(a=open({str(made)!r}, 'w'))")[0]["arguments"] == {
        "a": f"open({str(made)!r}, 'w')"
    }
    assert not made.exists()
