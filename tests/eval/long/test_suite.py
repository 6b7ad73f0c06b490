"""The suite through the engine, on a random model: what is asked, kept, scored and refused."""

from dataclasses import replace
from itertools import chain, groupby

import pytest

from baiwen import config as recipes
from baiwen import files
from baiwen.engine.engine import Engine
from baiwen.errors import UserError
from baiwen.eval.long import published, suite
from baiwen.eval.long.answers import Sample, answers
from baiwen.eval.long.cells import TASKS, cells, grouped, named
from baiwen.eval.long.passkey import depths
from baiwen.eval.long.scores import mean, score
from baiwen.model.config import ModelConfig
from baiwen.model.positions import DualChunk
from baiwen.model.sizes import SIZES
from baiwen.model.sparse import Sparse
from baiwen.model.transformer import Transformer

LENGTHS = (800, 1000)


@pytest.fixture(scope="module")
def engine(tokenizer):
    model = Transformer(
        ModelConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
        )
    )
    model.init_weights(0)
    return Engine(model, tokenizer, cache_tokens=8192)


@pytest.fixture
def groups():
    """A small grid, each text a group."""
    grid = cells(("passkey",), LENGTHS, depths=3, keys=2, samples=1)
    return [list(text) for _, text in groupby(grid, key=lambda cell: (cell.length, cell.sample))]


def settings(documents, **knobs):
    given = {"lengths": LENGTHS, "depths": 3, "keys": 2, "samples": 2, "haystack": documents}
    return recipes.parse(given | {"tasks": ["passkey", "vt"]} | knobs, suite.Long, "x.toml")


def sample(task="passkey", length=800, depth=0.5, official=1.0, strict=1.0):
    return Sample(task, length, 0, depth, 384, "?", "", ("1",), official, strict, "stop")


def test_every_cell_is_asked_once_the_deepest_of_a_text_first():
    asked = list(cells(TASKS, (1000, 800, 800), depths=5, keys=3, samples=2))
    assert len(asked) == len(set(asked)) == 2 * (5 * 3 + 13 * 2)
    assert [cell.depth for cell in asked[:5]] == depths(5)[::-1]
    assert list(chain.from_iterable(grouped(asked))) == asked
    for group in grouped(asked):
        assert len({(cell.task, cell.length) for cell in group}) == 1


def test_texts_are_never_parted_between_groups():
    for length in (400, 50_000):
        groups = list(grouped(cells(("passkey",), (length,), depths=11, keys=8, samples=1)))
        texts = [{cell.sample for cell in group} for group in groups]
        assert sum(map(len, texts)) == 8
        assert (len(groups) == 1) == (length == 400)


def test_names_of_tasks_and_of_many():
    assert named(["ruler", "passkey"]) == list(TASKS) and len(TASKS) == 14
    assert named(["vt"]) == ["vt"]
    with pytest.raises(
        UserError, match=r"no task paskey; there are ruler.* Did you mean passkey\?"
    ):
        named(["paskey"])


def test_what_a_run_has_answered_before_it_was_killed_is_kept_and_the_end_is_the_same(
    engine, groups, material, tmp_path
):
    whole = list(answers(engine, "chat", groups, material))
    with files.Ledger(tmp_path / "killed.ledger") as kept:
        running = answers(engine, "chat", groups, material, kept)
        for _ in range(len(groups[0]) + 2):  # into the second group
            next(running)
        running.close()
    with files.Ledger(tmp_path / "killed.ledger") as kept:
        assert 0 < len(kept.rows) < len(groups)
        resumed = list(answers(engine, "chat", groups, material, kept))
        assert len(kept.rows) == len(groups)
    assert [replace(one, truth=tuple(one.truth)) for one in resumed] == whole
    assert len(whole) == sum(map(len, groups))


def test_what_prompts_of_one_text_share_is_computed_once(engine, material):
    groups = list(grouped(cells(("passkey",), (800,), depths=11, keys=2, samples=1)))
    before = engine.stats()
    list(answers(engine, "document", groups, material))
    after = engine.stats()
    read = after["prompt_tokens"] - before["prompt_tokens"]
    shared = after["cached_tokens"] - before["cached_tokens"]
    assert shared > 0.3 * (read + shared)  # half of a text, less what its passages are long


def test_scores_have_both_marks_by_length_and_depth_with_n_and_interval():
    samples = [
        *(sample(length=length, depth=depth) for length in LENGTHS for depth in (0.0, 1.0)),
        sample(depth=1.0, strict=0.0),
        sample("vt", depth=None, official=0.8, strict=0.4),
        sample("cwe", depth=None, official=0.4, strict=0.0),
    ]
    scores = score(samples)
    assert list(scores) == ["passkey", "vt", "cwe", "ruler"]
    grid = scores["passkey"]["lengths"]["800"]
    assert grid["official"]["value"] == 1.0 and grid["strict"]["n"] == 3
    assert {depth: marks["strict"]["value"] for depth, marks in grid["depths"].items()} == {
        "0.00": 1.0,
        "1.00": 0.5,
    }
    for marks in (scores["passkey"]["all"], scores["vt"]["lengths"]["800"]):
        assert 0 <= marks["strict"]["low"] < marks["strict"]["value"] < marks["strict"]["high"] <= 1
    assert scores["ruler"]["lengths"]["800"]["official"]["value"] == pytest.approx(0.6)
    assert mean(samples) == pytest.approx(4.4 / 7)


def test_a_model_is_measured_in_both_forms_with_how_it_was_read(engine, documents, tmp_path):
    long = settings(documents, tasks=["passkey", "qa_1"])
    entry = suite.measure(engine, long, ("chat", "document"), 0, "tiny", tmp_path)
    assert set(entry["forms"]) == {"chat", "document"}
    assert entry["tasks"] == entry["forms"][entry["form"]]
    assert entry["tasks"]["passkey"]["all"]["strict"]["n"] == 2 * 3 * 2
    assert entry["extension"] == engine.told == "1,024 tokens, as trained"
    assert entry["ropes"][800] == {"factor": 1.0, "temperature": 1.0}
    assert entry["left_out"] == {"qa_1": "no questions on documents: give squad = FILE"}
    rows = list(files.read_jsonl(tmp_path / "long-tiny-chat.jsonl"))
    assert len(rows) == 12 and all(row["tokens"] == row["length"] - 24 for row in rows)


def test_what_is_seen_of_texts_that_are_read_sparsely_stands_by_length(engine, documents):
    sparse = Sparse(threshold=900, chunk=128, floor=0.01)
    reader = Engine(engine.model, engine.tokenizer, cache_tokens=8192, sparse=sparse)
    entry = suite.measure(
        reader, settings(documents, tasks=["passkey"]), ("document",), 0, "t", None
    )
    assert "sparsely, by vote" in entry["extension"]
    assert list(entry["sparsity"]) == ["1000"]  # shorter ones are below the threshold
    seen = entry["sparsity"]["1000"]
    assert 0 < seen["density"] <= 1 and 0 < seen["lowest_recall"] <= seen["recall"] <= 1


def test_what_cannot_be_asked_is_told_before_anything_is(engine, documents, tmp_path):
    before = engine.stats()["prompt_tokens"]
    wrong = {
        "lengths = 2,048 are beyond": {"lengths": [800, 2048]},
        "vt at 400 tokens: 400 tokens have no room": {"lengths": [400]},
        "nothing is asked of long texts": {"tasks": ["qa_1", "qa_2"]},
        "there is no file": {"haystack": str(tmp_path / "absent.jsonl")},
    }
    for told, knobs in wrong.items():
        with pytest.raises(UserError, match=told):
            suite.measure(engine, settings(documents, **knobs), ("chat",), 0, "tiny", tmp_path)
    assert engine.stats()["prompt_tokens"] == before
    for knobs in ({"lengths": []}, {"lengths": [0]}, {"tasks": ["needle"]}, {"depths": 0}):
        with pytest.raises(UserError):
            settings(documents, **knobs)


def test_the_reports_figures_stand_beside_models_of_that_shape():
    name, figures = published.of(SIZES["7b"])
    assert name == "Qwen2.5-7B-Instruct" and figures[131_072] == 0.551
    chunks = DualChunk(262_144, 8192, 262_144)
    name, figures = published.of(replace(SIZES["14b"], dual_chunk_attention_config=chunks))
    assert name == "Qwen2.5-14B-Instruct-1M" and figures[131_072] == 0.922
    assert published.of(SIZES["tiny"]) is None
