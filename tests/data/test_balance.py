"""The mixture step: copies by hash, the same in any order and however the parts are cut."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from baiwen import files, stages
from baiwen.data import balance
from baiwen.data.balance import census, draws, taken
from baiwen.data.rates import Balance
from baiwen.tokenizer import train

COLUMNS = ("id", "domain", "language", "bytes")


class InMemory:
    """Parts of a table of documents."""

    def __init__(self, table, rows):
        self.tables = [table.slice(start, rows) for start in range(0, len(table), rows)]

    def __len__(self):
        return len(self.tables)

    def table(self, part, columns):
        return self.tables[part].select(["id", *columns])


def corpus(documents=4000, seed=0):
    rng = random.Random(seed)
    rows = [
        (f"document {i}", *rng.choice([("web", "en"), ("web", None), ("science", "en")]))
        for i in range(documents)
    ]
    columns = [*zip(*rows, strict=True), [rng.randrange(10, 5000) for _ in rows]]
    arrays = [pa.array(list(column)) for column in columns]
    return pa.table(dict(zip(COLUMNS, arrays, strict=True)))


def copies(table, rows, **knobs):
    """{id: copies} of a corpus in parts of so many rows."""
    parts = InMemory(table, rows)
    given = list(balance.balance(parts, Balance(**knobs)))
    assert [len(one) for one in given] == [len(one) for one in parts.tables]
    counts = pa.concat_tables(given)["copies"].to_pylist()
    return dict(zip(table["id"].to_pylist(), counts, strict=True))


def test_the_copies_hang_on_no_order_and_no_part():
    table = corpus()
    order = np.random.default_rng(1).permutation(len(table))
    wish = {"weights": {"science": 0.6}, "temperature": 2}
    assert copies(table, 700, **wish) == copies(table.take(order), 999, **wish)


def test_the_bytes_that_come_out_are_those_asked_for():
    table = corpus()
    found = copies(table, 1000, times={"web": 0.25, "science": 2.5}, epochs=3)
    for domain, times in (("web", 0.25), ("science", 2.5)):
        own = table.filter(pa.compute.equal(table["domain"], domain))
        size = np.array(own["bytes"])
        took = np.array([found[id] for id in own["id"].to_pylist()])
        assert (took * size).sum() / size.sum() == approx(times, rel=0.1)
        assert set(took) <= {int(times), int(times) + 1}


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 0.999), st.floats(0, 2)), min_size=1))
def test_a_higher_rate_never_takes_a_document_less_often(rows):
    rate, draw, more = np.array(rows).T
    lower, higher = taken(rate, draw), taken(rate + more, draw)
    assert (np.array(higher["copies"]) >= np.array(lower["copies"])).all()


def test_a_document_that_is_not_taken_has_a_verdict_and_no_other():
    found = taken(np.array([0.3, 0.3, 2.0]), np.array([0.1, 0.7, 0.9])).to_pylist()
    stays = {"rule": None, "value": None, "bound": None}
    assert found[0] == stays | {"copies": 1}
    assert found[1] == {"rule": balance.RULE, "value": 0.7, "bound": 0.3, "copies": 0}
    assert found[2] == stays | {"copies": 2}


def test_draws_are_even_and_differ_between_seeds():
    ids = pa.chunked_array([[f"id {i}" for i in range(20_000)]])
    first, second = draws(ids, 0), draws(ids, 1)
    counts = np.histogram(first, bins=20, range=(0, 1))[0]
    assert abs(counts - 1000).max() < 150  # five standard deviations
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    made = train(["the cat sat on a mat and saw two dogs run past an old red barn"], 280)
    made.save(folder)
    return folder, made


def test_tokens_are_exact_where_all_are_counted_and_near_where_some_are(tokenizer):
    folder, made = tokenizer
    rng = random.Random(0)
    texts = [" ".join(rng.choices(["cat", "dogs", "barn", "数"], k=60)) for _ in range(800)]
    ids = [str(i) for i in range(800)]
    table = pa.table({"id": ids, "text": pa.array(texts, pa.large_string())})
    exact = sum(len(made.encode(text)) + 1 for text in texts)
    own = {"domain": ["a"] * 800, "language": pa.nulls(800, pa.string())}
    own["bytes"] = [len(text.encode()) for text in texts]
    for share, tolerance in ((1.0, 0), (0.1, 0.02)):
        counted = balance.tokens(table, folder, share)["count"]
        size = census([pa.table(own | {balance.TOKENS: counted})])
        assert size["a", "und"].bytes == sum(own["bytes"])
        assert size["a", "und"].tokens == approx(exact, rel=tolerance)


def test_the_card_tells_shares_of_tokens_before_and_after():
    rows = {
        "domain": ["a", "a", "b", "b"],
        "language": ["en", "en", "en", "en"],
        "bytes": [100, 300, 200, 999],
        balance.TOKENS: pa.array([25, None, 100, 500], pa.int64()),
        balance.COPIES: pa.array([0, 2, 1, None], pa.int32()),  # the last one went before
    }
    table = balance.mixture([pa.table(rows)])
    assert table["before"] == {"documents": 3, "bytes": 600, "tokens": 200}
    # No token of what is left of `a` was counted: those of all groups stand for them.
    assert table["after"] == {"documents": 3, "bytes": 800, "tokens": 400}
    assert [row["before"]["share"] for row in table["groups"]] == [0.5, 0.5]
    assert [row["after"]["share"] for row in table["groups"]] == [0.75, 0.25]
    assert [row["after"]["tokens"] for row in table["groups"]] == [300, 100]


def test_a_run_of_the_data_stage_takes_documents_as_its_mixture_says(
    tokenizer, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    texts = {"web": "the cat sat on a mat", "science": "two dogs run past a barn", "shop": "red"}
    with files.jsonl_writer("corpus.jsonl") as put:
        for i in range(600):
            domain = list(texts)[i % 3]
            put({"id": str(i), "text": f"{texts[domain]} {i}", "domain": domain, "lang": "en"})
    tables = f'[balance]\ntokenizer = "{tokenizer[0]}"\nsample = 1.0\n'
    wishes = "times = { science = 1.5, shop = 0.25 }\n"
    files.write(
        "data.toml",
        'stage = "data"\nout = "out"\ncorpus = ["corpus.jsonl"]\nsteps = ["mixture"]\nworkers = 1\n'
        f"{tables}{wishes}",
    )
    (recipe,) = stages.load("data.toml")
    stages.run(recipe)
    card = files.read_json("out/data.json")
    kept = [row for path in Path("out").glob("documents-*") for row in files.read_jsonl(path)]
    for group in card["mixture"]["groups"]:
        own = [row for row in kept if row["meta"]["domain"] == group["domain"]]
        copies = [row["meta"].get("copies", 1) for row in own]
        counts = [len(tokenizer[1].encode(row["text"])) + 1 for row in own]
        assert group["after"]["documents"] == sum(copies)
        assert group["after"]["tokens"] == sum(np.multiply(copies, counts))
        expected = {"science": 1.5, "shop": 0.25, "web": 1.0}[group["domain"]]
        assert group["after"]["tokens"] / group["before"]["tokens"] == approx(expected, rel=0.15)
    dropped = sum(count["documents"] for count in card["dropped"]["mixture"].values())
    assert len(kept) + dropped == card["mixture"]["before"]["documents"]
