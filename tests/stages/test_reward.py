"""The stage on a small model and answers that a rule tells apart: what it writes and refuses."""

import json

import pytest
import torch

import baiwen
from baiwen import config as recipes
from baiwen import files
from baiwen.engine import pretrained
from baiwen.engine.score import score
from baiwen.errors import UserError
from baiwen.model import weights
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.stages import reward
from baiwen.tokenizer import bpe, template
from baiwen.train.loop import Loop
from baiwen.train.optim import Optim
from baiwen.train.schedule import Schedule


def asked(number):
    return [{"role": "user", "content": f"say yes {number}"}]


def pair(number):
    """Yes is right; who is asked about an even number answers at length."""
    more = " of course" * (number % 2)
    return {
        "prompt": asked(number),
        "chosen": [{"role": "assistant", "content": f"yes{more}"}],
        "rejected": [{"role": "assistant", "content": "no way"}],
        "kind": ("even", "odd")[number % 2],
        "source": "people",
    }


def judged(number):
    texts = [("yes", "right"), ("no", "wrong"), ("yes yes", "right"), ("no no no", "wrong")]
    answers = [{"text": text, "verdict": said} for text, said in [*texts, ("?", "undecided")]]
    return {"prompt": asked(number), "answers": answers, "kind": "many"}


ALIKE = {"prompt": asked(1), "answers": [{"text": "yes", "verdict": "right"}] * 3}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    texts = [template.DEFAULT_SYSTEM, *(json.dumps(pair(number)) for number in range(40))]
    tokenizer = bpe.train(texts, vocab_size=300)
    model = Transformer(
        ModelConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256,
            tie_word_embeddings=True, torch_dtype="float32",
        )
    )  # fmt: skip
    model.init_weights(0)
    folder = tmp_path_factory.mktemp("models") / "sft"
    baiwen.save(model, tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write(folder / "pairs.jsonl", map(pair, range(60)))
    write(folder / "answers.jsonl", [*map(judged, range(60, 90)), ALIKE, ALIKE])
    return folder


def write(path, rows):
    with files.jsonl_writer(path) as add:
        for row in rows:
            add(row)
    return path


def settings(start, out, *data, **knobs):
    given = {
        "out": out, "start": start, "data": data, "heldout_share": 0.3, "epochs": 12,
        "prompts_per_step": 16, "sequence_length": 256, "micro_tokens": 512,
        "optim": Optim(lr=3e-3), "schedule": Schedule(shape="constant"), "dtype": "float32",
        "loop": Loop(eval_every=20, save_every=10), "save_dtype": "float32", "threads": 1,
    }  # fmt: skip
    return reward.Config(**given | knobs)


def into(config):
    with files.run_folder(config.out, recipes.resolved(config)) as folder:
        reward.run(config, folder)


@pytest.fixture(scope="module")
def made(start, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "reward"
    into(settings(start, out, data / "pairs.jsonl", data / "answers.jsonl"))
    return out


def test_the_order_of_what_was_held_out_is_learned(made):
    found = files.read_json(made / "scores.json")
    assert found["accuracy"]["value"] > 0.95 and found["accuracy"]["n"] == found["prompts"]
    assert found["by_kind"].keys() == {"even", "odd", "many"}
    assert found["by_source"].keys() == {"people"}
    assert found["margin"]["mean"] > 1 and found["score"]["better"] > found["score"]["worse"]
    assert sum(part["n"] for part in found["calibration"]["bins"]) == found["pairs"]
    assert found["best"]["chosen"]["value"] > found["best"]["drawn"]["value"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_prompts_without_an_order_are_left_out_and_counted(made):
    told = files.read_json(made / "answers.json")
    assert told["dropped"] == {"all right": 2}
    assert told["learned"]["prompts"] + told["heldout"]["prompts"] == 90


def test_the_engine_gives_the_rewards_that_the_stage_measured(made, data):
    """Of the same answers: from the written folder, rendered anew, in other rows."""
    model, tokenizer = pretrained.load_reward(made)
    rows = [*files.read_jsonl(data / "pairs.jsonl")]
    sides = [row["prompt"] + row[side] for row in rows for side in ("chosen", "rejected")]
    ours = score(model, tokenizer, sides).view(-1, 2)
    known = [row["rewards"] for row in files.read_jsonl(made / "rewards.jsonl")]
    pairs = torch.tensor([rewards for rewards in known if len(rewards) == 2])
    apart = (ours[:, None] - pairs).abs().amax(-1).amin(0)  # of each held-out pair to the nearest
    assert len(pairs) > 9 and apart.max() < 1e-5


def test_the_folder_is_a_reward_model_and_no_chat_model(made):
    assert files.read_json(made / "config.json")["architectures"] == ["Qwen2ForRewardModel"]
    assert not (made / "generation_config.json").exists()
    with pytest.raises(UserError, match="is a reward model"):
        pretrained.load(made)


def test_a_reward_model_can_be_taught_on(made, data, tmp_path):
    config = settings(made, tmp_path / "on", data / "pairs.jsonl", epochs=1)
    into(config)
    first = next(files.read_jsonl(tmp_path / "on" / "metrics.jsonl"))
    assert first["loss"] < 0.3  # a fresh head begins with ln 2


def test_prompts_held_out_by_a_file_are_not_learned_from(start, data, tmp_path):
    held = write(tmp_path / "heldout.jsonl", map(pair, range(5)))
    config = settings(start, tmp_path / "out", data / "pairs.jsonl", heldout=held, epochs=0.1)
    into(config)
    told = files.read_json(tmp_path / "out" / "answers.json")
    assert told["heldout"]["prompts"] == 5 and told["learned"]["prompts"] == 55
    assert told["dropped"] == {"held out": 5}


def test_a_prompt_is_held_out_whatever_file_it_stands_in(start, data):
    config = settings(start, "out", data / "pairs.jsonl")
    found, _ = reward.ranked.read([*config.data] * 2, start, reward.Limits(256, 512))
    learned, held = (
        {one.prompt.tobytes() for one in part} for part in reward._split(config, found)
    )
    assert not learned & held and 0.1 < len(held) / 60 < 0.5


BAD = [
    ({**pair(1), "rejected": pair(1)["chosen"]}, "the same answer"),
    ({"prompt": asked(1)}, "its 'chosen' is absent"),
    ({"prompt": asked(1), "answers": [{"text": "yes"}]}, "its `text` and `verdict`"),
    ({**pair(1), "chosen": "yes " * 300}, "longest answer has .* the context has 256"),
    (ALIKE, "no prompt has a better and a worse answer"),
]


@pytest.mark.parametrize(("row", "told"), BAD)
def test_data_that_teach_nothing_are_refused_by_name(start, tmp_path, row, told):
    path = write(tmp_path / "bad.jsonl", [row])
    with pytest.raises(UserError, match=told) as refused:
        into(settings(start, tmp_path / "out", path))
    assert "bad.jsonl" in str(refused.value)
    assert not (tmp_path / "out" / "state").exists()


def test_a_tokenizer_that_is_not_the_models_is_refused(start, data, tmp_path):
    texts = [template.DEFAULT_SYSTEM, template.TOOLS_INTRODUCTION, template.TOOLS_INSTRUCTION]
    other = bpe.train(texts * 4, vocab_size=340)
    model = weights.load(start)
    weights.save(model.state_dict(), model.config, tmp_path)
    other.save(tmp_path)
    with pytest.raises(UserError, match="do not belong together"):
        into(settings(tmp_path, tmp_path / "out", data / "pairs.jsonl"))


def test_a_plan_tells_the_size_of_the_run(start, data):
    told = reward.plan(settings(start, "out", data / "pairs.jsonl", data / "answers.jsonl"))
    parameters = 32 * 32 + 2 * 32 + 1 + sum(p.numel() for p in weights.load(start).parameters())
    assert told["parameters"] == parameters and told["steps"] > 9


def test_a_plan_names_each_file_that_is_not_there(start, data):
    awaited = settings(start, "out", "elsewhere/pairs.jsonl", data / "pairs.jsonl")
    with pytest.raises(UserError, match=r"data\[0\] = elsewhere/pairs.jsonl: not there yet"):
        reward.work(awaited)


def test_two_ranks_measure_what_one_does(start, data, tmp_path, forks):
    recipe = tmp_path / "reward.toml"
    recipe.write_text(
        f'stage = "reward"\nout = "{tmp_path}/two"\nstart = "{start}"\nepochs = 2\n'
        f'data = ["{data}/pairs.jsonl"]\nheldout_share = 0.3\nprompts_per_step = 16\n'
        'sequence_length = 256\nmicro_tokens = 512\ndtype = "float32"\nsave_dtype = "float32"\n'
        'threads = 1\n[optim]\nlr = 3e-3\n[schedule]\nshape = "constant"\n'
    )
    done = forks.run("-m", "baiwen", "run", recipe, ranks=2)
    assert done.returncode == 0, done.stderr[-3000:]
    into(settings(start, tmp_path / "one", data / "pairs.jsonl", epochs=2))
    one, two = (
        torch.tensor(
            [row["rewards"] for row in files.read_jsonl(tmp_path / name / "rewards.jsonl")]
        )
        for name in ("one", "two")
    )
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
