"""IFEval's 25 kinds: what each accepts and refuses, plainly and as the official checkers do."""

import gzip
import json
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from types import SimpleNamespace

import pytest
from langdetect import DetectorFactory

from baiwen.verify import Verdict, ifeval, punkt
from baiwen.verify.ifeval import language

CAPITAL = {"capital_frequency": 2, "capital_relation": "at least"}
LETTER = {"letter": "s", "let_frequency": 3, "let_relation": "at least"}
NTH = {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "hello"}
SENTENCES = {"num_sentences": 3, "relation": "less than"}
ENGLISH = "the old man sat by the river and looked at the water until it was dark"
SPANISH = "Me gustaría saber dónde está la biblioteca más cercana de la ciudad, por favor."

# kind, arguments, answers that meet it, answers that do not: the plain reading.
PLAIN = [
    (
        "keywords:existence",
        {"keywords": ["cat", "a.b"]},
        ["Cat, a.b!", "the CAT\na.b"],
        ["concatenate a.b", "cat axb", "cat"],
    ),
    ("keywords:existence", {"keywords": ["长城"]}, ["我爱长城和北京"], ["长 城", "城长"]),
    ("keywords:existence", {"keywords": ["red fox"]}, ["a Red\n fox"], ["red foxes", "fox red"]),
    (
        "keywords:frequency",
        {"keyword": "cat", "frequency": 2, "relation": "at least"},
        ["cat, Cat."],
        ["cat, cats", "cat concat"],
    ),
    (
        "keywords:frequency",
        {"keyword": "山", "frequency": 2, "relation": "less than"},
        ["一座山"],
        ["山外有山"],
    ),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, ["category"], ["the Cat."]),
    ("keywords:forbidden_words", {"forbidden_words": ["但是"]}, ["不过"], ["但是不行"]),
    ("keywords:letter_frequency", LETTER, ["Sss", "assess"], ["ss"]),
    (
        "keywords:letter_frequency",
        {"letter": "#", "let_frequency": 2, "let_relation": "less than"},
        ["#a"],
        ["#a #b"],
    ),
    (
        "language:response_language",
        {"language": "es"},
        [SPANISH],
        [ENGLISH, "我想知道图书馆在哪里。", "Где находится ближайшая библиотека?"],
    ),
    ("language:response_language", {"language": "zh"}, ["你好", "图书馆在哪里？"], [ENGLISH]),
    (
        "language:response_language",
        {"language": "ja"},
        ["図書館はどこですか。"],
        ["图书馆在哪里？"],
    ),
    (
        "length_constraints:number_sentences",
        SENTENCES,
        ["Mr. Li left. He ran.", "1. One.\n2. Two.", "他走了。我来了！", '"Why?" he asked. So.'],
        ["One. Two! Three?", "他走了。我来了！真的吗？"],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["One\n***\nTwo", "***\nOne ***bold*** word.\n***\nTwo\n***"],
        ["One\n\nTwo", "One ***two*** three", "One\n***\n***\nTwo"],
    ),
    (
        "length_constraints:number_words",
        {"num_words": 4, "relation": "less than"},
        ["don't do it", "我爱你"],
        ["I do not know", "我爱北京", "a well-known man"],
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        NTH,
        ["One.\n\nHello, you.", "One.\n\n\n\n**Hello** you.", 'One.\n\n"Hello" you'],
        ["One.\n\nHelloes", "Hello.\n\nOne", "One.\n\nHello\n\nThree"],
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {**NTH, "first_word": "你好"},
        ["一\n\n你好世界"],
        ["一\n\n世界你好"],
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        ["[name], [address]", "【姓名】住在［地址］"],
        ["[name]", "[name] []", "[name] [a](b)", "[a\nb] [c]"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        ["Dear all.\n\nP.S. I left.", "**p. s.** I left"],
        ["P.S.", "He said P.S. and left", "P.P.S. I left", "PS: no"],
    ),
    ("detectable_content:postscript", {"postscript_marker": "附言："}, ["好\n附言:再见"], ["好"]),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ["* a\n* b", "Two:\n- a\n---\n  + b", "• 一\n• 二"],
        ["* a\n**b**", "---\n- a", "-a\n-b", "1. a\n2. b"],
    ),
    (
        "detectable_format:constrained_response",
        {},
        ["My answer is yes.", '"My answer is no."', "我的答案是不确定的。"],
        ["My answer is yes. I think.", "yes", "my answer is yes"],
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*a* and **b c**", "我*喜欢*你**们**", "***a*** *b*"],
        ["2*3*4 and 5*6*7", "*a*", "* a\n* b *c*", "**a**"],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        ["Section 1\na\n**Section 2** b", '"Section 1: a\nSection 2: b"'],
        ["Section 1\nsee Section 2", "Section 1\nSection 1", "Section A\nSection B"],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "节", "num_sections": 2},
        ["第一节 春\n第二节 夏", "第1节\n第 2 节"],
        ["第一节", "春节"],
    ),
    (
        "detectable_format:json_format",
        {},
        ['{"a": 1}', "```json\n[1]\n```"],
        ["{'a': 1}", 'Here: {"a": 1}', "NaN", '"words"', "[NaN]"],
    ),
    (
        "detectable_format:title",
        {},
        ["<<Joy>>\nWords", "**<<a b>>**", "《春》\n词", "＜＜春＞＞"],
        ["<< >>", "<Joy>", "<<a\nb>>", "我读《春》"],
    ),
    (
        "combination:two_responses",
        {},
        ["One\n******\nTwo", "******One******Two******"],
        ["One", "One******One", "a******b******c", "One\n***\nTwo"],
    ),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Write a poem."},
        ["Write a poem.\nRoses", "write  a poem. Roses"],
        ["Write a poem.", "Sure! Write a poem. Roses", "Write poem. Roses"],
    ),
    (
        "startend:end_checker",
        {"end_phrase": "Any questions?"},
        ["So. Any questions?", 'So. **any questions?**"', "“So. Any questions?”"],
        ["Any questions? No.", "Many questions?", "So."],
    ),
    ("startend:end_checker", {"end_phrase": "再见。"}, ["好的，再见。"], ["再见。好的"]),
    ("startend:quotation", {}, ['"a"', " “你好” "], ['""', '"a', "'a'", 'a "b"']),
    ("change_case:capital_word_frequency", CAPITAL, ["A RED sun", "WELL-KNOWN NASA"], ["A sun"]),
    ("change_case:english_capital", {}, ["OK", "HELLO WORLD 123", "A"], ["Ok", "123", SPANISH]),
    ("change_case:english_capital", {}, [ENGLISH.upper()], [SPANISH.upper(), "你好"]),
    ("change_case:english_lowercase", {}, ["ok", ENGLISH], ["Ok", SPANISH.lower(), "你好"]),
    ("punctuation:no_comma", {}, ["a; b。"], ["a, b", "一，二", "一、二"]),
]
OTHERWISE = [  # the same kinds, where the official checkers decide otherwise than one reads
    ("keywords:existence", {"keywords": ["cat"]}, "concatenate", True),
    ("keywords:existence", {"keywords": ["a.b"]}, "axb", True),
    (
        "keywords:frequency",
        {"keyword": "cat", "frequency": 1, "relation": "less than"},
        "cats",
        False,
    ),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "2*3*4 5*6*7", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "---", True),
    ("length_constraints:nth_paragraph_first_word", NTH, "One.\n\n**Hello** you", False),
    ("startend:end_checker", {"end_phrase": "Bye."}, "Bye.”", False),
    ("change_case:english_capital", {}, "OK", False),
    ("change_case:english_capital", {}, "HELLO WORLD 123", False),
    ("detectable_format:json_format", {}, "NaN", True),
    ("startend:quotation", {}, "“a”", False),
    ("punctuation:no_comma", {}, "一，二", True),
    ("length_constraints:number_words", {"num_words": 2, "relation": "less than"}, "don't", False),
    ("detectable_format:title", {}, "<<a <b>>", True),
]


def row(kind, given, **fields):
    return {"instruction_id_list": [kind], "kwargs": [given], **fields}


def test_every_kind_has_its_answers():
    assert {kind for kind, *_ in PLAIN} == set(ifeval.KINDS)


@pytest.mark.parametrize(("kind", "given", "met", "missed"), PLAIN, ids=[case[0] for case in PLAIN])
def test_the_plain_reading(kind, given, met, missed):
    verdicts = {answer: ifeval.check(answer, row(kind, given)) for answer in met + missed}
    assert [answer for answer in met if verdicts[answer] is not Verdict.right] == []
    assert [answer for answer in missed if verdicts[answer] is not Verdict.wrong] == []


@pytest.mark.parametrize(("kind", "given", "answer", "met"), OTHERWISE)
def test_the_official_reading_where_it_differs(kind, given, answer, met):
    assert ifeval.check(answer, row(kind, given, mode="compat")) is Verdict.of(met)
    assert ifeval.check(answer, row(kind, given)) is Verdict.of(not met)


@pytest.mark.parametrize("kind", ifeval.KINDS)
@pytest.mark.parametrize("mode", ifeval.MODES)
def test_an_empty_answer_meets_nothing(kind, mode):
    given = next(given for known, given, *_ in PLAIN if known == kind)
    assert ifeval.check(" \n", row(kind, given, mode=mode, loose=True)) is Verdict.wrong


def test_a_language_that_is_too_short_to_tell_is_undecided():
    asked = row("language:response_language", {"language": "pt"})
    assert ifeval.check("OK", asked) is Verdict.undecided


def test_a_text_has_one_language_in_every_thread():
    texts = ["OK", "HELLO WORLD 123", "coastal elegance", "das ist ein test", SPANISH] * 8
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(language.detect, texts)) == list(map(language.detect, texts[:5])) * 8


def test_one_instruction_missed_is_an_answer_missed():
    both = {
        "instruction_id_list": ["punctuation:no_comma", "startend:quotation"],
        "kwargs": [{}, {}],
    }
    assert ifeval.verdicts("no comma", both) == [Verdict.right, Verdict.wrong]
    assert ifeval.check("no comma", both) is Verdict.wrong
    assert ifeval.check('"no comma"', both) is Verdict.right


@pytest.mark.parametrize(
    "answer", ["Sure, here:\nSun", "Sun\nDone, I hope", "Sure,\nSun\nBye,", "Sure,\n*Sun*"]
)
def test_loose_forgives_the_first_line_the_last_and_asterisks(answer):
    asked = row("punctuation:no_comma", {})
    assert ifeval.check(answer, asked) is Verdict.wrong
    assert ifeval.check(answer, {**asked, "loose": True}) is Verdict.right
    assert ifeval.verdicts(answer, asked, loose=True) == [Verdict.right]


def test_loose_looks_at_each_instruction_for_itself():
    asked = row("startend:end_checker", {"end_phrase": "Bye"})
    assert ifeval.check("Bye\nMore", {**asked, "loose": True}) is Verdict.right
    assert ifeval.check("a\nBye\nMore\nMore", {**asked, "loose": True}) is Verdict.wrong


FAULTY = [
    row("keywords:rhymes", {}),
    row("keywords:existence", {}),
    row("keywords:existence", {"keywords": []}),
    row("keywords:existence", {"keywords": "cat"}),
    row("keywords:frequency", {"keyword": "a", "frequency": 1, "relation": "at most"}),
    row("keywords:letter_frequency", {**LETTER, "letter": "ab"}),
    row("language:response_language", {"language": "Klingon"}),
    row("length_constraints:number_words", {"num_words": -1, "relation": "at least"}),
    row("length_constraints:number_words", {"num_words": True, "relation": "at least"}),
    row("punctuation:no_comma", {"num_words": 3}),
    row("punctuation:no_comma", {}, mode="lenient"),
    row("combination:repeat_prompt", {}),
    row("keywords:existence", {"keywords": ["(a+)+$"]}, mode="compat"),
    {"instruction_id_list": [], "kwargs": []},
    {"instruction_id_list": ["punctuation:no_comma"], "kwargs": []},
    {"kwargs": [{}]},
]


@pytest.mark.parametrize("truth", FAULTY)
def test_a_row_that_cannot_be_read_is_an_error(truth):
    assert ifeval.check("words", truth) is Verdict.error


def test_a_published_row_is_a_truth_as_it_is():
    """The Parquet file holds every argument of every kind in each row, null where it is foreign."""
    truth = {
        "key": 1000,
        "prompt": "Write a poem.",
        "instruction_id_list": ["combination:repeat_prompt", "punctuation:no_comma"],
        "kwargs": [{"num_words": None, "relation": None}, {"num_words": None}],
    }
    assert ifeval.check("Write a poem. Roses are red", truth) is Verdict.right


LONG = [
    "a",
    " ",
    "\n",
    "\n ",
    "*",
    "* ",
    "[",
    "<<a",
    ">>",
    "\n-",
    ". ",
    "?)",
    "A. b ",
    "\n1. ",
    "《",
    "我。",
]
LONG += ["Section ", "第 ", "'s", ">_-", '{"a":', "a\u0301", "a.-_@", "cat ", "...) "]


@pytest.mark.parametrize("kind", ifeval.KINDS)
def test_no_kind_is_quadratic(kind):
    given = next(given for known, given, *_ in PLAIN if known == kind)
    for mode, piece in product(ifeval.MODES, LONG):
        answer = piece * (50_000 // len(piece)) + "a"  # squared, a minute
        begin = time.process_time()
        ifeval.check(answer, row(kind, given, mode=mode))
        assert time.process_time() - begin < 5.0, (mode, piece)


# "#" is no letter to the official checker, which draws one at random instead: it found the answer
# to 1122 to hold when strict and not when loose.
UNREPEATABLE = {(1122, "keywords:letter_frequency")}


@pytest.fixture(scope="module")
def published(shared):
    folder = shared / "eval/ifeval"
    with gzip.open(folder / "input_dev.jsonl.gz", "rt") as file:
        truths = {row["key"]: row for row in map(json.loads, file)}
    with gzip.open(folder / "gpt4_verdicts_dev.jsonl.gz", "rt") as file:
        return [(row, truths[row["key"]]) for row in map(json.loads, file)]


@pytest.mark.parametrize("loose", [False, True])
def test_compat_gives_the_published_verdicts(published, loose):
    differ = set()
    for answered, truth in published:
        ours = ifeval.verdicts(answered["response"], truth, mode="compat", loose=loose)
        theirs = answered["loose" if loose else "strict"]
        kinds = truth["instruction_id_list"]
        for kind, mine, other in zip(kinds, ours, theirs, strict=True):
            if mine is not Verdict.of(other):
                differ.add((answered["key"], kind))
    assert differ <= UNREPEATABLE


def test_no_published_row_is_an_error(published):
    found = [
        ifeval.verdicts("", truth, mode=mode) for _, truth in published for mode in ifeval.MODES
    ]
    assert Verdict.error not in {verdict for verdicts in found for verdict in verdicts}


# The official checkers' own code, as lm-eval carries it, on answers that nobody wrote.


@pytest.fixture(scope="module")
def official():
    """lm-eval's checkers, with Punkt's algorithm from nltk and the lists of ours for its model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_RANK", "1")  # another rank downloads nltk's model
        patch.setattr("nltk.data.find", lambda name: name)
        patch.setitem(sys.modules, "immutabledict", SimpleNamespace(immutabledict=dict))
        registry = pytest.importorskip("lm_eval.tasks.ifeval.instructions_registry")
        util = sys.modules["lm_eval.tasks.ifeval.instructions_util"]
        nltk = pytest.importorskip("nltk.tokenize.punkt")
        model = nltk.PunktParameters()
        model.abbrev_types, model.sent_starters = set(punkt._ABBREVIATIONS), set(punkt._STARTERS)
        for word in punkt._COMMON:
            model.ortho_context[word] = 32 | 4  # seen in lower case, and in upper within sentences
        cutter, words = nltk.PunktSentenceTokenizer(model), util.nltk.NLTKWordTokenizer()
        patch.setattr(util, "_get_sentence_tokenizer", lambda: cutter)
        patch.setattr(
            util.nltk,
            "word_tokenize",
            lambda text: [word for part in cutter.tokenize(text) for word in words.tokenize(part)],
        )
        patch.setattr(DetectorFactory, "seed", 0)
        yield registry.INSTRUCTION_DICT


def official_verdict(official, kind, given, answer):
    checker = official[kind](kind)
    checker.build_description(**given)
    return bool(answer.strip()) and bool(checker.check_following(answer))


FRAGMENTS = [
    "***",
    "*a b*",
    "**",
    "\n\n",
    "\n* ",
    "\n- ",
    "<<t>>",
    "[x]",
    '"',
    "P.S. ",
    "p. p. s",
    ",",
]
FRAGMENTS += [
    "******",
    "Dr. X. Then",
    "etc...",
    "U.S. But",
    "IT'S",
    "CANNOT",
    "Section 1",
    "3. the",
]
FRAGMENTS += [
    'He said "No." and',
    "(Yes!) Or",
    "?!",
    "e.g. a",
    "J. S. Bach",
    "\nMy answer is no.",
    "{}",
]


def mutated(answer, seed):
    """The answer with pieces cut out, pieces put in and perhaps another case."""
    draw = random.Random(seed)
    for _ in range(draw.randrange(1, 6)):
        at = draw.randrange(len(answer) + 1)
        if draw.random() < 0.3:
            answer = answer[:at] + answer[at + draw.randrange(200) :]
        else:
            answer = answer[:at] + draw.choice(FRAGMENTS) + answer[at:]
    return draw.choice((str, str, str, str.upper, str.lower))(answer)


def disagreements(published, official, seeds):
    for seed in seeds:
        for answered, truth in published:
            answer = mutated(answered["response"], seed * 100_000 + answered["key"])
            ours = ifeval.verdicts(answer, truth, mode="compat")
            for kind, given, mine in zip(
                truth["instruction_id_list"], truth["kwargs"], ours, strict=True
            ):
                if mine is not Verdict.of(official_verdict(official, kind, given, answer)):
                    yield answered["key"], kind, answer


@pytest.mark.slow
def test_compat_is_the_official_code_on_mutated_answers(published, official):
    found = {(key, kind) for key, kind, _ in disagreements(published, official, range(1))}
    assert found <= UNREPEATABLE
