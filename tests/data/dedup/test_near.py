"""Near duplicates: found, verified, and decided against the one that is kept."""

import json
import random
import re

import pytest
import zstandard

from baiwen import files
from baiwen.data.dedup import near
from baiwen.data.dedup.near import EARLIER, RULE, Near, steps

WORDS = [f"w{number}" for number in range(5000)]


def drawn(rng, count=200):
    return rng.choices(WORDS, k=count)


def edited(words, rng, count):
    """A copy with `count` words in it replaced, each in shingles of its own."""
    copy = list(words)
    for place in rng.sample(range(2, len(words) - 5, 6), count):
        copy[place] = rng.choice(WORDS) + "x"
    return copy


def similarity(left, right, n=5):
    """Jaccard of the runs of n words, by Python's own sets."""
    one, other = (
        {tuple(words[at : at + n]) for at in range(max(len(words) - n + 1, 1))}
        for words in (re.findall(r"\w+", text.lower()) for text in (left, right))
    )
    return len(one & other) / len(one | other)


def test_a_near_duplicate_goes_with_its_similarity_and_the_kept_one(run, part):
    rng = random.Random(0)
    first = drawn(rng)
    texts = [" ".join(words) for words in (first, drawn(rng), [*edited(first, rng, 2), "end"])]
    found = run(steps(Near()), part(texts[:1]), part(texts[1:], 1))
    assert found["rule"] == [RULE, None, None]  # the longer one stays
    assert found["cluster"] == ["d2", None, "d2"]
    assert found["similarity"] == found["value"] == [similarity(texts[0], texts[2]), None, None]
    assert found["bound"] == [0.8, None, None]


def test_what_shares_bands_but_is_not_similar_enough_stays(run, part):
    rng = random.Random(1)
    first = drawn(rng)
    texts = [" ".join(first), " ".join(edited(first, rng, 5))]
    assert 0.7 < similarity(*texts) < 0.8
    found = run(steps(Near(bands=100, rows=4)), part(texts))
    assert found["rule"] == [None, None] and found["cluster"] == [None, None]
    assert run(steps(Near(bands=100, rows=4, similarity=0.7)), part(texts))["rule"] != [None, None]


def test_a_chain_does_not_go_for_a_document_that_is_unlike_its_end(run, part):
    rng = random.Random(2)
    chain = [drawn(rng)]
    for _ in range(9):
        chain.append(edited(chain[-1], rng, 2))
    texts = [" ".join(words) for words in chain]
    quality = {"classify.educational": [10.0 - place for place in range(10)]}
    found = run(steps(Near(best="classify.educational")), part(texts, **quality))
    stay = [place for place, rule in enumerate(found["rule"]) if not rule]
    assert stay[0] == 0 and 3 <= len(stay) <= 5
    for place, cluster in enumerate(found["cluster"]):
        kept = int(cluster[1:]) if cluster else place
        assert kept in stay and similarity(texts[place], texts[kept]) >= 0.8
    assert all(similarity(texts[a], texts[b]) < 0.8 for a in stay for b in stay if a != b)


def test_the_best_is_kept_not_the_first(run, part):
    rng = random.Random(3)
    first = drawn(rng)
    texts = [" ".join(words) for words in (first, edited(first, rng, 1), edited(first, rng, 1))]
    quality = {"classify.educational": [1.0, 3.0, 2.0]}
    found = run(steps(Near(best="classify.educational")), part(texts, **quality))
    assert found["cluster"] == ["d1", "d1", "d1"] and found["rule"] == [RULE, None, RULE]


def test_the_order_in_which_documents_come_decides_nothing(run, part):
    rng = random.Random(8)
    texts = [drawn(rng, 60) for _ in range(8)]
    texts = [" ".join(edited(words, rng, rng.randrange(2))) for words in texts for _ in range(4)]
    ids = [f"d{place}" for place in range(len(texts))]

    def decided(order):
        table = part([texts[place] for place in order], id=[ids[place] for place in order])
        found = run(steps(Near()), table.slice(0, 9), table.slice(9))
        return sorted(zip(table["id"].to_pylist(), found["rule"], found["cluster"], strict=True))

    wanted = decided(range(len(texts)))
    assert wanted == decided(rng.sample(range(len(texts)), len(texts)))
    assert sum(rule is not None for _, rule, _ in wanted) > 10


def test_similar_to_what_an_earlier_run_kept_goes_and_is_named(run, part, tmp_path):
    rng = random.Random(4)
    old, other = drawn(rng), drawn(rng)
    rows = [{"id": f"old{place}", "text": " ".join(old), "meta": {}} for place in range(2)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    with files.writing(tmp_path / "documents-prose-00000.jsonl.zst") as file:
        file.write(zstandard.compress(lines.encode()))
    texts = [" ".join(words) for words in ([*edited(old, rng, 1), "more"], other)]
    found = run(steps(Near(against=(tmp_path,))), part(texts))
    assert found["rule"] == [EARLIER, None] and found["cluster"][0] in ("old0", "old1")


def test_documents_without_words_and_short_ones_are_compared_by_what_they_have(run, part):
    found = run(steps(Near()), part(["...", "!", "", "one two", "One, two!", "two one"]))
    assert found["rule"] == [None, None, None, RULE, None, None]
    assert found["similarity"][3] == 1


def test_only_texts_of_candidates_are_read(run, part):
    rng = random.Random(5)
    twice = drawn(rng)
    texts = [" ".join(words) for words in [twice, *(drawn(rng) for _ in range(20)), twice]]
    run(steps(Near()), part(texts[:11]), part(texts[11:], 11))
    assert sum(count for name, count in run.parts.asked if name == "text") == 2


def test_a_document_is_compared_with_no_more_than_the_most_candidates(run, part, monkeypatch):
    rng = random.Random(6)
    first, asked = drawn(rng), []
    alike = [" ".join(edited(first, rng, 6)) for _ in range(30)]
    monkeypatch.setattr(near, "jaccard", lambda *pair: asked.append(pair) or 0.0)
    for most in (1, 3):
        asked.clear()
        run(steps(Near(bands=60, rows=2, most=most)), part(alike))
        assert len(asked) == sum(min(place, most) for place in range(30))


@pytest.fixture(scope="module")
def planted(shared):
    """Real texts, and copies of some of them with a part of their words replaced."""
    rng = random.Random(7)
    path = shared / "pretrain" / "dev" / "web_en-00.jsonl.zst"
    real = [row["text"][:3000] for row, _ in zip(files.read_jsonl(path), range(600), strict=False)]
    pairs = []
    for place in rng.sample(range(len(real)), 150):
        words = real[place].split()
        for at in rng.sample(range(len(words)), max(len(words) // 100, 1)):
            words[at] = rng.choice(WORDS)
        pairs.append((place, len(real) + len(pairs), " ".join(words)))
    return real + [text for *_, text in pairs], [pair[:2] for pair in pairs]


def test_planted_copies_of_real_text_are_found_and_nothing_goes_falsely(run, part, planted):
    texts, pairs = planted
    found = run(steps(Near()), part(texts))
    wanted = [pair for pair in pairs if similarity(texts[pair[0]], texts[pair[1]]) >= 0.8]
    hit = [pair for pair in wanted if found["rule"][pair[0]] or found["rule"][pair[1]]]
    assert len(wanted) > 100 and len(hit) >= 0.98 * len(wanted)
    gone = [place for place, rule in enumerate(found["rule"]) if rule]
    false = [
        place
        for place in gone
        if similarity(texts[place], texts[int(found["cluster"][place][1:])]) < 0.8
    ]
    assert len(false) <= 0.01 * len(gone)
