import random

import numpy as np
import pyarrow as pa
import pytest

from baiwen import files
from baiwen.data.contamination.candidates import candidates
from baiwen.data.contamination.decontaminate import (
    COLUMNS,
    OVERLAP,
    SUBSEQUENCE,
    WHOLE,
    Decontaminate,
    coverage,
    decontaminate,
    find,
    opened,
    said,
)
from baiwen.data.contamination.index import Grams
from baiwen.data.pipeline.step import Map
from baiwen.data.words import words
from baiwen.errors import UserError

QUESTION = (
    "A robe takes two bolts of blue fibre and half that much white fibre. Its maker buys seven "
    "bolts at nine coins each and sells the robe for a hundred; how much does she gain by it?"
)
CHINESE = "同学们要种十八棵树，第一组种了八棵，第二组种了七棵树，还有多少棵需要种？"


def prose(count, seed=0):
    """Words of a small vocabulary, each as common as the next."""
    letters = random.Random(seed)
    vocabulary = ["".join(letters.choices("abcdefgh", k=4)) for _ in range(300)]
    return " ".join(letters.choices(vocabulary, k=count))


def edited(text, share, seed):
    """The text with a share of its words changed, left out or added to."""
    rng = random.Random(seed)
    parts = text.split() if " " in text else list(text)
    for place in rng.sample(range(len(parts)), round(share * len(parts))):
        parts[place] = rng.choice(["", "quite", f"{parts[place]} indeed"])
    return (" " if " " in text else "").join(parts)


@pytest.fixture
def knobs(tmp_path):
    with files.jsonl_writer(tmp_path / "test.jsonl") as put:
        for text in (QUESTION, CHINESE, "What is the largest planet of the whole solar system?"):
            put({"question": text, "answer": "5"})
    return Decontaminate(against=(tmp_path / "test.jsonl",), fields=("question",))


def match(text, knobs):
    return find(pa.array([text], pa.large_string()), opened(knobs, "once"), knobs)[0]


def test_an_exact_copy_in_a_long_document_is_found_with_its_test_and_text(knobs):
    found = match(f"{prose(900)}\n\n{QUESTION}\n\n{prose(900, seed=1)}", knobs)
    place = f"{knobs.against[0]}:1 question"
    assert found == (SUBSEQUENCE, 1.0, 0.6, place, QUESTION.removesuffix("?"))


@pytest.mark.parametrize("text", [QUESTION, CHINESE])
def test_copies_with_a_tenth_of_their_words_changed_are_found(text, knobs):
    copies = [f"{prose(90, seed)}\n{edited(text, 0.1, seed)}\n{prose(90)}" for seed in range(100)]
    found = find(pa.array(copies, pa.large_string()), opened(knobs, "once"), knobs)
    assert sum(item is not None for item in found) >= 95


def test_the_same_words_in_another_order_are_no_copy(knobs):
    parts = QUESTION.split()
    random.Random(0).shuffle(parts)
    assert match(" ".join(parts), knobs) is None


def test_a_short_document_that_is_part_of_a_test_is_found_by_its_own_length(knobs):
    half = " ".join(QUESTION.split()[:17])
    assert match(half, knobs).value == 1.0
    assert match(f"{half} {prose(200)}", knobs) is None  # half of the test, which is the shorter


def test_a_test_too_short_for_the_rule_is_found_only_where_it_stands_whole(knobs):
    question = "what is the largest planet of the whole solar system"
    assert match(f"{prose(50)} {question} {prose(50)}", knobs).rule == WHOLE
    assert match(f"{prose(50)} what is the largest planet of our solar system", knobs) is None


def test_exactly_the_share_of_a_test_is_enough(tmp_path):
    parts = [f"word{number}" for number in range(100)]
    (tmp_path / "test.txt").write_text(" ".join(parts))
    knobs = Decontaminate(against=(tmp_path / "test.txt",), share=0.55)  # 0.55 * 100 > 55
    assert match(f"{' '.join(parts[:55])} {prose(200)}", knobs).value == 0.55
    assert match(f"{' '.join(parts[:54])} {prose(200)}", knobs) is None


@pytest.mark.parametrize("shape", [{"gram": 10}, {"hits": 7}, {"whole": 5}, {"least": 9}])
def test_knobs_by_which_tests_would_be_lost_are_refused(shape, knobs):
    with pytest.raises(ValueError, match=r"whole: \d+ has to be between"):
        Decontaminate(**knobs.model_dump() | shape)
    maths = {"gram": 13, "hits": 1, "whole": 13}
    assert match(QUESTION, Decontaminate(**knobs.model_dump() | maths)).value == 1.0


def test_coders_rule_takes_any_ten_words_in_a_row(knobs):
    ten = "half that much white fibre. Its maker buys seven bolts"
    text = f"{prose(300)} {ten} {prose(300)}"
    assert match(text, knobs) is None
    strict = knobs.model_copy(update={"overlap": 10})
    assert match(text, strict) == (OVERLAP, 1.0, 0.0, f"{knobs.against[0]}:1 question", ten)
    assert match(text.replace("white", "green"), strict) is None


def test_a_copy_of_one_of_many_tests_of_a_template_is_found(tmp_path):
    template = "The following paragraph describes {} objects on a shelf in a fixed order, the {} "
    rows = [
        template.format(i, prose(8, i)) + "last. Which of them is the first?" for i in range(99)
    ]
    with files.jsonl_writer(tmp_path / "test.jsonl") as put:
        for row in rows:
            put({"input": row})
    knobs = Decontaminate(against=(tmp_path / "test.jsonl",))
    assert all(match(f"{prose(99)} {row} {prose(99)}", knobs) for row in rows)


def test_the_step_gives_a_verdict_for_every_row_in_order(knobs):
    texts = [prose(30), None, QUESTION, "", prose(30, seed=1)]
    table = pa.table({"id": list("abcde"), "text": pa.array(texts, pa.large_string())})
    found = decontaminate(table, knobs, files.fingerprint(list(knobs.against)))
    assert found.schema == COLUMNS
    assert found["rule"].to_pylist() == [None, None, SUBSEQUENCE, None, None]
    assert decontaminate(table.slice(0, 0), knobs, "once").schema == COLUMNS
    assert Map("decontaminate", decontaminate).reads == ("text",)


def test_a_question_and_its_answer_of_a_conversation_are_one_text(knobs):
    middle = QUESTION.index("Its")
    messages = [
        {"role": "user", "content": QUESTION[:middle]},
        {"role": "assistant", "content": [{"type": "text", "text": QUESTION[middle:]}]},
    ]
    assert match(said(messages), knobs).value == 1.0


def test_hits_are_the_ngrams_that_both_have(knobs):
    tests = opened(knobs, "once").tests
    batch = words(pa.array([prose(20), QUESTION[40:], "", f"{QUESTION} {CHINESE}"]))
    found = {
        tuple(map(int, row)) for row in zip(*Grams.of(tests, 4, 4, 16).hits(batch), strict=True)
    }
    sequences = [tests.sequence(i).tolist() for i in range(len(tests.places))]
    texts = [
        batch.hashes[a:b].tolist() for a, b in zip(batch.bounds, batch.bounds[1:], strict=False)
    ]
    assert found == {
        (text, at, sequence, offset)
        for text, own in enumerate(texts)
        for at in range(len(own) - 3)
        for sequence, other in enumerate(sequences)
        for offset in range(len(other) - 3)
        if own[at : at + 4] == other[offset : offset + 4]
    }


def test_a_stretch_begins_where_most_hits_lie_together(knobs):
    tests = opened(knobs, "once").tests
    scattered = " ".join(QUESTION.split()[:6])
    batch = words(pa.array([f"{scattered} {prose(400)} {QUESTION}"]))
    (found,) = candidates(Grams.of(tests, 5, 5, 16).hits(batch), tests.lengths, 2, 1.5)
    assert found.start == 406


def test_planted_questions_of_real_benchmarks_are_found_and_real_text_is_left(shared):
    against = tuple(
        shared / "eval" / name
        for name in ("gsm8k/test_devhalf.jsonl.gz", "math_more/cmath_dev.jsonl.gz")
    )
    knobs = Decontaminate(against=against, fields=("question",))
    texts = [row["text"] for row in files.read_jsonl(shared / "pretrain/dev/web_en-00.jsonl.zst")]
    questions = [row["question"] for path in against for row in files.read_jsonl(path)][::10]
    copies = [
        f"{text[:2000]}\n{edited(question, 0.1, seed)}\n{text[2000:4000]}"
        for seed, (question, text) in enumerate(zip(questions, texts, strict=False))
    ]
    table = pa.array(copies + texts[:800], pa.large_string())
    found = np.array([bool(item) for item in find(table, opened(knobs, "once"), knobs)])
    assert found[: len(copies)].mean() >= 0.95
    assert not found[len(copies) :].any()


def test_what_is_too_short_to_be_looked_for_is_told(tmp_path):
    test, label = tmp_path / "test.jsonl", tmp_path / "labels.txt"
    test.write_text('{"question": "one two three four five", "more": "six seven eight nine ten"}\n')
    label.write_text("yes")
    lines = list(coverage(Decontaminate(against=(test, label))))
    assert lines[0] == "1 of 2 rows of 2 evaluation files are looked for"
    assert lines[1:] == [f"{label}: 1 of 1 rows have fewer than 10 words"]


def test_tests_of_which_none_can_be_looked_for_are_refused(tmp_path):
    (tmp_path / "labels.txt").write_text("yes")
    with pytest.raises(UserError, match="none of 1 rows has whole = 10 words"):
        list(coverage(Decontaminate(against=(tmp_path,))))
