"""Structured output against jsonschema, Python's `re` and the JSON-Schema test suite."""

import gc
import gzip
import json
import random
import re
import weakref
from collections.abc import Sequence

import pytest
import torch

from baiwen.engine.grammar import LONGEST, Grammar
from baiwen.engine.matcher import Matcher, bar, bias, masks
from baiwen.errors import UserError
from baiwen.tokenizer import Tokenizer, train
from baiwen.tokenizer.vocabulary import SYMBOLS

jsonschema = pytest.importorskip("jsonschema", reason="the oracle of these tests")

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b", 3, None]}, "maxItems": 3},
        "born": {"type": "string", "format": "date"},
        "kind": {"$ref": "#/$defs/kind"},
    },
    "required": ["name", "age", "born"],
    "additionalProperties": False,
    "$defs": {"kind": {"oneOf": [{"const": "cat"}, {"const": "dog"}, {"type": "null"}]}},
}
SCHEMAS = [
    PERSON,
    {"type": "object"},
    {"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "number"}], "minItems": 2},
    {"type": "number", "minimum": -1.5, "exclusiveMaximum": 2.25},
    {"type": "integer", "multipleOf": 7, "minimum": 10},
    {"type": "string", "pattern": "^[a-f]{2,5}(-[0-9]+)?$"},
    {"type": "object", "patternProperties": {"^n_": {"type": "integer"}}, "maxProperties": 2,
     "additionalProperties": {"type": "string", "maxLength": 3}},
    {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}},
               {"required": ["a"], "properties": {"a": {"maximum": 5}, "b": {"type": "null"}},
                "additionalProperties": False}]},
    *({"type": "string", "format": name} for name in ("date-time", "time", "hostname", "ipv4",
                                                      "ipv6", "uuid", "email", "uri", "duration")),
    {"anyOf": [{"$ref": "#/$defs/tree"}], "$defs": {"tree": {
        "type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/tree"},
                                                            {"type": "null"}]}},
        "required": ["next"], "additionalProperties": False}}},
]  # fmt: skip
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "maxLength": 8}},
        "required": ["city"], "additionalProperties": False}}},
    {"type": "function", "function": {"name": "add", "parameters": {
        "type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
        "required": ["x", "y"], "additionalProperties": False}}},
    {"type": "function", "function": {"name": "now"}},
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(['{"name": "Ann", "age": 31, "tags": ["a", null]} "}, true false'] * 20, 280)


@pytest.fixture(scope="module")
def qwen(shared) -> Tokenizer:
    return Tokenizer.load(shared / "tokenizer" / "qwen2.5")


def barred(matcher: Matcher, guesses: Sequence[int] = ()) -> torch.Tensor:
    """What its grammar adds to the logits of a matcher, and after each guess: [1 + guesses, V]."""
    return bias(masks([(matcher, guesses)])[0], matcher.vocabulary, torch.device("cpu"))


def allowed(matcher: Matcher) -> list[int]:
    return torch.nonzero(barred(matcher)[0] == 0).flatten().tolist()


def walk(tokenizer: Tokenizer, grammar: Grammar, seed: int, most: int = 400) -> list[int] | None:
    """What a model of random logits that likes to close things says; None if it goes on."""
    generator = torch.Generator().manual_seed(seed)
    closing = [token for token, word in enumerate(tokenizer.vocabulary.spellings)
               if word[:1] in b'"}]0']  # fmt: skip
    matcher, ids = grammar.matcher(), []
    while not matcher.finished:
        logits = torch.randn(len(tokenizer) + 7, generator=generator)[: len(tokenizer)]
        logits[closing] += 2.5
        ids.append(int((logits + barred(matcher)[0]).argmax()))
        matcher.push(ids[-1])
        if len(ids) > most:
            return None
    return ids


def spelled(tokenizer: Tokenizer, text: str) -> list[int]:
    """`text` byte by byte, not normalised."""
    return [tokenizer.vocabulary.ids[SYMBOLS[byte]] for byte in text.encode()]


def takes(tokenizer: Tokenizer, grammar: Grammar, text: str) -> bool:
    """May `text` be the whole answer?"""
    matcher, ids = grammar.matcher(), spelled(tokenizer, text)
    if matcher.accepts(ids) < len(ids):
        return False
    for token in ids:
        matcher.push(token)
    return matcher.complete


def validator(schema):
    known = jsonschema.Draft202012Validator
    return known(schema, format_checker=known.FORMAT_CHECKER)


def answers(tokenizer, grammar, number, most=400):
    """The first `number` texts of random walks that come to an end."""
    found = []
    for seed in range(20 * number):
        ids = walk(tokenizer, grammar, seed, most)
        if ids is not None:
            found.append(tokenizer.decode(ids, control=False))
        if len(found) == number:
            return found
    raise AssertionError(f"only {len(found)} of {number} walks end")


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:60])
def test_what_a_random_model_says_under_a_schema_is_valid(tokenizer, schema):
    grammar, check = Grammar.json_schema(tokenizer, schema), validator(schema)
    for text in answers(tokenizer, grammar, 6):
        check.validate(json.loads(text))


def test_what_a_random_model_says_in_the_published_vocabulary_is_valid(qwen):
    for schema in (PERSON, SCHEMAS[2], SCHEMAS[6]):
        grammar, check = Grammar.json_schema(qwen, schema), validator(schema)
        for text in answers(qwen, grammar, 4, most=150):
            check.validate(json.loads(text))


def drawn(rng: random.Random, depth: int = 0) -> dict:
    """A random schema of what is supported, two levels deep."""
    low, span = rng.randint(-30, 30), rng.randint(0, 40)
    leaves = [
        {"type": "integer", "minimum": low, "maximum": low + span},
        {"type": "number", "exclusiveMinimum": low / 8, "maximum": (low + span + 1) / 8},
        {"type": "integer", "multipleOf": rng.randint(2, 9), "minimum": low, "maximum": low + 50},
        {"type": "string", "minLength": rng.randint(0, 2), "maxLength": rng.randint(2, 6)},
        {"type": "string", "pattern": rng.choice(["^[a-c]+$", "x", "^(a|bb){1,3}$", "^\\S\\d?$"])},
        {"type": "string", "pattern": "^[ab]*$", "maxLength": rng.randint(1, 4)},
        {"enum": rng.sample([1, "a", None, True, [1, {"b": 2}], {"c": []}, 2.5, "é\n"], 3)},
        {"const": rng.choice(['"', {"k": [None]}, -3, ""])},
        {"type": rng.sample(["null", "boolean", "integer"], 2)},
    ]
    if depth == 2 or rng.random() < 0.25:
        return rng.choice(leaves)
    inner = [drawn(rng, depth + 1) for _ in range(3)]
    names = rng.sample(["a", "b", "ab", "é", "n_1", '"', "x y"], 3)
    required = rng.sample(names, rng.randint(0, 3))
    named = {"type": "object", "properties": dict(zip(names, inner, strict=True))}
    return rng.choice(
        [
            named | {"required": required, "additionalProperties": rng.random() < 0.3},
            named | {"required": names, "maxProperties": 4, "additionalProperties": inner[0]},
            {"type": "object", "patternProperties": {"^n_": inner[0]}, "minProperties": 1,
             "additionalProperties": inner[1]},
            {"type": "array", "items": inner[0], "minItems": rng.randint(0, 2), "maxItems": 3},
            {"type": "array", "prefixItems": inner[:2], "items": inner[2], "maxItems": 4},
            {"anyOf": inner},
            {"allOf": [named | {"required": required}, {"properties": {names[0]: inner[1]}}]},
            {"$defs": {"d": inner[0]}, "type": "array", "items": {"anyOf": inner[1:]},
             "maxItems": 2} if depth == 0 else {"oneOf": inner[:2]},
        ]
    )  # fmt: skip


def test_what_is_said_under_random_schemas_is_valid(tokenizer):
    rng, compiled = random.Random(0), 0
    for _ in range(120):
        schema = drawn(rng)
        try:
            grammar = Grammar.json_schema(tokenizer, schema)
        except UserError:
            continue
        compiled += 1
        for seed in range(3):
            if (ids := walk(tokenizer, grammar, seed, most=120)) is not None:
                text = tokenizer.decode(ids, control=False)
                assert validator(schema).is_valid(json.loads(text)), (schema, text)
    assert compiled > 70


def test_a_json_object_is_an_object(tokenizer):
    grammar = Grammar.json_object(tokenizer)
    assert all(isinstance(json.loads(text), dict) for text in answers(tokenizer, grammar, 6))
    assert takes(tokenizer, grammar, '{\n  "a": [1, 2.5e3, "é\\n", true],\n  "b": {}\n}')
    assert not takes(tokenizer, grammar, "[1]")


# What is valid but never said: other spellings of a number, other orders of properties, and forms
# of addresses and times that the formats here leave out.
UNSAID = re.compile(
    r"float|zero fractional|\[\d\.0\]|different property order|annotation by default|leap second"
    r"|quoted string|IPv6-address-literal|63|consecutive hyphens|xn--"
)


def test_no_answer_is_unsound_by_the_json_schema_test_suite(tokenizer, shared):
    path = shared / "structured" / "json_schema_tests_dev.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        cases = [json.loads(line) for line in lines]
    compiled = 0
    for case in cases:
        try:
            grammar = Grammar.json_schema(tokenizer, case["schema"])
        except UserError as error:
            assert str(error).startswith("schema")
            continue
        compiled += 1
        for test in case["tests"]:
            texts = {json.dumps(test["data"]), json.dumps(test["data"], ensure_ascii=False)}
            taken = any(takes(tokenizer, grammar, text) for text in texts)
            told = f"{case['description']}: {test['description']}: {texts}"
            assert taken == test["valid"] or (test["valid"] and UNSAID.search(told)), told
    assert compiled >= 110


REFUSED = {
    "schema.properties.a.uniqueItems": {"properties": {"a": {"uniqueItems": True}}},
    "schema.minLenght is not supported in structured output. Did you mean minLength?":
        {"type": "string", "minLenght": 3},
    "schema.x-guidance": {"x-guidance": {"lenient": True}, "not": {}},
    "schema.allOf[1].if": {"allOf": [True, {"if": {}, "then": {}}]},
    "schema.contains": {"contains": {}},
    "schema.dependentSchemas": {"dependentSchemas": {}},
    "schema.unevaluatedProperties": {"unevaluatedProperties": False},
    "schema.items.format is 'idn-email'": {"items": {"format": "idn-email"}},
    "schema.oneOf is supported only where": {"oneOf": [{"minimum": 1}, {"maximum": 2}]},
    "schema.$ref is 'http://a.b/c'": {"$ref": "http://a.b/c"},
    "schema.$ref is '#/default'": {"$ref": "#/default", "default": {"minLenght": 1}},
    "schema.maxProperties is supported only": {"maxProperties": 3, "properties": {"a": {}}},
    "schema.patternProperties is not supported: patternProperty regexes /a/ and /b/ are not":
        {"patternProperties": {"a": {}, "b": {}}},
    "schema.minProperties is 2": {"minProperties": 2},
    "schema.maximum is 1e+300": {"maximum": 1e300},
    "schema.type must be": {"type": "text"},
    "schema.maxItems must be": {"maxItems": -1},
    "schema.items must be a schema": {"items": [{}]},
    "schema.const": {"const": "a\0b"},
    "schema.patternProperties": {"patternProperties": {"\\x00": True}},
    "schema.pattern is '[a&&b]'": {"pattern": "[a&&b]"},
    "schema.pattern is '(?=a)b'": {"pattern": "(?=a)b"},
    "schema: no text satisfies it": {"$ref": "#"},
    "schema: Unsatisfiable schema": {"type": "string", "const": 3},
}  # fmt: skip


@pytest.mark.parametrize(("told", "schema"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_be_enforced_is_refused_by_its_path(tokenizer, told, schema):
    with pytest.raises(UserError, match=f"^{re.escape(told)}"):
        Grammar.json_schema(tokenizer, schema)


def test_annotations_change_nothing(tokenizer):
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:a:b",
              "title": "T", "default": 3, "x-order": 1, "type": "integer"}  # fmt: skip
    grammar = Grammar.json_schema(tokenizer, schema)
    assert takes(tokenizer, grammar, "12")
    assert not takes(tokenizer, grammar, '"a"')


def test_an_escape_is_no_second_name_of_a_property(tokenizer):
    grammar = Grammar.json_schema(tokenizer, {"properties": {"foo": {"type": "integer"}}})
    assert takes(tokenizer, grammar, '{"foo": 1, "bar": "x"}')
    assert not takes(tokenizer, grammar, '{"\\u0066oo": "x"}')


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"exclusiveMinimum": 3, "maximum": 3.5}, ["3.1", "3.5"], ["3", "3.0", "3.51"]),
        ({"minimum": -2.6, "exclusiveMaximum": -2}, ["-2.1", "-2.6"], ["-2", "-2.0", "-2.61"]),
        ({"allOf": [{"exclusiveMinimum": 0}, {"maximum": 0.5}]}, ["0.25"], ["0", "-0", "0.0"]),
        ({"exclusiveMinimum": -3, "exclusiveMaximum": 4}, ["-2.9", "0", "3.9"], ["-3", "4"]),
    ],
)
def test_a_bound_that_is_excluded_is_not_said(tokenizer, schema, right, wrong):
    grammar = Grammar.json_schema(tokenizer, {"type": "number", **schema})
    assert [text for text in right + wrong if takes(tokenizer, grammar, text)] == right


def test_a_date_is_one_of_the_calendar(tokenizer):
    grammar = Grammar.json_schema(tokenizer, {"type": "string", "format": "date"})
    right = ["2024-02-29", "2000-02-29", "0004-02-29", "2023-12-31", "9999-01-30"]
    wrong = ["2023-02-29", "1900-02-29", "2024-02-30", "2023-04-31", "2023-13-01", "0000-01-01"]
    assert [text for text in right + wrong if takes(tokenizer, grammar, f'"{text}"')] == right


def test_a_choice_is_one_of_its_options_and_nothing_else(tokenizer):
    options = ["no", "not", "név", '"quoted"', "a\nb", "<|im_end|>", "\x7f", "/#{}"]
    grammar = Grammar.choice(tokenizer, options)
    found, ends = set(), {tokenizer.end_of_turn, tokenizer.end_of_text}
    paths = [[]]
    while paths:  # every way through the grammar
        ids = paths.pop()
        matcher = grammar.matcher()
        for token in ids:
            matcher.push(token)
        nexts = set(allowed(matcher))
        if nexts & ends:
            found.add(tokenizer.decode(ids))
        paths += [[*ids, token] for token in nexts - ends]
    assert found == set(options)


@pytest.mark.parametrize(
    "pattern", ["[a-c]{3}", "a|bc", r"\d+(\.\d{2})?", "(?i)yes|no", "x?", "é+"]
)
def test_a_regex_is_matched_from_end_to_end(tokenizer, pattern):
    grammar = Grammar.regex(tokenizer, pattern)
    for text in answers(tokenizer, grammar, 5):
        assert re.fullmatch(pattern, text), text
    for text in ("abc", "a", "bc", "abcd", "1.25", "1.2", "YES", "yess", "", "x", "éé", "xabc"):
        assert takes(tokenizer, grammar, text) == bool(re.fullmatch(pattern, text)), text


def test_a_lark_grammar_is_followed(tokenizer):
    text = (
        'start: "<" NAME ">" %json {"type": "integer"} // a comment with <|im_end|>\nNAME: /[a-z]+/'
    )
    grammar = Grammar.lark(tokenizer, text)
    assert takes(tokenizer, grammar, "<abc>12")
    assert not takes(tokenizer, grammar, "<abc>x")


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ("<|im_start|> is not supported", "start: <|im_start|>"),
        ("<[270]> is not supported", 'start: "a" <[270]>'),
        ("<[^270-280]> is not supported", "start: <[^270-280]>"),
        ("%llguidance is not supported", '%llguidance {"no_forcing": true}\nstart: "a"'),
        ("grammar.%json.uniqueItems", 'start: %json {"uniqueItems": true}'),
        ("no JSON schema follows", "start: %json {"),
        ("grammar: ", "begin: 3 +"),
    ],
)
def test_a_lark_grammar_names_no_token_and_leaves_nothing_out(tokenizer, told, text):
    with pytest.raises(UserError, match=re.escape(told)):
        Grammar.lark(tokenizer, text)


def test_forced_calls_are_read_back_and_valid(tokenizer):
    schemas = {tool["function"]["name"]: tool["function"].get("parameters", {}) for tool in TOOLS}
    grammar = Grammar.tool_calls(tokenizer, TOOLS)
    called, counts = set(), set()
    for seed in range(30):
        ids = walk(tokenizer, grammar, seed)
        if ids is None:
            continue
        parsed = tokenizer.parse(tokenizer.decode(ids))
        assert parsed.content == ""
        assert len(parsed.tool_calls) == ids.count(tokenizer.id("<tool_call>"))
        for call in parsed.tool_calls:
            validator(schemas[call["name"]]).validate(call["arguments"])
            called.add(call["name"])
        counts.add(len(parsed.tool_calls))
    assert called == set(schemas)
    assert max(counts) > 1


def test_calls_may_follow_words_where_they_are_free(tokenizer):
    grammar = Grammar.tool_calls(tokenizer, TOOLS, name="add", free=True)
    assert takes(tokenizer, grammar, "Hello <tool_call> in words")
    ids = [
        *spelled(tokenizer, "I add.\n"),
        tokenizer.id("<tool_call>"),
        *spelled(tokenizer, '\n{"name": "add", "arguments": {"x": 1, "y": 2}}\n'),
        tokenizer.id("</tool_call>"),
    ]
    assert grammar.matcher().accepts([*ids, tokenizer.end_of_turn]) == len(ids) + 1
    assert grammar.matcher().accepts([*ids[:-1], tokenizer.end_of_turn]) == len(ids) - 1


def test_the_named_tool_is_called_once(tokenizer):
    grammar = Grammar.tool_calls(tokenizer, TOOLS, name="add", parallel=False)
    for text in answers(tokenizer, grammar, 5):
        assert text.count('"name": "add"') == 1
    with pytest.raises(UserError, match="no tool 'sub' to call; there are: weather, add, now"):
        Grammar.tool_calls(tokenizer, TOOLS, name="sub")


def test_a_rendered_call_is_allowed(qwen):
    calls = [{"name": "weather", "arguments": {"city": "Roma </t"}}, {"name": "now"}]
    turns = [{"role": "user", "content": "?"},
             {"role": "assistant", "content": "", "tool_calls": calls}]  # fmt: skip
    chat = qwen.render(turns)
    ids = [token for token, meant in zip(chat.ids, chat.mask, strict=True) if meant]
    matcher = Grammar.tool_calls(qwen, TOOLS).matcher()
    assert matcher.accepts(ids) == len(ids)
    for token in ids:
        matcher.push(token)
    assert matcher.finished


def test_a_tool_whose_schema_cannot_be_enforced_is_named(tokenizer):
    bad = {"type": "function", "function": {"name": "b", "parameters": {
        "type": "object", "properties": {"c": {"oneOf": [{"minimum": 1}, {}]}}}}}  # fmt: skip
    told = r"^tools\[1\].function.parameters.properties.c.oneOf is supported only"
    with pytest.raises(UserError, match=told):
        Grammar.tool_calls(tokenizer, [TOOLS[0], bad])
    with pytest.raises(UserError, match=r"^tools\[0\].name must be a name"):
        Grammar.tool_calls(tokenizer, [{"name": 'a"b'}])


def test_control_tokens_are_never_text(tokenizer):
    names = [name for name, _ in tokenizer.vocabulary.control]
    ends = {tokenizer.end_of_turn, tokenizer.end_of_text}
    schema = {"type": "object", "properties": {names[1]: {"enum": names}, "b": {"type": "string"}},
              "required": [names[1]], "additionalProperties": False}  # fmt: skip
    grammars = [
        Grammar.json_schema(tokenizer, schema),
        Grammar.regex(tokenizer, r"[\s\S]*"),
        Grammar.choice(tokenizer, names),
        Grammar.lark(tokenizer, "start: /(?s:.*)/"),
    ]
    generator = torch.Generator().manual_seed(0)
    for grammar in grammars:
        matcher = grammar.matcher()
        for _ in range(40):
            logits = torch.randn(len(tokenizer), generator=generator) + barred(matcher)[0]
            control = {
                token for token in tokenizer.vocabulary.control_ids.values() if logits[token] > -9e9
            }
            assert control == (ends if matcher.complete else set())
            if matcher.finished:
                break
            logits[[*ends]] = -torch.inf
            matcher.push(int(logits.argmax()))


def test_masks_after_guesses_are_those_of_the_tokens_one_by_one(tokenizer):
    grammar = Grammar.json_schema(tokenizer, PERSON)
    ids = spelled(tokenizer, '{"name": "Bo", "age": 15')
    ahead, matcher = grammar.matcher(), grammar.matcher()
    bare, guessed = masks([(grammar.matcher(), ()), (ahead, ids)])
    rows = bias(guessed, len(tokenizer), torch.device("cpu"))
    assert (guessed[0] == bare[0]).all()
    for row, token in zip(rows, ids, strict=False):
        assert torch.equal(row, barred(matcher)[0])
        matcher.push(token)
    assert torch.equal(rows[-1], barred(matcher)[0])
    assert ahead.accepts(ids) == len(ids)  # it stands where it stood


def test_after_a_wrong_guess_nothing_is_barred(tokenizer):
    good, wrong = (spelled(tokenizer, letter)[0] for letter in "ab")
    rows = barred(Grammar.regex(tokenizer, "a+").matcher(), [good, wrong, good])
    assert rows[1].isneginf().any() and not rows[2:].any()


def test_the_end_is_barred_as_well_unless_nothing_else_is_allowed(tokenizer):
    ends = {tokenizer.end_of_turn, tokenizer.end_of_text}
    matcher = Grammar.regex(tokenizer, "ab?").matcher()
    matcher.push(spelled(tokenizer, "a")[0])
    [mask] = masks([(matcher, ())])
    bar(mask[0], ends)
    found = bias(mask, len(tokenizer), torch.device("cpu"))[0]
    assert torch.nonzero(found == 0).flatten().tolist() == spelled(tokenizer, "b")
    matcher.push(spelled(tokenizer, "b")[0])
    [mask] = masks([(matcher, ())])
    bar(mask[0], ends)
    assert (bias(mask, len(tokenizer), torch.device("cpu"))[0] == 0).sum() == len(ends)


def test_the_end_of_the_turn_closes(tokenizer):
    matcher = Grammar.regex(tokenizer, "a+").matcher()
    matcher.push(spelled(tokenizer, "a")[0])
    assert matcher.complete
    assert not matcher.finished
    matcher.push(tokenizer.end_of_turn)
    assert matcher.finished


def test_samples_of_one_grammar_do_not_disturb_one_another(tokenizer):
    grammar = Grammar.choice(tokenizer, ["ab", "cd"])
    first, second = grammar.matcher(), grammar.matcher()
    first.push(spelled(tokenizer, "a")[0])
    assert second.accepts(spelled(tokenizer, "cd")) == 2
    assert first.accepts(spelled(tokenizer, "b")) == 1


def test_a_grammar_is_compiled_once_and_the_oldest_is_dropped(tokenizer):
    first = Grammar.regex(tokenizer, "first")
    assert Grammar.regex(tokenizer, "first") is first
    for number in range(64):
        Grammar.regex(tokenizer, f"number {number}")
    assert Grammar.regex(tokenizer, "first") is not first


def test_grammars_do_not_keep_a_tokenizer_alive():
    tokenizer = train(["hello"] * 9, 258)
    Grammar.json_object(tokenizer)
    gone = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert gone() is None


def deep(levels: int) -> list:
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


def nested(levels: int) -> dict:
    schema: dict = {"type": "null"}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("told", "build"),
    [
        ("too large: it may have 64 levels", lambda t: Grammar.json_schema(t, nested(5_000))),
        ("too large: it may have 1,000 schemas",
         lambda t: Grammar.json_schema(t, {"properties": {f"p{i}": {} for i in range(2_000)}})),
        ("characters; it may have",
         lambda t: Grammar.choice(t, [f"option {i}" for i in range(LONGEST // 8)])),
        ("too complex", lambda t: Grammar.regex(t, "(a{1000}){1000}")),
        ("more than 4,096 times", lambda t: Grammar.regex(t, "a{100000}")),
        ("too complex",
         lambda t: Grammar.json_schema(t, {"type": "string", "pattern": "^(a{1000}){1000}$"})),
        ("too complex", lambda t: Grammar.lark(t, 'start: (("a" "b"){1000}){1000}')),
        ("lone surrogate", lambda t: Grammar.choice(t, ["\ud800"])),
        ("lone surrogate", lambda t: Grammar.regex(t, "\ud800")),
        ("5,000 characters of 4,096", lambda t: Grammar.choice(t, ["x" * 5_000])),
        ("nested too deeply", lambda t: Grammar.json_schema(t, {"const": deep(2_000)})),
        ("cannot be written as JSON", lambda t: Grammar.json_schema(t, {"const": float("nan")})),
        ("a list of texts", lambda t: Grammar.choice(t, [])),
        ("a list of texts", lambda t: Grammar.choice(t, "abc")),
    ],
)  # fmt: skip
def test_a_grammar_beyond_the_budget_is_refused(tokenizer, told, build):
    with pytest.raises(UserError, match=told):
        build(tokenizer)


def test_a_matcher_that_runs_out_of_its_budget_says_so(qwen):
    with pytest.raises(UserError, match="too complex"):
        for seed in range(9):
            walk(qwen, Grammar.regex(qwen, r"\p{L}{1,4000}"), seed, most=3_000)


def test_a_token_that_is_not_allowed_is_an_error(tokenizer):
    matcher = Grammar.choice(tokenizer, ["a"]).matcher()
    with pytest.raises(UserError, match="doesn't satisfy the grammar"):
        matcher.push(spelled(tokenizer, "b")[0])
