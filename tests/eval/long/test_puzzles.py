"""Every task: its prompts to the token, where its needles stand, what its marks are worth."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from baiwen.data.longrange.exercise import Exercise, Turn
from baiwen.data.longrange.needles import held_out
from baiwen.errors import UserError
from baiwen.eval.long import haystack, questions
from baiwen.eval.long.cells import TASKS, Cell, Material
from baiwen.eval.long.puzzle import frame, prompt

LENGTH = 2048
ONLY_TRUTH = {"niah_single_1", "niah_single_2", "niah_single_3", "niah_multivalue"} | {
    "niah_multiquery",
    "vt",
}  # tasks whose texts hold nothing of the kind that is asked for but the truth
every_task = pytest.mark.parametrize("task", TASKS)


def cell(task, length=LENGTH, sample=0, depth=0.5):
    return Cell(task, length, sample, depth if task == "passkey" else None)


def read(material, puzzle, form="document", length=LENGTH):
    """The prompt as a model sees it."""
    tokenizer = material.stack.tokenizer
    return tokenizer.decode(prompt(tokenizer, puzzle, form, length))


@every_task
@pytest.mark.parametrize("form", ["chat", "document"])
@pytest.mark.parametrize("length", [1999, 2048, 5000])
def test_a_prompt_and_its_answer_have_the_length(material, task, form, length):
    puzzle = material.puzzle(cell(task, length))
    ids = prompt(material.stack.tokenizer, puzzle, form, length)
    assert len(ids) + puzzle.room == length


@every_task
def test_the_same_cell_is_the_same_prompt_and_another_sample_another(material, task):
    again = replace(material, stack=replace(material.stack))
    one, same, other = (
        read(made, made.puzzle(cell(task, sample=sample)))
        for made, sample in ((material, 0), (again, 0), (material, 1))
    )
    assert one == same != other


@every_task
def test_the_truth_stands_in_the_text_and_the_question_does_not_tell_it(material, task):
    puzzle = material.puzzle(cell(task))
    left, right = frame(material.stack.tokenizer, puzzle, "document")
    ids = prompt(material.stack.tokenizer, puzzle, "document", LENGTH)
    body = material.stack.tokenizer.decode(ids[len(left) : len(ids) - len(right)])
    assert puzzle.truth
    assert task == "qa_2" or all(truth in body for truth in puzzle.truth)
    told = re.findall(r"[\w-]+", puzzle.before + puzzle.after)
    assert not {*told} & {*puzzle.truth}


@every_task
def test_the_right_answer_has_full_marks_and_an_empty_one_none(material, task):
    puzzle = material.puzzle(cell(task))
    answer = puzzle.truth[0] if task in ("qa_1", "qa_2") else f" {', '.join(puzzle.truth)}.\n\nAnd"
    assert puzzle.mark(answer) == (1.0, 1.0)
    assert puzzle.mark("") == (0.0, 0.0)


@every_task
def test_a_wrong_answer_has_no_marks(material, task):
    puzzle, other = (material.puzzle(cell(task, sample=sample)) for sample in (0, 7))
    wrong = [truth for truth in other.truth if truth not in puzzle.truth] or ["no"]
    assert puzzle.mark(", ".join(wrong)) == (0.0, 0.0)


@pytest.mark.parametrize("task", [task for task in TASKS if task not in ONLY_TRUTH | {"qa_2"}])
def test_listing_the_whole_text_wins_the_official_mark_and_not_ours(material, task):
    puzzle = material.puzzle(cell(task))
    dump = re.sub(r"\s+", " ", read(material, puzzle))
    official, strict = puzzle.mark(dump)
    assert official == 1.0
    assert strict < 0.25  # at longer lengths there is more to list that is wrong


@pytest.mark.parametrize("depth", [0.0, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("place", [0, 100])
def test_a_needle_stands_at_its_depth_to_a_passage(stack, depth, place):
    needle = "The pass key is 71432."
    room = 3000
    ids = stack.hide([(depth, needle)], place, room)
    assert len(ids) == room
    text = stack.tokenizer.decode(ids)
    assert text.count(needle) == 1
    before = len(stack.tokenizer.encode(text[: text.index(needle)]))
    rest = room - len(stack.tokenizer.encode(needle))
    longest = max(len(passage.ids) for passage in stack.passages)
    assert abs(before - depth * rest) <= longest / 2 + 1
    assert (before == 0) == (depth == 0)
    assert (text.rstrip().endswith(needle)) == (depth == 1)


def test_needles_keep_their_depths_beside_one_another(stack):
    needles = [(0.8, "Third."), (0.1, "First."), (0.5, "Second.")]
    text = stack.tokenizer.decode(stack.hide(needles, place=3, room=3000))
    places = [text.index(word) for word in ("First.", "Second.", "Third.")]
    assert places == sorted(places)


@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_a_pass_key_is_asked_for_as_it_is_taught_by_a_number_that_is_not(material, depth):
    puzzle = material.puzzle(cell("passkey", depth=depth))
    (key,) = puzzle.truth
    assert held_out(key)
    text = read(material, puzzle)
    turn = Turn(puzzle.after, puzzle.cue, key, None)
    context = text[: text.rindex("\n\nWhat is the pass key?")]
    taught = Exercise("passkey", "en", context, (turn,))
    assert taught.text == text + key
    # In tokens, too: what a model goes on from is what it has learned to go on from.
    tokenizer = material.stack.tokenizer
    ids = prompt(tokenizer, puzzle, "document", LENGTH)
    assert tokenizer.encode(taught.text)[-40:] == (ids + tokenizer.encode(key))[-40:]
    user, _ = taught.messages
    assert read(material, puzzle, "chat").count(f"{puzzle.after}<|im_end|>") == 1
    assert user["content"].endswith(f"\n\n{puzzle.after}")


def test_a_chat_prompt_is_the_protocol_around_the_text(material):
    tokenizer = material.stack.tokenizer
    puzzle = material.puzzle(cell("passkey"))
    ids = prompt(tokenizer, puzzle, "chat", LENGTH)
    said = tokenizer.decode(ids).split("<|im_start|>user\n")[1].split("<|im_end|>")[0]
    message = {"role": "user", "content": said}
    assert tokenizer.render([message], generate=True).ids == ids


def test_texts_of_one_sample_are_alike_up_to_the_needle_at_every_depth(material):
    tokenizer = material.stack.tokenizer
    deep, shallow = (
        prompt(tokenizer, material.puzzle(cell("passkey", depth=depth)), "document", LENGTH)
        for depth in (1.0, 0.5)
    )
    same = next(at for at, pair in enumerate(zip(deep, shallow, strict=True)) if len({*pair}) > 1)
    assert same > 0.4 * LENGTH


def test_a_chinese_text_is_asked_about_in_chinese(tokenizer, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(
        "\n\n".join(f"第{n}章。山上有一座灯塔，每天晚上都亮着。" * 4 for n in range(60))
    )
    material = Material(haystack.of(str(path), tokenizer, characters=10**6), {})
    puzzle = material.puzzle(cell("passkey"))
    text = read(material, puzzle)
    assert f"通行密钥是{puzzle.truth[0]}。" in text and text.endswith("通行密钥是什么？通行密钥是")
    assert puzzle.mark(f"{puzzle.truth[0]}。") == (1.0, 1.0)
    with pytest.raises(UserError, match="has 0 different English words"):
        material.puzzle(cell("niah_single_2"))


def test_the_language_is_that_of_most_of_a_text_not_of_its_beginning(tokenizer, tmp_path):
    (tmp_path / "a.txt").write_text("Contents and licence of the book. " * 150)
    for name in "bcd":
        (tmp_path / f"{name}.txt").write_text("山上有一座灯塔，每天晚上都亮着。" * 100)
    assert haystack.of(str(tmp_path), tokenizer, characters=10**6).language == "zh"


def test_words_are_right_in_capitals_or_not(material):
    puzzle = material.puzzle(cell("cwe", 6000))
    assert puzzle.mark(", ".join(map(str.title, puzzle.truth))) == (1.0, 1.0)


def test_the_order_to_answer_stands_apart_from_the_last_document(material):
    text = read(material, material.puzzle(cell("qa_1")))
    assert text.count(f"\n\n{questions.ORDER}\n\nQuestion: ") == 1


def test_common_words_stand_as_often_as_ruler_says(material):
    text = read(material, material.puzzle(cell("cwe", 6000)), length=6000)
    listed = re.findall(r"\d+\. (\w+)", text.rpartition("most often.\n")[2])
    counts = Counter(listed[:-1])  # the last one is cut
    assert [count for _, count in counts.most_common(10)] == [30] * 10
    assert set(counts.values()) - {30} <= {1, 2, 3}


def test_frequent_words_are_clearly_the_most_frequent(material):
    puzzle = material.puzzle(cell("fwe", 5000))
    text = read(material, puzzle, length=5000)
    counts = Counter(re.findall(r"\b[a-z]{6}\b", text.partition("Question")[0].lower()))
    for word in ("coded", "words"):
        counts.pop(word, None)
    assert [word for word, _ in counts.most_common(3)] == list(puzzle.truth)
    *_, third, fourth = (count for _, count in counts.most_common(4))
    assert third > fourth


def test_variables_follow_one_another_in_the_text(material):
    puzzle = material.puzzle(cell("vt"))
    text = read(material, puzzle)
    first, *others = puzzle.truth
    value = re.search(rf"VAR {first} = (\d+)", text)[1]
    lines = [f"VAR {first} = {value}"]
    lines += [f"VAR {b} = VAR {a}" for a, b in zip(puzzle.truth, others, strict=False)]
    places = [text.index(line) for line in lines]
    assert places == sorted(places) and f"assigned the value {value} in" in puzzle.after


def test_a_question_that_has_no_answer_is_never_asked(material, squad):
    asked = questions.read(squad)
    assert len(asked.questions) == len(asked.paragraphs) == 120
    assert all(question.text != "Why?" for question in asked.questions)


def test_a_text_without_room_is_an_error_that_says_why(material):
    tokenizer = material.stack.tokenizer
    with pytest.raises(UserError, match="60 tokens have no room for a text"):
        prompt(tokenizer, material.puzzle(cell("niah_single_1", 60)), "chat", 60)
    with pytest.raises(UserError, match="no room for what is to be hidden"):
        material.stack.hide([(0.5, "A long sentence that does not fit.")], 0, 5)
    with pytest.raises(UserError, match=r"has [\d,]+ tokens, and a text of 10,000,000 is wanted"):
        material.stack.hide([], 0, 10**7)
    with pytest.raises(UserError, match="too few for a list of"):
        read(material, material.puzzle(cell("cwe", 60_000)), length=60_000)
    with pytest.raises(UserError, match="its paragraphs are too few"):
        read(material, material.puzzle(cell("qa_1", 60_000)), length=60_000)


def test_a_file_without_questions_on_paragraphs_is_refused(tmp_path):
    path = tmp_path / "rows.json"
    for text in ('{"rows": []}', '[{"question": "Why?"}]', "[3]"):
        path.write_text(text)
        with pytest.raises(UserError, match="neither SQuAD's form"):
            questions.read(path)
    path.write_text('{"data": []}')
    with pytest.raises(UserError, match="holds no question"):
        questions.read(path)


def test_the_bundled_text_and_noise_need_no_file(tokenizer):
    bundled = haystack.of("stdlib", tokenizer, characters=20_000)
    assert bundled.tokens > 5_000 and len(bundled.words) > 100
    noise = haystack.noise(tokenizer, bundled.words)
    assert len(noise.hide([(0.5, "Here.")], 0, 100_000)) == 100_000
