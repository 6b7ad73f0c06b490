"""JSON under a schema: the official suite, and schemas that hang or crash other validators."""

import gzip
import json
import time

import pytest

from baiwen.verify import Verdict, schema

# Their schemas refer to documents on the network, which are not read.
REMOTE = {"refRemote.json", "dynamicRef.json", "vocabulary.json", "optional/format-assertion.json"}


@pytest.fixture(scope="module")
def suite(shared):
    with gzip.open(shared / "structured/json_schema_tests_dev.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def test_the_official_cases_get_their_verdicts(suite):
    unread, differ = 0, []
    for group in suite:
        formats = group["file"].startswith("optional/format/")
        for case in group["tests"]:
            asked = {"schema": group["schema"], "formats": formats}
            verdict = schema.check(json.dumps(case["data"]), asked)
            if verdict is Verdict.error and group["file"] in REMOTE:
                unread += 1
            elif verdict is not Verdict.of(case["valid"]):
                differ.append((group["file"], case["description"], verdict))
    assert differ == []
    assert unread == 34


PERSON = {
    "type": "object",
    "required": ["name", "age"],
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "additionalProperties": False,
}
RIGHT = [
    ('{"age": 31, "name": "Ann"}', PERSON),
    ('```json\n{"age": 31, "name": "Ann"}\n```', PERSON),
    ("[3]", {"schema": {"type": "array"}, "value": [3.0]}),
    ("null", True),
    ('"3000-13-77"', {"schema": {"format": "date"}}),
    ('"aB1"', {"pattern": "^(?=.*[A-Z])(?=.*[0-9])"}),
]
WRONG = [
    ('{"age": "31", "name": "Ann"}', PERSON),
    ('{"age": 31, "name": "Ann", "age": 31}', PERSON),
    ('Here: {"age": 31, "name": "Ann"}', PERSON),
    ('{"age": -1, "name": "Ann"}', PERSON),
    ("[4]", {"schema": {"type": "array"}, "value": [3]}),
    ("3", False),
    ("NaN", True),
    ('"\\ud800"', True),
    ('"3000-13-77"', {"schema": {"format": "date"}, "formats": True}),
]
FAULTY = [None, 12, "x", {"type": 3}, {"pattern": "("}, {"$ref": "http://localhost/schema"}]
FAULTY += [{"$ref": "file:///etc/passwd"}, {"$ref": "#/missing"}, {"schema": 3}]


@pytest.mark.parametrize(("answer", "truth"), RIGHT)
def test_it_accepts(answer, truth):
    assert schema.check(answer, truth) is Verdict.right


@pytest.mark.parametrize(("answer", "truth"), WRONG)
def test_it_refuses(answer, truth):
    assert schema.check(answer, truth) is Verdict.wrong


@pytest.mark.parametrize("truth", FAULTY)
def test_a_schema_that_cannot_be_read_is_an_error(truth):
    assert schema.check("{}", truth) is Verdict.error


def doubling(reference):
    """Each definition names the next one twice: 2^60 subschemas when they are written out."""
    definitions = {
        f"d{at}": {"$anchor": f"d{at}", "allOf": [{"$ref": reference.format(at + 1)}] * 2}
        for at in range(60)
    }
    last = {"$anchor": "d60", "type": "string"}
    return {"$defs": {**definitions, "d60": last}, "$ref": reference.format(0)}


NESTED = "[" * 900 + "]" * 900
OBJECTS = '{"a":' * 900 + "1" + "}" * 900
EITHER = {"properties": {"a": {"$ref": "#"}}}
HOSTILE = [
    ({"pattern": "^(a+)+$"}, f'"{"a" * 100_000}b"', Verdict.wrong),
    ({"pattern": "^(?=a)(a+)+$"}, f'"{"a" * 1000}b"', Verdict.wrong),
    ({"pattern": "((a{0,1000}){0,1000}){0,1000}"}, '"a"', Verdict.error),
    ({"$ref": "#"}, "1", Verdict.right),
    ({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}, NESTED, Verdict.right),
    ({"items": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}, NESTED, Verdict.right),
    ({"anyOf": [{**EITHER, "required": ["b"]}, EITHER]}, OBJECTS, Verdict.right),
    (doubling("#/$defs/d{}"), '"a"', Verdict.error),
    (doubling("#d{}"), '"a"', Verdict.error),
    ({"uniqueItems": True}, json.dumps([{"a": at} for at in range(50_000)]), Verdict.right),
    ({"not": {"not": {"$ref": "#"}}}, "1", None),
]


@pytest.mark.parametrize(("truth", "answer", "expected"), HOSTILE, ids=range(len(HOSTILE)))
def test_no_schema_hangs_or_crashes(truth, answer, expected):
    begin = time.process_time()
    verdict = schema.check(answer, truth)
    assert time.process_time() - begin < 1.0
    assert expected is None or verdict is expected
