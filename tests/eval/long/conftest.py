"""A text with words and numbers of its own, questions on its paragraphs, and a tokenizer for it."""

import json
from random import Random

import pytest

from baiwen.eval.long import haystack, questions
from baiwen.eval.long.cells import Material
from baiwen.tokenizer import bpe

SYLLABLES = ["ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "wo"]


def paragraphs(count):
    """Nonsense in sentences, with a number of five digits in each paragraph."""
    rng = Random(0)
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(900)]
    for number in range(count):
        said = [" ".join(rng.choices(words, k=8)).capitalize() + "." for _ in range(4)]
        yield f"{' '.join(said)} It was {rng.randint(10_000, 99_999)} in place{number}."


@pytest.fixture(scope="session")
def documents(tmp_path_factory):
    """Twenty documents of twelve paragraphs."""
    path = tmp_path_factory.mktemp("long") / "documents.jsonl"
    every = list(paragraphs(240))
    rows = [{"text": "\n\n".join(every[at : at + 12])} for at in range(0, 240, 12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def squad(tmp_path_factory):
    """Two articles of sixty paragraphs, each with a question; one question has no answer."""
    articles = []
    for start in (0, 60):
        texts = list(paragraphs(120))[start : start + 60]
        asked = [
            {"question": f"What was in {text.split()[-1]}", "answers": [{"text": text.split()[-3]}]}
            for text in texts
        ]
        rows = [{"context": text, "qas": [one]} for text, one in zip(texts, asked, strict=True)]
        rows[0]["qas"].append({"question": "Why?", "answers": [], "is_impossible": True})
        articles.append({"paragraphs": rows})
    path = tmp_path_factory.mktemp("squad") / "squad.json"
    path.write_text(json.dumps({"data": articles}))
    return path


@pytest.fixture(scope="session")
def hotpotqa(tmp_path_factory):
    """Eighty questions with two paragraphs each."""
    texts = list(paragraphs(160))
    rows = [
        {
            "question": f"Is it {texts[at].split()[-3]}?",
            "answer": "yes",
            "context": [[f"title{at}", [texts[at]]], [f"title{at + 1}", [texts[at + 1]]]],
        }
        for at in range(0, 160, 2)
    ]
    path = tmp_path_factory.mktemp("hotpotqa") / "hotpotqa.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture(scope="session")
def tokenizer():
    return bpe.train([*paragraphs(240), haystack.NOISE_LINE, "0123456789 The pass key is"], 700)


@pytest.fixture(scope="session")
def stack(documents, tokenizer):
    return haystack.of(str(documents), tokenizer, characters=10**6)


@pytest.fixture(scope="session")
def material(stack, squad, hotpotqa):
    asked = {"squad": questions.read(squad), "hotpotqa": questions.read(hotpotqa)}
    return Material(stack, asked, seed=0)
