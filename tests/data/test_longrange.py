"""Long-range exercises: what is asked has its answer in the text, and the text is whole again."""

import itertools
import re
from random import Random

import pytest

from baiwen import verify
from baiwen.data.longrange import KINDS, Unfit, make, needles, repair
from baiwen.data.longrange.passages import language, passages

SYLLABLES = ["ba", "den", "for", "gul", "ham", "kin", "lor", "mer", "nat", "pos", "ril", "tus"]
ENGLISH = ["".join(pair) for pair in itertools.product(SYLLABLES, repeat=2)]
CHINESE = "山水春秋风云天地江湖书剑人生日月星辰草木花鸟城门道路桥梁灯火船帆歌声梦想朋友老师学生"

both = pytest.mark.parametrize("spoken", ["en", "zh"])
every_kind = pytest.mark.parametrize("kind", KINDS)


def english(rng, paragraphs=30):
    said = [
        " ".join(rng.choices(ENGLISH, k=rng.randint(8, 40))).capitalize() + f" {i}."
        for i in range(paragraphs)
    ]
    return "\n\n".join(said)


def chinese(rng, paragraphs=30):
    return "\n".join(
        "".join(rng.choices(CHINESE, k=rng.randint(30, 90))) + "。" for _ in range(paragraphs)
    )


def texts(spoken, seed=0, documents=3):
    rng = Random(seed)
    return [english(rng) if spoken == "en" else chinese(rng) for _ in range(documents)]


def bare(text):
    return re.sub(r"\s", "", text)


def characters(exercise):
    return len(exercise.text)


def made(kind, spoken, seed, documents=3, target=4_000, questions=2):
    return make(kind, texts(spoken, seed, documents), f"{seed}", characters, target, questions)


@both
@every_kind
def test_an_exercise_speaks_the_language_of_its_text_and_keeps_to_its_length(kind, spoken):
    for seed in range(5):
        exercise = made(kind, spoken, seed)
        assert (exercise.kind, exercise.language) == (kind, spoken)
        assert 3_600 <= len(exercise.text) <= 4_000
        for turn in exercise.turns:
            assert language(turn.question) == spoken
            assert exercise.text.count(f"{turn.question}{turn.opening}{turn.answer}") == 1


@both
@pytest.mark.parametrize("kind", sorted({*KINDS} - {"fim", "reorder"}))
def test_the_answer_stands_where_the_exercise_says(kind, spoken):
    for seed in range(10):
        exercise = made(kind, spoken, seed)
        for turn in exercise.turns:
            assert exercise.context[turn.place :].startswith(turn.answer)


@both
def test_the_missing_part_makes_the_text_whole_again(spoken):
    for seed in range(20):
        exercise = made("fim", spoken, seed)
        (turn,) = exercise.turns
        mark = next(mark for mark in repair.MARKS if mark in exercise.context)
        assert exercise.context[turn.place :].startswith(mark) and mark in turn.question
        whole = exercise.context.replace(mark, turn.answer)
        assert bare(whole) in bare("".join(texts(spoken, seed)))


@both
@pytest.mark.parametrize("documents", [1, 3])
def test_the_right_order_restores_the_text(spoken, documents):
    for seed in range(10):
        exercise = made("reorder", spoken, seed, documents, target=1_500)
        lines = exercise.turns[0].answer.split("\n")
        labels = [line.partition(" ")[0] for line in lines]
        assert labels != sorted(labels)
        places = [exercise.context.index(f"{label} ") + len(label) for label in labels]
        ends = [min([p for p in places if p > place], default=None) for place in places]
        found = [bare(exercise.context[a:b]) for a, b in zip(places, ends, strict=True)]
        if documents == 1:
            found = [re.sub(r"\[\d+\]$", "", passage) for passage in found]
            assert bare("".join(texts(spoken, seed, 1))).startswith("".join(found))
        for passage, line in zip(found, lines, strict=True):
            assert passage.startswith(bare(line.partition(" ")[2]))


def test_words_that_are_asked_for_stand_together_in_one_passage_alone():
    for seed in range(10):
        exercise = made("keyword", "en", seed)
        pieces = exercise.context.split("\n\n")
        for turn in exercise.turns:
            words = re.findall("“(.+?)”", turn.question)
            assert len(words) >= 2
            holders = [piece for piece in pieces if all(word in piece for word in words)]
            assert len(holders) == 1 and holders[0] in turn.answer


def test_words_set_a_passage_apart_in_capitals_or_not():
    pieces = ["Lantern and Harbour of old.\n\n", "A lantern in the harbour.\n\n"]
    with pytest.raises(Unfit, match="no words set a passage apart"):
        KINDS["keyword"]([pieces], Random(0), 1)


def test_chinese_keywords_are_whole_clauses_where_there_are_enough():
    clauses = ["春风又绿", "江南岸上", "明月何时", "照我还家", "草木知秋"]
    piece = "，".join(clauses) + "。\n\n"
    (turn,) = KINDS["keyword"]([[piece, "山水天地，日月星辰。\n\n"]], Random(0), 1).turns
    assert {*re.findall("“(.+?)”", turn.question)} <= {*clauses, "山水天地", "日月星辰"}


def test_a_gap_in_chinese_parts_no_latin_word():
    rng = Random(0)
    text = "".join(f"config{''.join(rng.choices(CHINESE, k=4))}" for _ in range(300))
    for seed in range(30):
        (turn,) = KINDS["fim"]([[text]], Random(seed), 1).turns
        assert turn.answer.count("config") == len(re.findall("[a-z]+", turn.answer))


def test_what_is_asked_for_is_a_whole_paragraph_where_there_are_any():
    for seed in range(10):
        paragraphs = "\n\n".join(texts("en", seed)).split("\n\n")
        for turn in made("keyword", "en", seed).turns:
            assert turn.answer in paragraphs


def test_numbers_for_evaluation_are_never_hidden():
    rng = Random(0)
    drawn = [needles.number(rng, 5) for _ in range(2_000)]
    assert not any(map(needles.held_out, drawn))
    assert all(needles.held_out(needles.number(rng, 5, heldout=True)) for _ in range(20))


def test_needles_lie_at_any_depth():
    depths = [
        turn.place / len(exercise.context)
        for seed in range(60)
        for exercise in [made("passkey", "en", seed)]
        for turn in exercise.turns
    ]
    quarters = [sum(q <= depth * 4 < q + 1 for depth in depths) for q in range(4)]
    assert min(quarters) >= 5


@both
@every_kind
def test_the_same_seed_makes_the_same_exercise_and_another_seed_another(kind, spoken):
    sources = texts(spoken)
    first, again, other = (
        make(kind, sources, seed, characters, 4_000, 2) for seed in ("0", "0", "1")
    )
    assert first == again
    assert first != other


def test_questions_differ_in_their_words():
    asked = {made("passkey", "en", seed).turns[0].question for seed in range(20)}
    assert len(asked) >= 3


def test_a_conversation_is_the_document_turn_by_turn():
    exercise = made("needle", "en", 0, questions=3)
    messages = exercise.messages
    assert [message["role"] for message in messages] == ["user", "assistant"] * 3
    assert messages[0]["content"].startswith(exercise.context[:500])
    for turn, said in zip(exercise.turns, messages[1::2], strict=True):
        assert said["content"].endswith(turn.answer)


@both
@every_kind
def test_the_reply_of_a_conversation_passes_its_verifier(kind, spoken):
    for seed in range(5):
        exercise = made(kind, spoken, seed)
        for turn, said in zip(exercise.turns, exercise.messages[1::2], strict=True):
            verdict = verify.check(exercise.verifier, said["content"], turn.answer)
            assert verdict is verify.Verdict.right


@pytest.mark.parametrize(
    ("kind", "target", "reason"),
    [
        ("keyword", 10**6, "too short"),
        ("fim", 20, "too short for a gap"),
        ("passkey", 40, "too long"),
    ],
)
def test_what_does_not_fit_says_why(kind, target, reason):
    with pytest.raises(Unfit, match=reason):
        make(kind, texts("en"), "0", characters, target)


def test_a_sentence_longer_than_a_passage_is_cut_between_words():
    words = Random(0).choices(ENGLISH, k=400)
    for most in (60, 200):
        pieces = passages(" ".join(words), most // 10, most)
        assert len(pieces) > 5 and [w for piece in pieces for w in piece.split()] == words


@both
def test_passages_are_the_text(spoken):
    for seed in range(5):
        (text,) = texts(spoken, seed, 1)
        for least, most in [(20, 60), (100, 1_000), (1, 10)]:
            pieces = passages(text, least, most)
            assert "".join(pieces) == text
            assert max(map(len, pieces)) <= 2 * most + least
