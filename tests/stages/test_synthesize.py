"""What the synthesize stage writes."""

from collections import Counter
from contextlib import ExitStack
from random import Random

import pytest

from baiwen import config as recipes
from baiwen import files
from baiwen.data import conversations
from baiwen.data.document import document
from baiwen.data.shards import Shards
from baiwen.errors import UserError
from baiwen.stages import shards, synthesize
from baiwen.tokenizer import bpe
from baiwen.tokenizer.tokenizer import Tokenizer

WORDS = [f"{a}{b}" for a in ("ba", "den", "ful", "gor", "lim") for b in ("ka", "mo", "ri", "tus")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Documents of two domains, 40 short ones each, and three long ones."""
    folder, rng = tmp_path_factory.mktemp("data"), Random(0)
    names = {name: folder / f"documents-{name}-00000.jsonl.zst" for name in ("books", "web")}
    with ExitStack() as stack:
        puts = [stack.enter_context(files.jsonl_writer(path)) for path in names.values()]
        for index in range(83):
            sentences = 300 if index >= 80 else rng.randint(5, 30)
            text = "\n\n".join(" ".join(rng.choices(WORDS, k=12)) for _ in range(sentences))
            meta = {"domain": ["books", "web"][index % 2], "license": "CC0"}
            puts[index % 2](document(text, meta, id=f"d{index}").row())
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    bpe.train([" ".join(WORDS)] * 20, 290).save(folder)
    return folder


@pytest.fixture
def settings(tmp_path, data, tokenizer):
    return synthesize.Config(
        out=tmp_path / "out",
        documents=data,
        tokenizer=tokenizer,
        lengths=((1_000, 1_500), (3_000, 3_000)),
        count=12,
        conversations=6,
        workers=1,
    )


def run(settings, **knobs):
    settings = settings.model_copy(update=knobs)
    with files.run_folder(settings.out, recipes.resolved(settings)) as folder:
        synthesize.run(settings, folder)
    return settings.out


def rows(out):
    return list(files.read_jsonl(out / "documents-longrange-00000.jsonl.zst"))


def content(out):
    paths = [
        out / "data.json",
        out / "exercises.json",
        *out.glob("documents-*"),
        *out.glob("conversations.*"),
    ]
    return {path.name: path.read_bytes() for path in paths}


def test_a_document_fills_a_row_and_says_what_it_was_made_of(settings):
    out, tokenizer = run(settings), Tokenizer.load(settings.tokenizer)
    made = rows(out)
    assert len(made) == len({row["id"] for row in made}) == 12
    for row in made:
        length = len(tokenizer.encode(row["text"])) + 1
        assert 900 <= length <= 1_500 or 2_700 <= length <= 3_000
        assert row["meta"]["kind"] in {"fim", "keyword", "position", "reorder"}
        assert row["meta"]["domain"] == "longrange" and row["meta"]["license"] == "CC0"
        origins = {int(origin[1:]) % 2 for origin in row["meta"]["lineage"]}
        assert len(origins) == 1, "the documents of one domain"


def test_shards_and_their_plan_read_the_folder(settings, tmp_path):
    out = run(settings)
    read = shards.Config(
        out=tmp_path / "shards", documents=out, tokenizer=settings.tokenizer, workers=1
    )
    assert shards.plan(read)["tokens (estimate)"] > 12_000
    with files.run_folder(read.out, recipes.resolved(read)) as folder:
        shards.run(read, folder)
    source = Shards.open(read.out / "longrange")
    assert len(source.ends) == 12 and max(source.lengths) <= 3_000


def test_conversations_are_packed_whole_by_sft(settings):
    out = run(settings)
    pool = conversations.pool(out / "conversations.jsonl.zst", settings.tokenizer, 3_000)
    assert len(pool.pieces) == 6
    for row in files.read_jsonl(out / "conversations.jsonl.zst"):
        assert row["messages"][-1]["content"].endswith(row["answer"])


def test_kinds_come_by_their_weights(settings):
    kinds = synthesize.Kinds(fim=3, keyword=0, position=0, reorder=0, passkey=1)
    out = run(settings, kinds=kinds, count=80, conversations=0, lengths=((300, 400),))
    counts = Counter(row["meta"]["kind"] for row in rows(out))
    assert counts.keys() == {"fim", "passkey"} and 45 <= counts["fim"] <= 72
    assert files.read_json(out / "exercises.json")["documents"]["kinds"] == counts


def test_processes_write_the_same_bytes_as_one(settings, tmp_path):
    one = content(run(settings, count=0))
    assert content(run(settings, count=0, workers=2, out=tmp_path / "two")) == one
    assert one["conversations.jsonl.zst"]


def test_a_killed_run_goes_on_to_the_same_bytes(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(synthesize, "FILE_BYTES", 20_000)
    whole = content(run(settings, out=tmp_path / "whole"))
    assert len(whole) > 4
    makes = synthesize.make_row
    left = [len(whole)]

    def killed(recipe, task):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return makes(recipe, task)

    monkeypatch.setattr(synthesize, "make_row", killed)
    with pytest.raises(KeyboardInterrupt):
        run(settings)
    monkeypatch.setattr(synthesize, "make_row", makes)
    begun = {path: path.stat().st_mtime_ns for path in settings.out.glob("documents-*")}
    assert content(run(settings)) == whole
    assert begun and all(path.stat().st_mtime_ns == when for path, when in begun.items())


def test_without_joining_only_long_documents_are_used(settings):
    out = run(settings, join=False, lengths=((3_000, 3_000),), conversations=0)
    assert {origin for row in rows(out) for origin in row["meta"]["lineage"]} == {
        "d80",
        "d81",
        "d82",
    }


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"lengths": ((10**6, 10**6),)}, "the documents of no domain are, even together"),
        ({"lengths": ((90_000, 90_000),), "join": False}, "no document is"),
        ({"lengths": ((8, 8),)}, "200 texts in a row gave nothing"),
    ],
)
def test_lengths_that_no_text_has_are_told(settings, knobs, told):
    with pytest.raises(UserError, match=told):
        run(settings, **knobs)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"lengths": [[30, 20]]}, "has its least above its most"),
        ({"kinds": dict.fromkeys(("fim", "keyword", "position", "reorder"), 0)}, "all weights are"),
        ({"kinds": {"needles": 1}}, "Did you mean needle?"),
    ],
)
def test_knobs_that_make_no_sense_are_named(raw, told):
    needed = {"out": "x", "documents": "y", "tokenizer": "z"}
    with pytest.raises(UserError) as error:
        recipes.parse(needed | raw, synthesize.Config, "synthesize.toml")
    assert told in str(error.value)
