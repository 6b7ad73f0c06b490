"""Recall as a user runs it: what was hidden is found round by round, from seeds of another kind."""

import itertools
import json
import random

import pytest

from baiwen import files, stages
from baiwen.data.writers import by_source
from baiwen.errors import UserError

# A chain of dialects: the seeds share words with the first alone, that with the second.
SEEDS = ["prime", "lemma", "proof", "sum", "angle", "root"]
NEAR = ["proof", "sum", "angle", "ring", "field", "basis"]
FAR = ["ring", "field", "basis", "sheaf", "stack", "topos"]
PROSE = [
    "river",
    "house",
    "letter",
    "garden",
    "market",
    "winter",
    "horse",
    "uncle",
    "bread",
    "song",
]
RECIPE = """
stage = "recall"
name = "math"
about = "mathematics"
seeds = ["seeds.jsonl"]
corpus = ["corpus.jsonl"]
labels = "labels.jsonl"
most = 0.1
workers = 1
"""


def text(rng, words):
    """Some of the words among those that all texts have."""
    return " ".join(rng.choices([*words, "the", "of", "and", "is"], k=60))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A corpus of 600 documents with 40 of each dialect, 20 like the seeds, ten of one host."""
    place, rng = tmp_path_factory.mktemp("recall"), random.Random(0)
    rows = [("prose", f"host{i % 40}.org", text(rng, PROSE)) for i in range(490)]
    rows += [("twin", f"host{i}.org", text(rng, SEEDS)) for i in range(20)]
    for dialect, words in (("near", NEAR), ("far", FAR)):
        rows += [(dialect, f"host{i % 40}.org", text(rng, words)) for i in range(40)]
    rows += [("host", "maths.org", text(rng, NEAR if i % 2 else PROSE)) for i in range(10)]
    rng.shuffle(rows)
    write(place / "seeds.jsonl", [{"text": text(rng, SEEDS)} for _ in range(150)])
    write(
        place / "corpus.jsonl",
        [
            {"id": f"{kind} {i}", "text": words, "meta": {"url": f"http://{host}/{i}"}}
            for i, (kind, host, words) in enumerate(rows)
        ],
    )
    labels = [{"id": f"{kind} {i}", "label": kind != "prose"} for i, (kind, *_) in enumerate(rows)]
    write(place / "labels.jsonl", labels)
    return place


def write(path, rows):
    with files.jsonl_writer(path) as put:
        for row in rows:
            put(row)


def run(place, monkeypatch, out, more="", drop=""):
    monkeypatch.chdir(place)
    files.write(f"{out}.toml", f'out = "{out}"\n{RECIPE.replace(drop, "")}{more}')
    (recipe,) = stages.load(f"{out}.toml")
    stages.check([recipe])
    stages.run(recipe)
    return files.read_json(f"{out}/recall.json")


@pytest.fixture(scope="module")
def whole(place):
    with pytest.MonkeyPatch.context() as patch:
        return run(place, patch, "whole")


def found(folder):
    """The rows of what was found."""
    return [row for path in by_source(folder)["math"] for row in files.read_jsonl(path)]


def test_what_was_hidden_is_found_over_several_rounds(whole, place):
    first, last = whole["rounds"][0], whole["rounds"][-1]
    rows = found(place / "whole")
    assert last["precision"]["value"] > 0.9
    assert last["recall"]["value"] > 0.9
    rounds = {row["id"].split()[0]: row["meta"]["recall"]["round"] for row in rows}
    assert first["recall"]["value"] < last["recall"]["value"]
    assert rounds["far"] >= 1
    assert last["end"] == "nothing new is precise enough"


def test_a_host_is_taken_whole(whole, place):
    rows = [row for row in found(place / "whole") if row["id"].startswith("host")]
    assert len(rows) == 10
    assert {row["meta"]["recall"]["way"] for row in rows} == {"score", "source"}
    assert {"source": "maths.org", "documents": 10, "found": 10} in whole["sources"]


def test_what_is_written_is_read_as_documents_are(whole, place):
    kept = files.read_json(place / "whole/data.json")["kept"]
    rows = found(place / "whole")
    assert kept == {
        "math": {"documents": len(rows), "bytes": sum(len(row["text"]) for row in rows)}
    }
    assert {row["meta"]["domain"] for row in rows} == {"math"}
    assert len(rows) == whole["rounds"][-1]["found"]


def test_a_search_that_was_stopped_anywhere_ends_in_the_same_bytes(whole, place, monkeypatch):
    writes, stop, real = [], {}, files.durable.os.replace

    def stopping(*names):
        if len(writes) == stop["at"]:
            raise KeyboardInterrupt
        writes.append(names)
        real(*names)

    for last in (3, 11):  # in the middle of rounds: a classifier, scores, what was found
        stop["at"] = last
        monkeypatch.setattr(files.durable.os, "replace", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(place, monkeypatch, "again")
        monkeypatch.setattr(files.durable.os, "replace", real)
    run(place, monkeypatch, "again")
    told = {"run.json", "recipe.json", "manifest.json"}
    made = [path for path in (place / "whole").rglob("*.*") if path.name not in told]
    assert len(made) > 10
    for path in made:
        other = place / "again" / path.relative_to(place / "whole")
        assert path.read_bytes() == other.read_bytes(), path.name


def test_a_judge_measures_and_what_it_calls_wrong_is_not_taken(place, answering, monkeypatch):
    asked = []

    def judge(body, *_):
        shown = body["messages"][1]["content"]
        asked.append(shown)
        right = any(word in shown.split() for word in (*NEAR, *FAR))
        return json.dumps({"domain": "math" if right else "other"})

    with answering(judge) as served:
        table = run(
            place,
            monkeypatch,
            "judged",
            f'rounds = 1\njudged = 20\n[endpoint]\nurl = "{served.url}"\nmodel = "judge"\n',
            drop='labels = "labels.jsonl"\n',
        )
    bands = [band for row in table["rounds"] for band in row["ways"]["score"]]
    assert all(band["judged"]["n"] == min(20, band["documents"]) for band in bands)
    assert table["rounds"][0]["recall"] is None
    wrong = [row["id"] for row in found(place / "judged") if row["id"].startswith("prose")]
    assert len(wrong) <= 0.2 * table["rounds"][-1]["found"]


def test_without_labels_or_a_judge_only_what_passes_the_spies_is_taken(place, monkeypatch):
    table = run(place, monkeypatch, "spies", "rounds = 1\n", drop='labels = "labels.jsonl"\n')
    (row,) = table["rounds"]
    rows = found(place / "spies")
    assert {one["id"].split()[0] for one in rows} == {"twin"}
    assert all(one["meta"]["recall"]["score"] >= row["bar"] for one in rows)
    assert row["precision"] is None


def test_the_rest_is_written_beside_it_where_it_is_wanted(place, monkeypatch):
    table = run(place, monkeypatch, "rest", "rounds = 1\nrest = true\n")
    sources = by_source(place / "rest")
    assert set(sources) == {"math", "prose"}
    rows = [row for paths in sources.values() for path in paths for row in files.read_jsonl(path)]
    ids = [row["id"] for row in rows]
    assert len(ids) == len(set(ids)) == 600
    assert len(found(place / "rest")) == table["rounds"][0]["found"]


def test_seeds_are_told_apart_by_their_texts_and_those_in_the_corpus_measure_nothing(
    place, tmp_path, monkeypatch
):
    rows = list(files.read_jsonl(place / "corpus.jsonl"))
    seeds = [row for row in rows if row["id"].startswith(("twin", "near"))][::2]
    write(
        tmp_path / "seeds.jsonl",
        [{"id": str(i % 5), "text": seeds[i % 30]["text"]} for i in range(60)],
    )
    write(tmp_path / "corpus.jsonl", rows)
    labels = list(files.read_jsonl(place / "labels.jsonl"))
    write(tmp_path / "labels.jsonl", labels)
    (row,) = run(tmp_path, monkeypatch, "own", "rounds = 1\n")["rounds"]
    taught = files.read_json(tmp_path / "own/rounds/1/classifier/classifier.json")["examples"]
    assert taught == 27  # of 60 seeds 30 differ, of which three are spies
    right = sum(label["label"] for label in labels)
    assert row["recall"]["n"] == right - 30
    ids = {one["id"] for one in found(tmp_path / "own")}
    assert len(ids & {one["id"] for one in seeds}) > 20


def test_a_corpus_that_is_all_of_the_kind_is_found_whole(place, tmp_path, monkeypatch):
    rng = random.Random(1)
    (tmp_path / "seeds.jsonl").write_bytes((place / "seeds.jsonl").read_bytes())
    write(tmp_path / "corpus.jsonl", [{"text": text(rng, SEEDS)} for _ in range(60)])
    table = run(
        tmp_path, monkeypatch, "all", "spies = 1.0\n", drop='labels = "labels.jsonl"\nmost = 0.1\n'
    )
    assert table["corpus"] == {"documents": 60, "unreadable": 0}
    assert table["rounds"][-1]["end"]


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ('name = "other"', "other is what all else is called"),
        ('seeds = ["few.jsonl"]', "too few"),
        ('labels = "strange.jsonl"', "none of its ids"),
        ('corpus = ["nowhere"]', "corpus: "),
    ],
)
def test_a_mistake_is_told(place, monkeypatch, knobs, told):
    monkeypatch.chdir(place)
    write(place / "few.jsonl", [{"text": "one"}, {"text": "two"}])
    write(place / "strange.jsonl", [{"id": "nobody", "label": True}])
    key = knobs.partition(" =")[0]
    lines = [line for line in RECIPE.splitlines() if not line.startswith(f"{key} =")]
    with pytest.raises(UserError, match=told):
        files.write("mistake.toml", "\n".join([f'out = "mistake-{key}"', *lines, knobs, ""]))
        (recipe,) = stages.load("mistake.toml")
        stages.check([recipe])
        stages.run(recipe)


def test_mathematics_is_found_in_real_text(shared, tmp_path, monkeypatch):
    """Seeds are MATH's problems of algebra; hidden among web pages are 80 of its other problems."""
    algebra = [row for row in problems(shared / "eval/math/train.jsonl.gz", 1500) if row[0]]
    hidden = [row for row in problems(shared / "eval/math/test_dev.jsonl.gz", 400) if not row[0]]
    pages = itertools.islice(files.read_jsonl(shared / "pretrain/dev/web_en-00.jsonl.zst"), 1000)
    rows = [{"id": f"math {i}", "text": text} for i, (_, text) in enumerate(hidden[:80])]
    rows += [{"id": row["id"], "text": row["text"][:1500]} for row in pages]
    write(tmp_path / "seeds.jsonl", [{"text": text} for _, text in algebra[:300]])
    write(tmp_path / "corpus.jsonl", rows)
    labels = [{"id": row["id"], "label": row["id"].startswith("math")} for row in rows]
    write(tmp_path / "labels.jsonl", labels)
    table = run(tmp_path, monkeypatch, "real", "rounds = 2\n", drop="most = 0.1\n")
    last = table["rounds"][-1]
    assert last["precision"]["value"] > 0.9
    assert last["recall"]["value"] > 0.8


def problems(path, count):
    """(whether it is algebra, the problem with its solution)."""
    for row in itertools.islice(files.read_jsonl(path), count):
        yield "Algebra" in row["type"], f"{row['problem']}\n\n{row['solution']}"
