"""The stage on a random model: what it writes, what it does not do twice, what it refuses."""

import shutil

import pytest
import torch

import baiwen
from baiwen import config as recipes
from baiwen import files
from baiwen.errors import UserError
from baiwen.eval.reading import Extension
from baiwen.instruct.draw import KINDS
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.stages import evaluate, instruct
from baiwen.tokenizer import bpe

CONTEXT = 1024
ASKED = 2 * len(KINDS)


def into(stage, config):
    with files.run_folder(config.out, recipes.resolved(config)) as folder:
        stage.run(config, folder)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "instruct"
    into(instruct, instruct.Config(out=out, train=80, heldout=2, documents=16))
    return out


@pytest.fixture(scope="module")
def models(tasks, tmp_path_factory):
    texts = [row["text"] for row in files.read_jsonl(tasks / "documents.jsonl.zst")]
    tokenizer = bpe.train(texts, vocab_size=400)
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "sft")):
        model = Transformer(
            ModelConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=1,
                max_position_embeddings=CONTEXT,
                tie_word_embeddings=True,
                torch_dtype="float32",
            )
        )
        model.init_weights(seed)
        baiwen.save(model, tokenizer, folder / name)
    return folder


def settings(models, drawn, out, **knobs):
    both = {
        "base": evaluate.Model(folder=models / "base", forms=("document", "chat")),
        "sft": evaluate.Model(folder=models / "sft"),
    }
    given = {"models": both, "tasks": drawn / "heldout.jsonl", "max_tokens": 8}
    given |= {"shots_from": drawn / "train.jsonl", "documents": drawn / "documents.jsonl.zst"}
    return evaluate.Config(out=out, device="cpu", **(given | {"characters": 4000} | knobs))


@pytest.fixture(scope="module")
def scored(models, tasks, tmp_path_factory):
    out = tmp_path_factory.mktemp("scored") / "evaluate"
    into(evaluate, settings(models, tasks, out))
    return out


def test_every_question_is_counted_in_every_form(scored):
    scores = files.read_json(scored / "scores.json")["models"]
    assert set(scores["base"]["forms"]) == {"document", "chat"}
    for model in scores.values():
        for form in model["forms"].values():
            assert form["all"]["n"] == sum(form["all"]["verdicts"].values()) == ASKED
            assert form["all"]["verdicts"]["error"] == 0
    assert files.complete(scored)


def test_samples_stand_beside_the_scores(scored):
    for name in ("samples-base-document", "samples-base-chat", "samples-sft-chat"):
        rows = list(files.read_jsonl(scored / f"{name}.jsonl"))
        assert len(rows) == ASKED
        assert {"prompt", "answer", "truth", "verdict", "kind"} <= rows[0].keys()


def test_models_are_compared_pair_by_pair(scored):
    differences = files.read_json(scored / "scores.json")["differences"]
    assert list(differences) == ["sft - base"]
    assert differences["sft - base"]["all"]["n"] == ASKED


def test_bits_per_byte_are_of_at_most_the_documents_asked_for(scored):
    every = files.read_json(scored / "scores.json")["models"]["base"]["compression"]["all"]
    assert 4000 <= every["bytes"] < 12_000
    # A random model pays about the logarithm of its vocabulary a token.
    assert every["bits_per_byte"] == pytest.approx(8.7 * every["tokens"] / every["bytes"], rel=0.05)


def test_finished_parts_are_not_done_again(scored, models, tasks, tmp_path):
    config = settings(models, tasks, tmp_path / "again")
    moved = {
        name: model.model_copy(update={"folder": tmp_path}) for name, model in config.models.items()
    }
    config = config.model_copy(update={"models": moved})  # where no model is
    (config.out / "state").mkdir(parents=True)
    for path in scored.glob("*-*.json*"):
        shutil.copy(path, config.out / "state")
    evaluate.run(config, files.RunFolder(config.out, done=False, resumable=True))
    again, first = (files.read_json(out / "scores.json") for out in (config.out, scored))
    assert again["differences"] == first["differences"]
    assert again["models"]["sft"]["tasks"] == first["models"]["sft"]["tasks"]


def test_one_model_is_scored_without_a_run_folder(scored, models, tasks):
    before = sorted(models.rglob("*"))
    scores = evaluate.score_model(
        models / "sft", tasks / "heldout.jsonl", max_tokens=8, device="cpu"
    )
    first = files.read_json(scored / "scores.json")["models"]["sft"]
    assert scores["tasks"] == first["tasks"]
    assert sorted(models.rglob("*")) == before


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_is_asked_where_and_in_what_precision_the_recipe_says(models, dtype):
    subject = evaluate.Subject(evaluate.Model(folder=models / "sft"), "cpu", dtype)
    weights = next(subject.engine.model.parameters())
    assert weights.dtype == getattr(torch, dtype) and weights.device.type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="there is no GPU 0 here"):
            evaluate.Subject(evaluate.Model(folder=models / "sft"), "cuda", dtype)


@pytest.fixture(scope="module")
def long(models, tasks, tmp_path_factory):
    out = tmp_path_factory.mktemp("long") / "evaluate"
    documents = str(tasks / "documents.jsonl.zst")
    asked = {"lengths": [700, 900], "tasks": ["passkey"], "depths": 2, "keys": 1}
    plain = Extension(dca=False, rope="none")
    asked_of = {
        "base": evaluate.Model(folder=models / "base", forms=("document", "chat")),
        "plain": evaluate.Model(folder=models / "sft", context=2048, extend=plain),
    }
    suite = evaluate.Long(**asked, haystack=documents)
    config = evaluate.Config(out=out, device="cpu", models=asked_of, long=suite)
    into(evaluate, config)
    return config


def test_what_models_find_in_long_texts_stands_with_how_they_were_read(long):
    scores = files.read_json(long.out / "scores.json")["models"]
    assert scores["base"]["long"]["extension"] == "1,024 tokens, as trained"
    assert "2,048 tokens: 1,024 as trained" in scores["plain"]["long"]["extension"]
    assert set(scores["base"]["long"]["forms"]) == {"document", "chat"}
    for model, form in (("base", "document"), ("base", "chat"), ("plain", "chat")):
        rows = list(files.read_jsonl(long.out / f"long-{model}-{form}.jsonl"))
        assert [row["length"] for row in rows] == [700, 700, 900, 900]
        assert {row["depth"] for row in rows} == {0.0, 1.0}
        marks = scores[model]["long"]["forms"][form]["passkey"]["all"]["strict"]
        assert marks["n"] == 4 and marks["value"] == sum(row["strict"] for row in rows) / 4


def test_long_texts_that_are_finished_are_not_read_again(long, tmp_path):
    moved = {
        name: model.model_copy(update={"folder": tmp_path}) for name, model in long.models.items()
    }
    config = long.model_copy(update={"models": moved, "out": tmp_path / "again"})
    (config.out / "state").mkdir(parents=True)
    for path in long.out.glob("long-*"):
        shutil.copy(path, config.out / "state")
    evaluate.run(config, files.RunFolder(config.out, done=False, resumable=True))
    again, first = (
        files.read_json(out / "scores.json")["models"] for out in (config.out, long.out)
    )
    assert {name: model["long"] for name, model in again.items()} == {
        name: model["long"] for name, model in first.items()
    }


def test_a_length_beyond_one_model_stops_before_any_is_asked(long, tmp_path):
    lengths = long.long.model_copy(update={"lengths": (700, 2000)})
    config = long.model_copy(update={"long": lengths, "out": tmp_path / "out"})
    with pytest.raises(UserError, match="base is asked with a context of 1,024 tokens"):
        into(evaluate, config)
    assert not list((tmp_path / "out").rglob("long-*"))


def test_the_long_texts_are_an_input_and_have_to_be_there(long, tmp_path):
    (paths,) = evaluate.reads(long).values()
    assert [path.name for path in paths] == ["documents.jsonl.zst"]
    absent = long.long.model_copy(update={"haystack": str(tmp_path / "to/come")})
    config = long.model_copy(update={"long": absent})
    evaluate.check(config, to_come=[tmp_path / "to"])
    with pytest.raises(UserError, match=r"long\.haystack: there is no file"):
        evaluate.check(config, to_come=[])


def test_the_document_form_asks_for_its_shots(models, tasks, tmp_path):
    raw = recipes.resolved(settings(models, tasks, tmp_path / "out")) | {"shots_from": None}
    with pytest.raises(UserError, match='the form "document" needs shots_from'):
        recipes.parse(raw, evaluate.Config, "evaluate.toml")


def test_no_questions_are_no_score(models, tasks, tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(UserError, match="holds no question"):
        into(evaluate, settings(models, tasks, tmp_path / "out", tasks=tmp_path / "none.jsonl"))
