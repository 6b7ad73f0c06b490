"""The stage against a scripted writer, and with a model of our own; killed, shared, and spent."""

import hashlib
import json
import os
import re
import signal
import time

import pytest

from baiwen import config as recipes
from baiwen import files, stages
from baiwen.data.document import document
from baiwen.data.generate import writing
from baiwen.errors import UserError
from baiwen.model import weights
from baiwen.model.config import ModelConfig
from baiwen.model.reward import RewardModel
from baiwen.model.transformer import Transformer
from baiwen.stages import data, generate
from baiwen.tokenizer import bpe, template

SHOWN = re.compile(r"<document \w+>\n(.*?)\n</document", re.DOTALL)
PROGRAM = "def plus(number):\n    return number + {}"
TESTS = "\n".join(f"assert plus({n}) == {n} + {{}}" for n in range(4))


def words(name, count=60):
    """Words that no other name has."""
    made = hashlib.sha256(name.encode()).hexdigest()
    return " ".join(f"{made[place % 50 : place % 50 + 6]}{place}" for place in range(count))


def write(body):
    """Good documents for most seeds, and every kind of bad one for some."""
    asked = json.dumps(body["messages"], ensure_ascii=False)
    name, number = f"{asked}{body['seed']}", body["seed"]
    user = body["messages"][-1]["content"]
    if "Solve the problem" in asked:
        truth = int(re.search(r"plus (\d+)", user)[1])
        return f"So it is \\boxed{{{truth if number < 3 else truth + 1}}}."
    if "<problem>" in asked:
        stated, solved = number % 1000, number % 1000 + (0 if number % 3 else 1)
        said = f"{words(name)} What is 0 plus {stated}?"
        return (
            f"<problem>{said}</problem><solution>{words(name + 's', 20)} "
            f"\\boxed{{{solved}}}</solution>"
        )
    if "<program>" in asked:
        wrong = number % 2
        return (
            f"<exercise>{words(name)}</exercise><program>{PROGRAM.format(number)}</program>"
            f"<tests>{TESTS.replace('{}', str(number + wrong))}</tests>"
        )
    shown = SHOWN.search(user)[1]
    kinds = {0: "Too short.", 1: shown, 2: f"Sure, here it is: {words(name)}", 3: words("the same")}
    return f"<text>{kinds.get(number % 8, words(name))}</text>"


@pytest.fixture
def seeds(tmp_path):
    return sown(tmp_path)


def sown(folder):
    """The file of seeds in a folder, beside one of topics."""
    path = folder / "seeds.jsonl"
    with files.jsonl_writer(path) as put:
        for number in range(12):
            meta = {"license": "CC0-1.0", "language": "en"}
            put(document(words(f"seed {number}"), meta, f"seed-{number}").row())
    (folder / "topics.txt").write_text("light\n\nsound\nlight\n")
    return path


def settings(tmp_path, seeds, url, out="out", asking=None, **knobs):
    given = {
        "out": str(tmp_path / out),
        "seeds": [str(seeds)],
        "topics": str(tmp_path / "topics.txt"),
        "prompts": [{"use": "medium", "count": 30}, {"use": "problem-topic", "count": 6},
                    {"use": "exercise", "count": 4}],
        "endpoint": {"url": url, "retries": 2, "pause": 0.01, "concurrency": 4, **(asking or {})},
        "format": {"least_characters": 100},
        "proof": {"samples": 4, "agree": 0.6},
        "workers": 2,
        **knobs,
    }  # fmt: skip
    return recipes.parse(given, generate.Config, "recipe.toml")


def into(config):
    with files.run_folder(config.out, recipes.resolved(config)) as folder:
        generate.run(config, folder)
    return read(config.out)


def read(out):
    kept = [row for path in sorted(out.glob("documents-*")) for row in files.read_jsonl(path)]
    dropped = [row for path in sorted(out.glob("dropped-*")) for row in files.read_jsonl(path)]
    return kept, dropped


def made(out):
    """The bytes of all that a run has made."""
    names = ("documents-*", "dropped-*", "data.json", "generate.json")
    return {path.name: path.read_bytes() for name in names for path in out.glob(name)}


@pytest.fixture(scope="module")
def run(answering, tmp_path_factory):
    """A run of three prompts: its folder, and what was asked."""
    folder = tmp_path_factory.mktemp("generate")
    with answering(write) as served:
        into(settings(folder, sown(folder), served.url))
    return folder / "out", [body for body, _ in served.asked]


def test_every_bad_reply_is_refused_for_its_reason_and_good_ones_are_documents(run):
    out, asked = run
    kept, dropped = read(out)
    reasons = {f"{row['verdict']['step']}: {row['verdict']['rule']}" for row in dropped}
    assert reasons == {
        "format: too short",
        "format: speaks to who asked",
        "near: copies its seed",
        "near: near duplicate",
        "math: samples do not agree",
        "code: its program is wrong",
    }
    assert len(kept) + len(dropped) == 40
    card = files.read_json(out / "data.json")
    assert {name: tally["documents"] for name, tally in card["kept"].items()} == {
        name: sum(row["meta"]["domain"] == name for row in kept) for name in card["kept"]
    }
    assert set(card["kept"]) == {"prose", "math", "code"}
    assert card["funnel"][0]["in"] == 40 and card["funnel"][-1]["out"] == len(kept)
    told = files.read_json(out / "generate.json")
    assert told["prompts"]["medium"]["replies"] == 30 and told["model"] == "rule"
    assert told["bill"]["replies"] == len(asked)


def test_a_document_names_its_seed_its_prompt_and_how_it_was_asked_for(run):
    out, asked = run
    texts = {row["id"]: row["text"] for row in files.read_jsonl(out.parent / "seeds.jsonl")}
    shown = {body["seed"]: body["messages"][-1]["content"] for body in asked}
    kept, _ = read(out)
    for row in kept:
        lineage = row["meta"]["lineage"]
        [parent] = lineage["parents"]
        if parent in texts:
            assert texts[parent] in shown[lineage["seed"]]
            assert row["meta"]["license"] == "CC0-1.0"
        assert lineage["model"] == "rule" and lineage["sampling"]["temperature"] == 0.8
    assert {row["meta"]["lineage"]["prompt"] for row in kept} == {
        "medium", "problem-topic", "exercise"
    }  # fmt: skip


def test_the_data_stage_reads_on_and_keeps_the_lineage(run, tmp_path):
    out, _ = run
    kept, _ = read(out)
    config = data.Config(
        out=tmp_path / "data", corpus=str(out / "documents-*"), steps=("exact",),
        heldout_share=0.0, workers=1,
    )  # fmt: skip
    with files.run_folder(config.out, recipes.resolved(config)) as folder:
        data.run(config, folder)
    found = {row["id"]: row for row in read(config.out)[0]}
    assert found.keys() == {row["id"] for row in kept}
    for row in kept:
        assert found[row["id"]]["text"] == row["text"]
        lineage = found[row["id"]]["meta"]["lineage"]
        assert row["meta"]["lineage"].items() <= lineage.items()
        assert lineage["steps"] and lineage["place"]


def recipe(tmp_path, seeds, url, out):
    path = tmp_path / f"{out}.toml"
    path.write_text(
        f'stage = "generate"\nout = "{tmp_path / out}"\nseeds = ["{seeds}"]\n'
        f'topics = "{tmp_path / "topics.txt"}"\nproof = {{ agree = 0.6 }}\n'
        f'format = {{ least_characters = 100 }}\nendpoint = {{ url = "{url}", concurrency = 2 }}\n'
        '[[prompts]]\nuse = "medium"\ncount = 30\n[[prompts]]\nuse = "problem-topic"\ncount = 8\n'
        '[[prompts]]\nuse = "exercise"\ncount = 8\n'
    )
    return path


def test_killed_it_ends_in_the_same_documents_and_asks_little_twice(
    answering, tmp_path, seeds, forks
):
    def slowly(body):
        time.sleep(0.02)
        return write(body)

    with answering(slowly) as served:
        whole = recipe(tmp_path, seeds, served.url, "whole")
        stages.run(stages.load(whole)[0])
        asked = len(served.asked)
        served.asked.clear()
        killed = recipe(tmp_path, seeds, served.url, "killed")
        job = forks.start("-m", "baiwen", "run", killed)
        while len(served.asked) < asked // 2:
            time.sleep(0.005)
        os.kill(job.pids[0], signal.SIGKILL)
        assert job.wait().returncode == -signal.SIGKILL
        stages.run(stages.load(killed)[0])
        assert asked <= len(served.asked) <= asked + 4  # those under way when it was killed
    assert made(tmp_path / "whole") == made(tmp_path / "killed")


def test_stopped_after_any_document_it_ends_in_the_same_ones(
    answering, tmp_path, seeds, monkeypatch
):
    only = {"prompts": [{"use": "medium", "count": 12}, {"use": "problem-topic", "count": 4}]}
    with answering(write) as served:
        whole = settings(tmp_path, seeds, served.url, **only)
        into(whole)
        asked = len(served.asked)
        stopped = settings(tmp_path, seeds, served.url, "stopped", **only)
        for after in (0, 3, 14):
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(writing.Writing, "put", interrupted(after))
                into(stopped)
        into(stopped)
        assert len(served.asked) == 2 * asked
    assert made(whole.out) == made(stopped.out)


def interrupted(after):
    """`Writing.put` that is stopped after so many drafts."""
    put, left = writing.Writing.put, iter(range(after))

    def stops(self, draft):
        if next(left, None) is None:
            raise KeyboardInterrupt
        put(self, draft)

    return stops


def test_runs_that_share_a_cache_ask_once(answering, tmp_path, seeds):
    with answering(write) as served:
        shared = {
            "cache": str(tmp_path / "cache"),
            "prompts": [{"use": "problem-topic", "count": 6}],
        }
        into(settings(tmp_path, seeds, served.url, **shared))
        asked = len(served.asked)
        into(settings(tmp_path, seeds, served.url, "other", **shared))
        assert len(served.asked) == asked
    assert made(tmp_path / "out") == made(tmp_path / "other")


def test_the_most_that_may_be_spent_ends_with_what_is_kept(answering, tmp_path, seeds):
    with answering(write) as served:
        prices = {"price_out": 1_000_000 / 60, "most_cost": 8, "concurrency": 1}  # about one each
        kept, dropped = into(settings(tmp_path, seeds, served.url, asking=prices))
    assert 8 <= len(served.asked) < 20 and kept
    assert sum(row["verdict"]["rule"].startswith("not asked") for row in dropped) >= 20


def test_what_holds_a_test_is_no_document(answering, tmp_path, seeds):
    held = words("a question of a test")
    with answering(lambda body: f"<text>{words(str(body))} {held}</text>") as served:
        (tmp_path / "test.jsonl").write_text(json.dumps({"question": held}) + "\n")
        knobs = {"prompts": [{"use": "easy", "count": 3}]}
        against = {"decontaminate": {"against": [str(tmp_path / "test.jsonl")]}}
        with pytest.raises(UserError, match=r"not one reply became.*common subsequence 3"):
            into(settings(tmp_path, seeds, served.url, **knobs, **against))


def test_a_server_that_goes_down_leaves_the_replies_and_the_run_goes_on(answering, tmp_path, seeds):
    left = iter(range(10))
    with answering(lambda b: write(b) if next(left, None) is not None else (500, {})) as served:
        config = settings(
            tmp_path,
            seeds,
            served.url,
            asking={"concurrency": 1},
            prompts=[{"use": "medium", "count": 20}],
        )
        with pytest.raises(UserError, match=r"is down.*\n10 replies are kept"):
            into(config)
        served.rule, before = write, len(served.asked)
        into(config)
        whole = len({json.dumps(body) for body, _ in served.asked})
        assert len(served.asked) - before == whole - 10


@pytest.fixture
def tokenizer():
    return bpe.train([template.DEFAULT_SYSTEM * 3, "light and sound " * 50], vocab_size=300)


def shape(tokenizer, **more):
    return ModelConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=4096,
        tie_word_embeddings=not more, eos_token_id=tokenizer.end_of_turn, **more,
    )  # fmt: skip


def test_a_model_of_our_own_writes_and_one_scores(tmp_path, seeds, tokenizer):
    writer, rewards = Transformer(shape(tokenizer)), RewardModel(shape(tokenizer, reward=True))
    for name, model in (("writer", writer), ("rewards", rewards)):
        model.init_weights(0)
        weights.save(model.state_dict(), model.config, tmp_path / name)
        tokenizer.save(tmp_path / name)
    (tmp_path / "mine.toml").write_text('name = "mine"\ntext = "On {topic}:"\ndomain = "noise"')
    config = settings(
        tmp_path, seeds, "http://127.0.0.1:1", endpoint=None,
        prompts=[{"use": str(tmp_path / "mine.toml"), "count": 2, "samples": 4}],
        local={"model": str(tmp_path / "writer"), "device": "cpu", "dtype": "float32"},
        reward={"model": str(tmp_path / "rewards"), "device": "cpu", "dtype": "float32"},
        format={"least_characters": 1, "least_distinct": 0.0}, max_tokens=12, temperature=1.5,
    )  # fmt: skip
    _, dropped = first = read_or_none(config)
    assert sum(map(len, first)) == 8 and any("reward.score" in row["meta"].get("scores", {})
                                              for rows in first for row in rows)  # fmt: skip
    assert all(row["meta"]["lineage"]["model"].startswith("writer ") for row in dropped)
    again = config.model_copy(update={"out": tmp_path / "again"})
    read_or_none(again)
    assert made(config.out) == made(again.out)


def read_or_none(config):
    """What a random model writes may all be cut off: then the run says so, and its files stay."""
    try:
        return into(config)
    except UserError as error:
        assert "not one reply became a document" in str(error)
        return read(config.out)


def test_a_plan_tells_requests_tokens_and_cost(tmp_path, seeds):
    prices = {"price_in": 1.0, "price_out": 2.0, "most_cost": 5.0}
    config = settings(tmp_path, seeds, "http://host", asking=prices, max_tokens=1000)
    told = generate.plan(config)
    assert told["requests"].startswith("64,")  # 30 + 6 + 4, and 4 solutions of 6 problems
    assert told["tokens of replies"] == "64,000 at most"
    assert told["cost"] == "0.14 at most; nothing is asked beyond 5.00"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seeds": ()}, r"prompt medium: has {document}, so give `seeds`"),
        ({"topics": None}, "prompt problem-topic: has {topic}, so give `topics`"),
        ({"prompts": (generate.Wanted(use="lessons"),)}, "no prompt 'lessons'"),
        ({"prompts": 2 * (generate.Wanted(use="easy"),)}, "2 have the name 'easy'"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_asked(tmp_path, seeds, change, told):
    with pytest.raises(UserError, match=told):
        config = settings(tmp_path, seeds, "http://host")
        generate.check(config.model_copy(update=change), [])


def test_a_recipe_names_one_model(tmp_path, seeds):
    with pytest.raises(UserError, match=r"either \[endpoint\] or \[local\]"):
        settings(tmp_path, seeds, "http://host", local={"model": "m"})


def test_of_a_data_stage_what_it_kept_is_read(answering, tmp_path, seeds):
    folder = tmp_path / "data"
    for name in ("documents-prose-00000", "heldout", "dropped-00000"):
        with files.jsonl_writer(folder / f"{name}.jsonl.zst") as put:
            put(document(words(name), {}, name).row())
    files.write_json(folder / "data.json", {})
    with answering(write) as served:
        kept, dropped = into(
            settings(tmp_path, folder, served.url, prompts=[{"use": "medium", "count": 6}])
        )
    parents = {row["meta"]["lineage"]["parents"][0] for row in kept + dropped}
    assert parents == {"documents-prose-00000"}
