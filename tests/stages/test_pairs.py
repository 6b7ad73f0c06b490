"""The stage on a model that learned to answer by chance: what it writes, resumes and refuses."""

import json
from itertools import cycle, islice
from pathlib import Path
from random import Random

import pytest

import baiwen
from baiwen import config as recipes
from baiwen import files
from baiwen.errors import UserError
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.rl import resample
from baiwen.stages import pairs, sft
from baiwen.tokenizer import bpe

ROOT = Path(__file__).parents[2]
SAID = ("yes", "no", "yes it is", "no it is not")
WRITTEN = ("answers.jsonl", "pairs.jsonl", "review.jsonl", "pairs.json")
PROMPTS = 24


def into(stage, config):
    with files.run_folder(config.out, recipes.resolved(config)) as folder:
        stage.run(config, folder)
    return config.out


def rows(path):
    return list(files.read_jsonl(path))


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that says one of four things, whatever it is asked."""
    folder, rng = tmp_path_factory.mktemp("model"), Random(0)
    tokenizer = bpe.train([*SAID, "Is it odd?"], vocab_size=264)
    shape = ModelConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )
    fresh = Transformer(shape)
    fresh.init_weights(0)
    baiwen.save(fresh, tokenizer, folder / "base")
    taught = write(
        folder / "train.jsonl",
        [
            {"messages": [*question(n), {"role": "assistant", "content": said}]}
            for n, said in zip(range(300), cycle(rng.sample(SAID, 4)))
        ],
    )
    config = sft.Config(
        out=folder / "sft", start=folder / "base", data=taught, epochs=3, sequence_length=256,
        tokens_per_step=512, micro_tokens=512, device="cpu", dtype="float32", threads=1,
        optim={"lr": 2e-2}, save_dtype="float32",
    )  # fmt: skip
    return into(sft, config)


def question(number):
    return [{"role": "user", "content": f"Is it odd? {number}"}]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    truth = {"answer": "yes", "verifier": "exact"}
    asked = [
        {"prompt": question(number), **truth, "kind": ("odd", "even")[number % 2]}
        for number in range(PROMPTS)
    ]
    return write(tmp_path_factory.mktemp("prompts") / "prompts.jsonl", asked + asked[:2])


def settings(model, prompts, out, **knobs):
    given = {"start": model, "prompts": prompts, "max_tokens": 24, "save_every": 5, "seed": 3}
    plain = {"device": "cpu", "dtype": "float32", "threads": 1}
    return pairs.Config(out=out, **(plain | given | knobs))


@pytest.fixture(scope="module")
def made(model, prompts, tmp_path_factory):
    return into(pairs, settings(model, prompts, tmp_path_factory.mktemp("runs") / "pairs"))


def test_every_prompt_is_answered_once_in_its_order(made):
    answers = rows(made / "answers.jsonl")
    assert [row["prompt"] for row in answers] == [question(number) for number in range(PROMPTS)]
    for row in answers:
        assert len(row["answers"]) == 8
        share = sum(answer["verdict"] == "right" for answer in row["answers"]) / 8
        assert row["variance"] == pytest.approx(share * (1 - share))


def test_a_pair_holds_a_right_and_a_wrong_answer_to_its_prompt(made):
    verdicts = {
        (row["prompt"][0]["content"], answer["text"]): answer["verdict"]
        for row in rows(made / "answers.jsonl")
        for answer in row["answers"]
    }
    found = rows(made / "pairs.jsonl")
    assert len(found) > PROMPTS / 2
    for pair in found:
        asked = pair["prompt"][0]["content"]
        assert verdicts[asked, pair["chosen"][0]["content"]] == "right"
        assert verdicts[asked, pair["rejected"][0]["content"]] == "wrong"
        assert pair["kind"] in ("odd", "even") and pair["source"] == "sft"


def test_every_prompt_and_answer_is_accounted_for(made):
    told = files.read_json(made / "pairs.json")
    assert told["prompts"] == told["prompts with pairs"] + sum(told["without"].values()) == PROMPTS
    assert sum(told["answers"].values()) == 8 * PROMPTS
    assert sum(kind["pairs"] for kind in told["kinds"].values()) == told["pairs"]
    assert told["pairs"] == len(rows(made / "pairs.jsonl")) == told["review"]["none"]
    assert files.read_json(made / "device.json")["tokens_per_second"] > 0


def test_killed_half_way_it_goes_on_to_the_same_bytes(made, model, prompts, tmp_path, monkeypatch):
    config = settings(model, prompts, tmp_path / "killed")

    class Killed(BaseException):
        pass

    judged = resample.judged
    left = iter(range(8 * 13))  # of prompts in the third part of five

    def until_killed(*given):
        if next(left, None) is None:
            raise Killed
        return judged(*given)

    with monkeypatch.context() as patch:
        patch.setattr(resample, "judged", until_killed)
        with pytest.raises(Killed):
            into(pairs, config)
    assert len(list((config.out / "state").glob("answers-*.jsonl"))) == 2
    with monkeypatch.context() as patch:
        patch.setattr(pairs, "_pair", lambda *_: until_killed())
        with pytest.raises(Killed):  # all is answered, and nothing paired
            into(pairs, config)
    into(pairs, config)
    for name in WRITTEN:
        assert (config.out / name).read_bytes() == (made / name).read_bytes(), name
    tokens = [files.read_json(out / "device.json")["tokens"] for out in (config.out, made)]
    assert 0 < tokens[0] < 0.7 * tokens[1]  # those of the last session that sampled


def test_two_ranks_write_what_one_does(made, model, prompts, tmp_path, forks):
    recipe = tmp_path / "pairs.toml"
    recipe.write_text(
        f'stage = "pairs"\nout = "{tmp_path}/out"\nstart = "{model}"\nprompts = "{prompts}"\n'
        'max_tokens = 24\nsave_every = 5\nseed = 3\ndevice = "cpu"\ndtype = "float32"\nthreads = 1'
    )
    done = forks.run("-m", "baiwen", "run", recipe, ranks=2)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in WRITTEN:
        assert (tmp_path / "out" / name).read_bytes() == (made / name).read_bytes(), name


def test_the_same_answers_are_paired_after_a_review_without_a_model(made, tmp_path):
    first, second, third, *_ = asked = rows(made / "review.jsonl")
    for row, verdict in ((first, "drop"), (second, "swap"), (third, "keep")):
        row["verdict"] = verdict
    out = into(
        pairs,
        pairs.Config(
            out=tmp_path / "reviewed",
            answers=made / "answers.jsonl",
            review=write(
                tmp_path / "reviewed.jsonl", [*asked, {"id": "another", "verdict": "drop"}]
            ),
        ),
    )
    before, after = rows(made / "pairs.jsonl"), rows(out / "pairs.jsonl")
    assert after[1:] == before[2:]
    assert after[0]["chosen"] == before[1]["rejected"] != before[1]["chosen"]
    told = files.read_json(out / "pairs.json")["review"]
    others = len(asked) - 3
    assert told == {"keep": 1, "drop": 1, "swap": 1, "none": others, "of no pair here": 1}
    verdicts = [row["verdict"] for row in rows(out / "review.jsonl")]
    assert verdicts == ["drop", "swap", "keep", *islice(cycle([None]), others)]


def test_pairs_that_nobody_reviewed_may_be_left_out(made, tmp_path):
    asked = rows(made / "review.jsonl")
    asked[0]["verdict"] = "keep"
    reviewed = write(tmp_path / "reviewed.jsonl", asked)
    given = {"answers": made / "answers.jsonl", "review": reviewed, "unreviewed": "drop"}
    out = into(pairs, pairs.Config(out=tmp_path / "out", **given))
    assert rows(out / "pairs.jsonl") == rows(made / "pairs.jsonl")[:1]


def test_answers_that_give_no_pair_are_kept_and_said(made, model, prompts, tmp_path):
    config = settings(model, prompts, tmp_path / "out", max_tokens=1)  # every answer is cut
    with pytest.raises(UserError, match=r"answers.jsonl gives no pair: see .*pairs.json"):
        into(pairs, config)
    assert files.read_json(config.out / "pairs.json")["without"]["truncated"] > 0
    assert len(rows(config.out / "answers.jsonl")) == PROMPTS


def test_a_prompt_that_does_not_fit_is_named_before_any_is_answered(model, prompts, tmp_path):
    long = {**rows(prompts)[0], "prompt": [{"role": "user", "content": "odd " * 200}]}
    path = write(tmp_path / "long.jsonl", [*rows(prompts), long])
    config = settings(model, path, tmp_path / "out")
    with pytest.raises(UserError, match=f"row {PROMPTS + 3} has [0-9,]+ tokens"):
        into(pairs, config)
    assert not (config.out / "state").exists()


def test_a_verifier_that_is_not_there_is_named_before_any_prompt_is_answered(
    model, prompts, tmp_path
):
    path = write(tmp_path / "odd.jsonl", [{**rows(prompts)[0], "verifier": "exac"}])
    config = settings(model, path, tmp_path / "out")
    with pytest.raises(UserError, match=r"row 1 names the verifier 'exac'; there are .*exact"):
        pairs.check(config, [])
    pairs.check(config, [tmp_path])  # another recipe will write them
    with pytest.raises(UserError, match="row 1 names the verifier 'exac'"):
        into(pairs, config)


@pytest.mark.parametrize(
    "knobs",
    [{}, {"start": "a"}, {"prompts": "a"}, {"start": "a", "prompts": "b", "answers": "c"}],
    ids=str,
)
def test_a_recipe_says_who_answers_what_or_where_the_answers_are(knobs):
    with pytest.raises(UserError, match="needs either start and prompts, or answers"):
        recipes.parse({"out": "x", **knobs}, pairs.Config, "pairs.toml")
    told = pairs.plan(pairs.Config(out="x", answers="y"))
    assert told == {}


def test_a_plan_says_how_much_is_sampled(model, prompts):
    told = pairs.plan(settings(model, prompts, "x"))
    assert told["prompts"] == PROMPTS + 2 and told["answers"] == 8 * (PROMPTS + 2)
