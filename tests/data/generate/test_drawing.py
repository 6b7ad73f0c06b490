"""Which seeds a prompt is filled with, and what it then asks."""

import random

import pytest

from baiwen.data.document import Document
from baiwen.data.generate import prompts
from baiwen.data.generate.drawing import excerpt, rounds, seeds
from baiwen.data.generate.ours import OURS
from baiwen.data.generate.prompts import Prompt, Seed, filled, find
from baiwen.data.pipeline.reading import _row
from baiwen.errors import UserError

WORDS = "what a prism does to light, and why it does so. " * 6
MINE = Prompt(name="mine", text="Rewrite: {document}")
TOPIC = Prompt(name="mine", text="Explain {topic}.")


def corpus(count=50, **meta):
    return [Document(f"d{n}", f"{n} {WORDS}", meta) for n in range(count)]


def drawn(documents, prompt=MINE, topics=(), count=10, draw=0):
    return list(seeds(lambda: documents, topics, prompt, count, draw, 6000))


def test_the_same_documents_are_drawn_in_whatever_order_they_lie():
    documents = corpus()
    first = {seed.id for seed in drawn(documents)}
    random.Random(1).shuffle(documents)
    assert {seed.id for seed in drawn(documents)} == first and len(first) == 10
    assert {seed.id for seed in drawn(documents, draw=1)} != first
    other = MINE.model_copy(update={"name": "other"})
    assert {seed.id for seed in drawn(documents, other)} != first


def test_more_seeds_than_there_are_take_further_turns():
    documents = corpus(3)
    found = list(rounds(lambda: iter(drawn(documents)), 8))
    assert [seed.round for seed in found] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert [seed.id for seed in found[:3]] == [seed.id for seed in found[3:6]]


def test_a_seed_is_of_the_family_that_the_pipeline_makes_of_its_document():
    documents = [Document("long", WORDS * 99, {}), Document("named", WORDS, {"family": "f"})]
    families = {seed.id: seed.meta["family"] for seed in drawn(documents)}
    assert families == {"long": _row("corpus", documents[0])["family"], "named": "f"}
    assert all(len(seed.document) <= 6000 for seed in drawn(documents))


def test_documents_of_another_language_too_short_or_unreadable_are_passed_over():
    documents = [
        Document("zh", WORDS, {"language": "zh"}),
        Document("python", WORDS, {"language": "python"}),
        Document("en", WORDS, {"language": "en"}),
        Document("short", "a prism", {}),
        Document("flawed", WORDS, {}, "not UTF-8"),
    ]
    assert [seed.id for seed in drawn(documents)] == ["python", "en"]


def test_a_prompt_that_wants_the_truth_gets_documents_that_know_it():
    knows = Prompt(name="mine", form="problem", truth=True, text="{document}")
    documents = [Document("a", "2 + 2?", {"answer": 4}), Document("b", WORDS, {})]
    assert [seed.id for seed in drawn(documents, knows)] == ["a"]


def test_topics_are_taken_in_turn_and_beside_documents_too():
    assert [seed.topic for seed in drawn([], TOPIC, ["light", "sound"], 5)] == ["light", "sound"]
    both = Prompt(name="both", text="{topic} {document}")
    found = drawn(corpus(3), both, ["light", "sound"])
    assert [seed.topic for seed in found] == ["light", "sound", "light"]


@pytest.mark.parametrize(("prompt", "told"), [(MINE, "no document"), (TOPIC, "no topic")])
def test_a_prompt_without_anything_to_fill_it_with_is_named(prompt, told):
    with pytest.raises(UserError, match=f"prompt mine: there is {told}"):
        drawn([], prompt)


def test_a_long_seed_ends_with_a_paragraph_or_a_sentence():
    assert excerpt("one\n\ntwo\n\nthree", 12) == "one\n\ntwo"
    assert excerpt("一句话。又一句话。第三", 10) == "一句话。又一句话。"
    assert excerpt("x" * 20, 10) == "x" * 10 and excerpt("short", 10) == "short"


@pytest.mark.parametrize("name", sorted(OURS))
def test_each_prompt_of_ours_asks_for_what_its_form_reads(name):
    prompt = find(name)
    system, user = filled(prompt, Seed("id", "Light {x} </document>", topic="optics"))
    for part in {"text": ["text"], "questions": ["text"]}.get(prompt.form, [prompt.form]):
        assert f"<{part}>" in system["content"]
    assert ("optics" in user["content"]) == ("topic" in prompt.wants)
    assert ("Light {x} </document>\n</document " in user["content"]) == ("document" in prompt.wants)
    assert prompt.language == ("zh" if name.endswith("-zh") else "en")


def test_every_prompt_of_ours_is_there_in_both_languages():
    english = {name for name in OURS if not name.endswith("-zh")}
    assert {name.removesuffix("-zh") for name in OURS if name.endswith("-zh")} == english


def test_a_prompt_of_ones_own_is_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\ndomain = "letters"\ntext = "A letter: {topic} {x} \\\\frac{1}{2}"'
    )
    prompt = find(str(path))
    assert filled(prompt, Seed("id", topic="light"))[1]["content"] == (
        "A letter: light {x} \\frac{1}{2}"
    )
    assert prompts.file(str(path)) == path and prompts.file("easy") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('name = "mine"\ntext = "nothing"', "neither {document} nor {topic}"),
        ('name = "mine"\ntext = "{topic}"\nlang = "en"', "lang"),
        ('name = "mine"\ntext = "{topic}"\ntruth = true', "truth is for problems"),
    ],
)
def test_a_prompt_that_makes_no_sense_is_told_with_its_file(tmp_path, text, told):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=told):
        find(str(path))


def test_a_name_that_is_none_is_told_with_the_nearest():
    with pytest.raises(UserError, match=r"no prompt 'textbok'\. Did you mean textbook"):
        find("textbok")
