import dataclasses

import pytest

import baiwen
from baiwen import cli, files
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.model.upcycle import Upcycle
from baiwen.tokenizer import bpe

WANTED = ["--experts", "4", "--top-k", "2", "--expert-size", "24", "--shared", "2"]


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense") / "model"
    tokenizer = bpe.train(["a dense model", "of a few words"], vocab_size=264)
    config = ModelConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        torch_dtype="float32",
    )
    model = Transformer(config)
    model.init_weights(0)
    baiwen.save(model, tokenizer, folder)
    return folder


def test_the_mixture_is_a_model_folder_that_generates(dense, tmp_path, capsys):
    out = tmp_path / "moe"
    assert cli.main(["upcycle", str(dense), "--out", str(out), *WANTED]) == 0
    assert "of them active" in capsys.readouterr().out
    files.check(out)
    model, tokenizer = baiwen.load(out)
    assert model.config.num_experts == 4 and model.config.num_experts_per_tok == 2
    done = baiwen.Engine(model, tokenizer).generate(["a"], baiwen.Sampling(max_tokens=3))
    assert len(done[0].ids) == 3


def test_the_command_has_every_knob():
    parsed = cli._parse(["upcycle", "model", "--out", "out", *WANTED])
    knobs = {field.name: field for field in dataclasses.fields(Upcycle)}
    assert knobs.keys() <= vars(parsed).keys()
    for name, field in knobs.items():
        if field.default is not dataclasses.MISSING and name != "shared":
            assert getattr(parsed, name) == field.default


def test_what_is_there_already_stays(dense, tmp_path, capsys):
    assert cli.main(["upcycle", str(dense), "--out", str(tmp_path), *WANTED]) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_mixture_that_does_not_fit_leaves_nothing(dense, tmp_path, capsys):
    out = tmp_path / "moe"
    wanted = ["--experts", "4", "--top-k", "5", "--expert-size", "24", "--shared", "2"]
    assert cli.main(["upcycle", str(dense), "--out", str(out), *wanted]) == 2
    assert "cannot choose 5 of 4" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
