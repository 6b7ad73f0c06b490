"""The stage with a judge that answers by a formula, and with judges that do not answer."""

import json
import re
from collections import Counter

import pyarrow as pa
import pytest

import baiwen
from baiwen import config as recipes
from baiwen import files
from baiwen.data.classifier import agreement
from baiwen.data.classifier.model import Classifier
from baiwen.data.rubric import Dimension, Domain
from baiwen.endpoint import Endpoint
from baiwen.engine.asked import Local
from baiwen.engine.engine import Engine
from baiwen.engine.front import Front
from baiwen.errors import UserError
from baiwen.serve import app
from baiwen.stages import classifier, data

WORDS = [f"word{number}" for number in range(300)]
GOOD = ["theorem", "because", "therefore", "example"]
SUBJECTS = {"science": ["atom", "cell", "star"], "sports": ["goal", "match", "team"]}
DIMENSIONS = (Dimension(name="worth", question="Is it worth reading?"),)
DOMAINS = tuple(Domain(name=name) for name in SUBJECTS)
SHOWN = re.compile(r"<document (\w+)>\n(.*)\n</document \1>", re.DOTALL)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Intervals are no matter here, and take most of the time."""
    monkeypatch.setattr(agreement, "RESAMPLES", 20)


def text(number):
    """Forty words, of which 0 to 4 are good ones, and three of a subject."""
    words = [WORDS[(number * 37 + place * 11) % len(WORDS)] for place in range(40)]
    subject = list(SUBJECTS.values())[number // 5 % 2]
    return " ".join([*words, *GOOD[: number % 5], *subject])


def marks(shown):
    """The formula: a level for each good word, and the domain of the subject's words."""
    words = shown.split()
    worth = 1 + sum(word in GOOD for word in words)
    return {"worth": worth, "domain": "science" if "atom" in words else "sports"}


def judge(body):
    return json.dumps(marks(SHOWN.search(body["messages"][1]["content"])[2]))


def documents(path, count=200):
    with files.jsonl_writer(path) as write:
        for number in range(count):
            domain = "web" if number % 10 else "books"
            write({"id": f"d{number}", "text": text(number), "meta": {"domain": domain}})
    return path


def settings(tmp_path, served=None, count=200, **knobs):
    given = {"dimensions": DIMENSIONS, "domains": DOMAINS, **knobs}
    if served:
        given["endpoint"] = Endpoint(url=served.url, retries=0, pause=0.01)
    path = documents(tmp_path / "documents.jsonl", count)
    return classifier.Config(**{"out": tmp_path / "out", "data": (path,), **given})


def into(config):
    with files.run_folder(config.out, recipes.resolved(config), free=config.free) as folder:
        classifier.run(config, folder)
    return files.read_json(config.out / "classifier.json")


def test_the_classifier_learns_what_the_judge_goes_by(tmp_path, answering):
    with answering(judge) as served:
        told = into(settings(tmp_path, served))
        assert len(served.asked) == 200
    worth, domain = told["agreement"]["dimensions"]["worth"], told["agreement"]["domains"]
    assert worth["spearman"]["value"] > 0.9 and worth["f1"]["value"] > 0.9
    assert domain["accuracy"]["value"] == 1 and domain["commonest"] < 0.7
    assert (
        worth["n"]
        == told["documents"]["heldout"]
        == sum(n for row in domain["confusion"].values() for n in row.values())
    )
    assert told["judge"]["model"] == "rule" and told["judge"]["bill"]["replies"] == 200
    made = Classifier.load(tmp_path / "out")
    levels, chances = made.scores(pa.array([text(1004), text(1000)]))
    assert levels[0, 0] > 3.5 and levels[1, 0] < 2.5 and (chances.max(1) > 0.8).all()


def test_the_data_stage_scores_decides_and_assigns_by_the_folder(tmp_path, answering):
    with answering(judge) as served:
        config = settings(tmp_path, served)
        into(config)
    recipe = {
        "out": tmp_path / "filtered",
        "corpus": [str(config.data[0])],
        "steps": ["classify", "quality", "domain"],
        "classify": {"folder": config.out},
        "quality": [{"score": "classify.worth", "keep": 0.4}],
        "heldout_share": 0,
        "workers": 1,
    }
    made = recipes.parse(recipe, data.Config, "recipe.toml")
    with files.run_folder(made.out, recipes.resolved(made)) as folder:
        data.run(made, folder)
    kept = [
        row for path in made.out.glob("documents-*.jsonl.zst") for row in files.read_jsonl(path)
    ]
    dropped = list(files.read_jsonl(made.out / "dropped-00000.jsonl.zst"))
    assert len(kept) == 80 and len(dropped) == 120
    worth = [marks(row["text"])["worth"] for row in kept]
    assert sum(one >= 4 for one in worth) >= 76
    assert all(row["meta"]["domain"] == marks(row["text"])["domain"] for row in kept)
    scores = [row["meta"]["scores"]["classify.worth"] for row in kept]
    assert min(scores) >= max(row["verdict"]["value"] for row in dropped)


def test_marks_given_as_a_file_teach_the_same(tmp_path, answering):
    with answering(judge) as served:
        into(settings(tmp_path, served))
    out = tmp_path / "again"
    into(settings(tmp_path, out=out, labels=tmp_path / "out" / "marks.jsonl"))
    for name in ("classifier.safetensors", "marks.jsonl", "heldout.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_rows_with_texts_and_fields_of_their_own_are_marks_too(tmp_path):
    rows = [{"text": text(n), "label": str(n % 5), "topic": "Sports"} for n in range(100)]
    path = tmp_path / "rows.jsonl"
    with files.jsonl_writer(path) as write:
        for row in rows:
            write(row)
    worth = Dimension(name="worth", least=0, most=4)
    given = {"dimensions": (worth,), "domains": DOMAINS, "labels": path}
    fields = {"worth": "label", "domain": "topic"}
    told = into(classifier.Config(out=tmp_path / "out", fields=fields, **given))
    assert sum(told["documents"].values()) == 100
    assert told["agreement"]["dimensions"]["worth"]["spearman"]["value"] > 0.8
    with pytest.raises(UserError, match=r"row 1: worth is no level from 0 to 4: 'Sports'"):
        into(classifier.Config(out=tmp_path / "odd", fields={"worth": "topic"}, **given))
    with pytest.raises(UserError, match=r"no row has a document and one of worth, domain"):
        into(classifier.Config(out=tmp_path / "none", **given))


def test_rows_of_one_id_keep_their_texts_and_those_of_no_document_are_counted(tmp_path):
    rows = [{"id": "page", "text": text(n), "worth": 1 + n % 5} for n in range(100)]
    rows += [{"id": "elsewhere", "worth": 1}, {"text": "nobody has judged this"}]
    path = tmp_path / "rows.jsonl"
    with files.jsonl_writer(path) as write:
        for row in rows:
            write(row)
    given = {"dimensions": DIMENSIONS, "domains": (), "labels": path}
    told = into(classifier.Config(out=tmp_path / "out", **given))
    lost = {"without_document": 1, "without_marks": 1}
    assert told["judge"] == {"labels": str(path), "rows": 102, **lost}
    assert told["agreement"]["dimensions"]["worth"]["spearman"]["value"] > 0.8


def test_what_cannot_be_read_is_asked_again_then_counted_and_left_out(tmp_path, answering):
    def rule(body):
        number = int(re.search(r"word(\d+)", body["messages"][1]["content"])[1])
        if number % 10 == 0:
            return "I would rather not."
        if number % 10 == 1:
            return 400, {"error": "too long"}
        again = len(body["messages"]) > 2
        return '{"worth": 3' if number % 10 == 2 and not again else judge(body)

    with answering(rule) as served:
        config = settings(tmp_path, served, attempts=2)
        with pytest.raises(UserError, match=r"40 of 200 .*cannot be read 20, refused 20"):
            into(config.model_copy(update={"max_unread": 0.1}))
        told = into(config)  # goes on
    unread = list(files.read_jsonl(config.out / "unread.jsonl"))
    assert told["judge"]["unread"] == {"cannot be read": 20, "refused": 20}
    assert Counter(row["why"][:7] for row in unread) == {"cannot ": 20, "refused": 20}
    assert sum(told["documents"].values()) == 160
    last = [body["messages"][-1]["content"] for body, _ in served.asked]
    assert sum("JSON object alone" in told for told in last) == 20 + 20  # none of them twice


def test_a_judge_that_goes_down_is_asked_for_the_rest_later(tmp_path, answering):
    alive = iter(range(999))
    with answering(judge) as served:
        whole = settings(tmp_path, served, out=tmp_path / "whole")
        into(whole)
    with answering(lambda body: judge(body) if next(alive) < 25 else (500, {})) as served:
        config = settings(tmp_path, served)
        with pytest.raises(UserError, match=r"is down.*\n\d+ replies are kept"):
            into(config)
    kept = len((config.out / "state" / "replies.jsonl").read_text().splitlines())
    with answering(judge) as served:  # elsewhere
        moved = Endpoint(url=served.url, model=config.endpoint.model, retries=3)
        into(config.model_copy(update={"endpoint": moved}))
        assert kept >= 25 and len(served.asked) == 200 - kept
    for name in ("classifier.safetensors", "marks.jsonl"):
        assert (config.out / name).read_bytes() == (whole.out / name).read_bytes()


def test_nothing_is_asked_once_the_money_is_spent(tmp_path, answering):
    with answering(judge) as served:
        paid = Endpoint(url=served.url, price_in=1e5, most_cost=100.0, concurrency=2)
        told = into(settings(tmp_path, endpoint=paid))
    assert 100 <= len(served.asked) < 120 and told["judge"]["bill"]["cost"] >= 100
    assert sum(told["documents"].values()) == len(served.asked)


def test_strata_have_as_many_documents_each(tmp_path, answering):
    with answering(judge) as served:
        into(settings(tmp_path, served, count=1200, documents=200))
    chosen = [int(row["id"][1:]) for row in files.read_jsonl(tmp_path / "out" / "marks.jsonl")]
    assert Counter(number % 10 == 0 for number in chosen) == {True: 100, False: 100}


def test_a_model_of_our_own_that_says_nothing_readable_is_an_error(tmp_path, speechless):
    baiwen.save(*speechless, tmp_path / "model")
    local = Local(model=tmp_path / "model", device="cpu", dtype="float32", concurrency=4)
    config = settings(tmp_path, local=local, documents=2, max_tokens=8, attempts=2)
    with pytest.raises(UserError, match=r"2 of 2 documents have no marks \(cannot be read 2\)"):
        into(config)
    assert len(list(files.read_jsonl(config.out / "unread.jsonl"))) == 2


def test_so_is_one_behind_our_own_server(tmp_path, speechless, running):
    """`baiwen serve`."""
    front = Front(Engine(*speechless, cache_tokens=16_384))
    with running(app.build(front, speechless[1], "ours", 8192)) as url:
        judge = Endpoint(url=url)
        config = settings(tmp_path, endpoint=judge, documents=2, max_tokens=8, attempts=2)
        with pytest.raises(UserError, match=r"2 of 2 documents have no marks"):
            into(config)
    assert len((config.out / "state" / "replies.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({}, "needs one judge"),
        ({"endpoint": {"url": "http://h"}, "local": {"model": "m"}}, "needs one judge"),
        ({"endpoint": {"url": "http://h"}, "data": []}, "which documents"),
        ({"labels": "rows.jsonl", "dimensions": [], "domains": []}, "needs dimensions or domains"),
        ({"labels": "rows.jsonl", "domains": [{"name": "one"}]}, "one alone"),
        ({"labels": "rows.jsonl", "dimensions": [{"name": "a"}] * 2}, "a name of its own"),
        ({"labels": "rows.jsonl", "dimensions": [{"name": "label"}]}, "means another"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(knobs, told):
    with pytest.raises(UserError, match=told):
        recipes.parse({"out": "o", "data": ["d"], **knobs}, classifier.Config, "recipe.toml")


def test_too_few_documents_are_an_error_that_says_how_many_there_are(tmp_path, answering):
    with answering(judge) as served, pytest.raises(UserError, match=r"20 documents have marks"):
        into(settings(tmp_path, served, count=20))


def test_the_plan_says_what_is_asked_and_what_it_may_cost(tmp_path):
    paid = Endpoint(url="http://h", price_in=1.0, price_out=2.0)
    found = classifier.plan(settings(tmp_path, endpoint=paid, documents=1000, characters=4000))
    assert found["requests"].startswith("1,000,") and found["cost"].startswith("at most 1.")
