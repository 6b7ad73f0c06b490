"""The whole of `recipes/data`, shrunk: raw files in; shards, proxy runs and a report out.

The judge and the writer are a scripted server; all else is what a user runs, as one command.
"""

import contextlib
import hashlib
import json
import random
import re
from pathlib import Path

import pytest

from baiwen import files, stages
from baiwen.data import corpus
from baiwen.instruct import words

ROOT = Path(__file__).resolve().parents[1]
SHRUNK = [
    "tokenizer.vocab_size=700",
    "classifier.documents=200",
    "rounds=2",
    "judged=20",
    "generate.prompts=[{use='medium',count=24},{use='problem',count=12},{use='exercise',count=8}]",
    "mixtures.tokens=4_096",
    "mixtures.runs=1",
    "mixtures.characters=2_000",
    "mixtures.threads=1",
    "workers=1",
]
TEST = "A ship sails from the old port at dawn with ninety barrels of salt and sells a third of it."
SHOWN = re.compile(r"<document (\w+)>\n(.*?)\n</document \1>", re.DOTALL)


def sentences(kind, rng):
    """A dozen sentences that are about a thing and have numbers of their own."""
    a, b = rng.randrange(2, 90), rng.randrange(2, 900)
    one, two = rng.sample(words.NOUNS, 2)
    said = {
        "math": [
            f"We have to solve the equation {a} x = {a * b} for the unknown x in this problem.",
            f"Divide both sides by {a}, and it follows that x = {b}, which proves the claim.",
            f"The theorem says that the sum of {a} and {b} is {a + b}, and that is what we want.",
            f"Let n be the number of {one}s; because n + {a} = {a + b}, we have n = {b}.",
            f"A proof by induction on {one}s begins with the case of n = {a} and goes to {b}.",
        ],
        "code_text": [
            f"The function takes the {one} and returns {a}, as the code of the module shows.",
            f"Call the method with argument = {b} and the compiler will say that {two} is missing.",
            f"In this program a loop goes over each {one} of the list and prints {a} of them.",
            f"An exception is raised where the {two} has no attribute of the name {one}_{b}.",
            f"Import the library, then write a class for the {one} that has {a} methods.",
        ],
        "travel": [
            f"On the way to the {one} there are {a} inns, and that of the {two} is the best.",
            f"We walked with our friends for {b} miles until we saw the {one} on the hill.",
            f"The {two} was built in {1000 + b} and has been a place for guests since then.",
            f"Take the road from the {one} to the {two}, which is {a} minutes by bus.",
            f"In the evening they sing songs of the {one} and dance until the {two} closes.",
        ],
    }
    return said[kind]


def page(kind, number):
    """The five sentences of a kind, each once, and between them what could be anywhere."""
    rng = random.Random(f"{kind} {number}")
    said = [line for one in sentences(kind, rng) for line in (one, filler(rng), filler(rng))]
    return " ".join(said)


def filler(rng):
    a, b, c, d = rng.sample(words.NOUNS, 4)
    n = rng.randrange(999)
    return rng.choice(
        [
            f"The {a} of {b}s has been with the {c} and {n} {d}s that we know.",
            f"Where {n} {a}s are, a {b} will have to be, or so the {c} says to the {d}.",
            f"It was a {a}, not a {b}, and with it came {n} of the {c}s from that {d}.",
            f"They have put {n} {a}s into the {b}, to the left of the {c} by the {d}.",
        ]
    )


def row(kind, number, text):
    url = f"https://{kind.replace('_', '-')}{number % 7}.example.org/{number}"
    return {"id": f"{kind}-{number}", "text": text, "meta": {"url": url, "source": "web"}}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")


def make(mine):
    """A corpus of pages of three kinds, junk, copies, contaminated ones and real code."""
    pages = [row(kind, n, page(kind, n)) for kind in KINDS for n in range(KINDS[kind])]
    pages += [row("short", n, f"Click here {n}") for n in range(10)]
    pages += [row("copy", n, page("travel", n)) for n in range(5)]
    pages += [row("nearly", n, f"{page('travel', 20 + n)} The end.") for n in range(5)]
    pages += [row("spoiled", n, f"{page('travel', 500 + n)} {TEST}") for n in range(4)]
    pages += [row("mail", 0, f"{page('travel', 900)} Write to someone@somewhere.org today.")]
    write(mine / "corpus/pages.jsonl", pages)
    for path in corpus.modules()[:12]:
        (mine / "corpus" / path.name).write_bytes(path.read_bytes())
    for name, kind in {"math": "math", "code": "code_text"}.items():
        seeds = [row("seed", n, page(kind, 1000 + n)) for n in range(60)]
        write(mine / "seeds" / name / "seeds.jsonl", seeds)
    write(mine / "evaluations/test.jsonl", [{"question": TEST}])


KINDS = {"math": 60, "code_text": 60, "travel": 240}


def kind_of(text):
    """What a page is, by its words."""
    telling = {
        "math": ["equation", "theorem", "proof", "proves", "unknown"],
        "code_text": ["function", "compiler", "program", "exception", "library"],
    }
    counts = {kind: sum(text.count(word) for word in found) for kind, found in telling.items()}
    best = max(counts, key=counts.get)
    return best if counts[best] > 2 else "travel"


def answer(body):
    """The judge and the writer."""
    system, user = (body["messages"][place]["content"] for place in (0, -1))
    shown = SHOWN.search(body["messages"][1]["content"])
    if "educational_value" in system:
        kind = kind_of(shown[2])
        level = {"math": 5, "code_text": 4, "travel": 1 + len(shown[2]) % 3}[kind]
        marks = dict.fromkeys(("correctness", "clarity", "completeness"), min(5, level + 1))
        domain = {"math": "science", "code_text": "technology"}.get(kind, kind)
        low = {"noise": 6 - level, "harmfulness": 1}
        return json.dumps({"educational_value": level, **marks, **low, "domain": domain})
    if "You judge" in system:
        name = "math" if "- math:" in system else "code_text"
        return json.dumps({"domain": name if kind_of(shown[2]) == name else "other"})
    return written(f"{user}{body.get('seed')}", system, user)


def written(name, system, user):
    number = int(hashlib.sha256(name.encode()).hexdigest()[:6], 16) % 1000
    if "Solve the problem" in system + user:
        return f"It is \\boxed{{{re.search(r'plus ([0-9]+)', user)[1]}}}."
    if "<problem>" in system + user:
        told = f"<problem>{page('math', number)} What is 0 plus {number}?</problem>"
        return f"{told}<solution>{page('travel', number)} \\boxed{{{number}}}</solution>"
    if "<program>" in system + user:
        tests = "\n".join(f"assert plus({n}) == {n} + {number}" for n in range(4))
        program = f"def plus(number):\n    return number + {number}"
        told = f"<exercise>{page('code_text', number)}</exercise>"
        return f"{told}<program>{program}</program><tests>{tests}</tests>"
    return f"<text>{page('math', 2000 + number)}</text>" if number % 5 else "Sure, here it is: no."


@pytest.fixture(scope="module")
def finished(tmp_path_factory, answering, forks):
    folder = tmp_path_factory.mktemp("data")
    make(folder / "mine")
    with answering(answer) as served, contextlib.chdir(folder):
        recipe = ROOT / "recipes/data"
        done = forks.run("-m", "baiwen", "run", recipe, f"endpoint.url={served.url}", *SHRUNK)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "runs/web"


def documents(folder, *names):
    paths = [path for name in names for path in sorted(folder.glob(name))]
    return [found for path in paths for found in files.read_jsonl(path)]


pytestmark = pytest.mark.slow


def test_what_is_hidden_is_found_and_the_rest_is_still_there(finished):
    for name, kind in {"math": "math", "code": "code_text"}.items():
        found = {one["id"] for one in documents(finished / name, f"documents-{kind}-*")}
        right = {one for one in found if one.startswith(kind)}
        assert len(right) > 0.8 * KINDS[kind] and len(right) > 0.8 * len(found)
    clean = {one["id"] for one in documents(finished / "clean", "documents-*")}
    assert {one["id"] for one in documents(finished / "code", "documents-*")} == clean


def test_junk_copies_and_evaluations_are_dropped_for_their_reasons(finished):
    gone = {
        one["id"]: one["verdict"]["step"]
        for name in ("clean", "data")
        for one in documents(finished / name, "dropped-*")
    }
    assert all(gone[f"short-{n}"] == "heuristics" for n in range(10))
    assert all("exact" in (gone.get(f"copy-{n}"), gone.get(f"travel-{n}")) for n in range(5))
    assert all(gone[f"spoiled-{n}"] in ("quality", "decontaminate") for n in range(4))
    mail = [one for one in documents(finished / "clean", "documents-*") if one["id"] == "mail-0"]
    assert "somewhere.org" not in mail[0]["text"]
    card = files.read_json(finished / "data/data.json")
    assert {"near", "decontaminate", "quality"} <= set(card["dropped"])


def test_a_kept_document_tells_where_it_is_from_and_how_it_scored(finished):
    kept = documents(finished / "data", "documents-*")
    assert {"math", "code_text", "code"} <= {one["meta"]["domain"] for one in kept}
    for one in kept:
        lineage = one["meta"]["lineage"]
        assert "near" in lineage["steps"] and one["meta"]["scores"]["classify.educational_value"]
    written = [one for one in kept if one["meta"]["lineage"].get("prompt")]
    assert written and all(one["meta"]["lineage"]["parents"] for one in written)


def test_shards_hold_what_is_kept_with_holes_in_code(finished):
    card = files.read_json(finished / "data/data.json")
    for domain in ("math", "code"):
        index = files.read_json(finished / f"shards/{domain}/index.json")
        copies = [
            one["meta"].get("copies", 1)
            for one in documents(finished / "data", f"documents-{domain}-*")
        ]
        assert (
            index["documents"] == sum(copies) and len(copies) == card["kept"][domain]["documents"]
        )


def test_with_other_bounds_nothing_is_scored_again(finished, monkeypatch):
    """The recipe that `docs/data/index.md` shows."""
    page = (ROOT / "docs/data/index.md").read_text(encoding="utf-8")
    monkeypatch.chdir(finished.parents[1])
    Path("stricter.toml").write_text(page.partition("```toml\n")[2].partition("```")[0])
    (recipe,) = stages.load("stricter.toml", ["workers=1"])
    stages.check([recipe])
    assert stages.run(recipe)
    steps = {row["step"] for row in files.read_jsonl(recipe.out / "logs/steps.jsonl")}
    assert "quality" in steps and not steps & {"read", "classify"}
    scores = [
        one["meta"]["scores"]["classify.educational_value"]
        for one in documents(recipe.out, "documents-*")
    ]
    assert scores and min(scores) >= 3


def test_the_report_tells_of_every_stage(finished):
    told = (finished / "report/report.md").read_text(encoding="utf-8")
    for part in ("step of clean", "dimension, classifier", "round of math", "prompt of generate"):
        assert f"\n| {part} |" in told
    assert "mixture of data" in told and "| mixture of mixtures |" in told
    assert (
        "data, quality: " in told and "clean, heuristics: gopher: too few words: 10 of 10" in told
    )
