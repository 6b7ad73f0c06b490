"""Proxy runs as a user runs them: which mixture teaches a domain best, and what a kill leaves."""

import json
import random

import pytest
from pytest import approx

from baiwen import files, stages
from baiwen.data import shards
from baiwen.errors import UserError
from baiwen.stages import mixtures
from baiwen.tokenizer import train
from baiwen.train import proxy

WORDS = {"prose": ["cats", "sat", "mats", "saw", "dogs", "barns"], "code": "0123456789"}
RECIPE = """
stage = "mixtures"
out = "out"
shards = "shards"
tokenizer = "tokenizer"
heldout = "heldout.jsonl"
size = "micro"
sequence_length = 32
tokens_per_step = 128
micro_tokens = 128
tokens = 1536
threads = 1
dtype = "float32"
[schedule]
shape = "constant"
warmup = 0.0
[loop]
save_every = 5
"""
CODE = "[mixtures.code]\nweights = { code = 0.9 }\n"
PROSE = "[mixtures.prose]\nweights = { code = 0.0 }\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working directory with sources of two domains, of which one is only learned from itself."""
    place, rng = tmp_path_factory.mktemp("mixtures"), random.Random(0)
    texts = {
        domain: [" ".join(rng.choices(words, k=40)) for _ in range(60)]
        for domain, words in WORDS.items()
    }
    tokenizer = train([*texts["prose"], *texts["code"]], 270)
    tokenizer.save(place / "tokenizer")
    with files.jsonl_writer(place / "heldout.jsonl") as put:
        for domain, own in texts.items():
            source = place / "shards" / domain
            shards.write_index(
                source, [shards.write_shard(source, 0, own[10:], tokenizer)], tokenizer
            )
            for text in own[:10]:
                put({"text": text, "domain": domain})
    return place


def run(place, monkeypatch, mixtures_=CODE + PROSE, **knobs):
    monkeypatch.chdir(place)
    files.write("mixtures.toml", RECIPE + mixtures_)
    (recipe,) = stages.load("mixtures.toml", [f"{key}={value}" for key, value in knobs.items()])
    stages.run(recipe)
    return files.read_json(recipe.out / "mixtures.json")


@pytest.fixture(scope="module")
def stopped(place):
    """A comparison that ended within its second run, and was run again; what that trained."""
    saved, trained = proxy.train, []

    def train(*given, steps, out, **knobs):
        trained.append(out.name)
        if len(trained) == 2:
            saved(*given, steps=5, out=out, **knobs)  # saved there, and the process ends
            raise KeyboardInterrupt
        saved(*given, steps=steps, out=out, **knobs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proxy, "train", train)
        with pytest.raises(KeyboardInterrupt):
            run(place, patch)
        return run(place, patch), trained


@pytest.fixture(scope="module")
def table(stopped):
    return stopped[0]


def test_a_domain_is_predicted_better_by_the_mixture_that_holds_it(table):
    code, prose = (table["mixtures"][name]["domains"] for name in ("code", "prose"))
    assert code["code"]["bits_per_byte"] < prose["code"]["bits_per_byte"] - 0.5
    assert prose["prose"]["bits_per_byte"] < code["prose"]["bits_per_byte"]
    assert code["code"]["runs"] == 2
    assert code["code"]["spread"] > 0
    assert table["mixtures"][table["best"]]["behind"]["bits_per_byte"] == 0


def test_a_run_that_was_stopped_ends_in_the_same_bytes(stopped, place, monkeypatch):
    assert stopped[1] == ["code-0", "prose-0", "prose-0", "code-1", "prose-1"]
    run(place, monkeypatch, PROSE, out="whole", runs=1)
    bytes_ = [(place / out / "runs/prose-0.json").read_bytes() for out in ("out", "whole")]
    assert bytes_[0] == bytes_[1]
    assert not (place / "out/state").exists()


def rows(**bits):
    """Runs of mixtures: {name: [(bits of a, bits of b) for each seed]}."""
    return [
        {
            "mixture": name,
            "seed": seed,
            "domains": {d: {"bits_per_byte": v} for d, v in zip("ab", values, strict=True)},
        }
        for name, seeds in bits.items()
        for seed, values in enumerate(seeds)
    ]


def test_the_best_is_that_of_the_least_weighted_mean():
    runs = rows(one=[(1.0, 3.0), (1.2, 3.2)], two=[(1.5, 2.0), (1.6, 2.4)])
    even, first = mixtures.compare(runs, {}), mixtures.compare(runs, {"b": 0.1})
    assert (even["best"], first["best"]) == ("two", "one")
    assert even["mixtures"]["one"]["mean"]["bits_per_byte"] == approx(2.1)
    assert even["mixtures"]["two"]["domains"]["b"]["spread"] == approx(0.4 / 2**0.5)
    # 2 - 1.75 and 2.2 - 2: seed by seed, their mean and its standard error.
    assert even["mixtures"]["one"]["behind"]["bits_per_byte"] == approx(0.225)
    assert even["mixtures"]["one"]["behind"]["standard_error"] == approx(0.025)


def test_one_seed_has_no_spread():
    table = mixtures.compare(rows(one=[(1.0, 3.0)]), {})
    assert table["mixtures"]["one"]["mean"]["spread"] is None
    json.dumps(table, allow_nan=False)


def test_ranks_divide_the_models_as_the_recipe_says(place, monkeypatch):
    with pytest.raises(UserError, match=r"context 1 x tensor 2 = 2 does not divide the 1 ranks"):
        run(place, monkeypatch, out="divided", **{"parallel.tensor": 2})


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"importance.cod": 1.0}, "no held-out document is of 'cod'. Did you mean code?"),
        ({"importance.code": 0.0, "importance.prose": 0.0}, "all weights are 0"),
        ({"mixtures_": PROSE.replace("code", "cod")}, "mixtures.prose: .*no source 'cod'. Did"),
    ],
)
def test_weights_of_what_is_not_there_are_told_before_the_first_run(
    place, monkeypatch, knobs, told
):
    with pytest.raises(UserError, match=told):
        run(place, monkeypatch, out="mistaken", **knobs)
    assert not list((place / "mistaken").glob("runs/*"))
