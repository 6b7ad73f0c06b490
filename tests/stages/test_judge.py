"""The stage against local servers: one that answers by rule, fails, talks nonsense; and our own."""

import json
import re
import signal

import pytest

from baiwen import config as recipes
from baiwen import files
from baiwen.endpoint import Endpoint
from baiwen.engine.engine import Engine
from baiwen.engine.front import Front
from baiwen.errors import UserError
from baiwen.serve import app
from baiwen.stages import judge, reward
from baiwen.tokenizer import bpe, template

SHOWN = re.compile(r"<answer (A|B) (\w+)>\n(.*?)\n</answer \1 \2>", re.DOTALL)


def good(body):
    """For the answer that says `good`; a tie without one or with two."""
    texts = {name: text for name, _, text in SHOWN.findall(body["messages"][1]["content"])}
    found = [name for name, text in texts.items() if "good" in text]
    return json.dumps({"helpfulness": "A", "verdict": found[0] if len(found) == 1 else "tie"})


def row(number, **more):
    prompt = [{"role": "user", "content": f"say it {number}"}]
    return {"prompt": prompt, "answers": ["good one", "bad one"], "kind": "say", **more}


def pair(chosen, rejected, number=0):
    return {"prompt": f"say it {number}", "chosen": chosen, "rejected": rejected}


def write(path, rows):
    with files.jsonl_writer(path) as add:
        for one in rows:
            add(one)
    return path


def settings(tmp_path, rows, port, asking=None, **knobs):
    data = write(tmp_path / "data.jsonl", rows)
    given = {"retries": 2, "pause": 0.01, "concurrency": 4, **(asking or {})}
    made = Endpoint(url=f"http://127.0.0.1:{port}", **given)
    return judge.Config(out=tmp_path / "out", data=(data,), endpoint=made, **knobs)


def into(config):
    with files.run_folder(config.out, recipes.resolved(config)) as folder:
        judge.run(config, folder)
    return list(files.read_jsonl(config.out / "pairs.jsonl"))


def test_the_better_answer_is_chosen_and_the_rest_of_the_row_kept(answering, tmp_path):
    with answering(good) as served:
        made = into(settings(tmp_path, [row(0), row(1, tools=[])], served.server_port))
        assert len(served.asked) == 4  # two orders of each
    chosen, rejected = ([{"role": "assistant", "content": f"{w} one"}] for w in ("good", "bad"))
    asked = [{"role": "user", "content": "say it 0"}]
    expected = {"prompt": asked, "chosen": chosen, "rejected": rejected, "kind": "say"}
    assert made[0] == {**expected, "source": "judge"} and len(made) == 2
    told = files.read_json(tmp_path / "out" / "judge.json")
    assert told["model"] == "rule" and told["decided"] == told["pairs"] == 2
    assert told["order"]["value"] == 1 and told["first_place"]["value"] == 0.5
    assert told["criteria"]["helpfulness"] == {"named": 0, "as_the_verdict": 0}  # A in both orders


def test_a_judge_that_favours_a_place_decides_nothing(answering, tmp_path):
    with answering(lambda body: '{"verdict": "A"}') as served:
        made = into(settings(tmp_path, [row(n) for n in range(3)], served.server_port))
    told = files.read_json(tmp_path / "out" / "judge.json")
    assert made == [] and told["undecided"] == {"orders disagree": 3}
    assert told["first_place"]["value"] == 1 and told["order"]["value"] == 0


def test_labels_of_pairs_are_set_against_the_verdicts(answering, tmp_path):
    rows = [pair("good", "bad", 0), pair("bad", "good", 1), pair("good", "good too", 2)]
    with answering(good) as served:
        made = into(settings(tmp_path, rows, served.server_port))
    told = files.read_json(tmp_path / "out" / "judge.json")
    assert told["labels"]["value"] == 0.5 and told["labels"]["n"] == 2
    assert told["undecided"] == {"tie": 1}
    assert made[1]["chosen"] == [{"role": "assistant", "content": "good"}]
    assert made[0]["prompt"] == [{"role": "user", "content": "say it 0"}]


def test_verified_answers_are_labels_and_a_prompt_gives_so_many_pairs(answering, tmp_path):
    texts = [("good 1", "right"), ("bad 2", "wrong"), ("bad 3", "wrong"), ("good 1", "right")]
    answers = [{"text": text, "verdict": verdict} for text, verdict in texts]
    config = {"rows": [row(0, answers=answers)], "pairs_per_prompt": 2}
    with answering(good) as served:
        into(settings(tmp_path, port=served.server_port, **config))
        assert len(served.asked) == 4
    assert files.read_json(tmp_path / "out" / "judge.json")["labels"]["value"] == 1


def test_what_cannot_be_read_is_asked_again_and_then_left(answering, tmp_path):
    def rule(body):
        if "say it 1" in body["messages"][1]["content"] and len(body["messages"]) > 2:
            return good(body)
        return "I like both of them."

    with answering(rule) as served:
        made = into(settings(tmp_path, [row(0), row(1)], served.server_port, attempts=3))
        assert len(served.asked) == 2 * 3 + 2 * 2
        last = [body["messages"][-1]["content"] for body, _ in served.asked]
    assert len(made) == 1 and sum("JSON object alone" in text for text in last) == 6
    assert files.read_json(tmp_path / "out" / "judge.json")["undecided"] == {"unreadable": 1}


@pytest.mark.parametrize("content", [None, "", "\ud83d"])
def test_an_answer_without_words_leaves_its_pair_undecided(answering, tmp_path, content):
    found = 200, {"choices": [{"message": {"content": content, "refusal": "No."}}]}
    with answering(lambda _: found) as served:
        made = into(settings(tmp_path, [row(0)], served.server_port, attempts=1))
    assert made == []
    assert files.read_json(tmp_path / "out" / "judge.json")["undecided"] == {"unreadable": 1}


def test_an_endpoint_that_goes_down_stops_the_run_which_goes_on_later(answering, tmp_path):
    rows = [row(number) for number in range(6)]
    alive = iter(range(99))
    with answering(lambda body: good(body) if next(alive) < 5 else (500, {})) as served:
        port = served.server_port
        config = settings(tmp_path, rows, port, {"concurrency": 1})
        with pytest.raises(UserError, match=r"is down: after 3 tries.*\n5 replies are kept"):
            into(config)
    with pytest.raises(UserError, match="is down: after 3 tries it says ConnectError"):
        into(config)
    with answering(good, port) as served:
        assert len(into(config)) == 6
        assert len(served.asked) == 12 - 5


def test_what_was_answered_is_never_asked_again(answering, tmp_path, monkeypatch):
    """Also where the run is killed when all has been said."""
    with answering(good) as served:
        config = settings(tmp_path, [row(0)], served.server_port)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(judge.judge, "agreement", lambda *_: signal.raise_signal(signal.SIGINT))
            into(config)
        assert len(into(config)) == 1 and len(served.asked) == 2
    said = [*files.read_jsonl(config.out / "said.jsonl")]
    assert len(said) == 2 and all("verdict" in one["text"] for one in said)


def test_one_request_that_is_refused_does_not_stop_the_others(answering, tmp_path):
    def rule(body):
        long = "say it 1" in body["messages"][1]["content"]
        return (400, {"error": {"message": "too many tokens"}}) if long else good(body)

    with answering(rule) as served:
        made = into(settings(tmp_path, [row(0), row(1)], served.server_port))
    assert len(made) == 1
    assert files.read_json(tmp_path / "out" / "judge.json")["undecided"] == {"refused": 1}


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "does not let us in: HTTP 401"),
        (400, "every question is refused: HTTP 400"),
        (404, "404"),
    ],
)
def test_a_server_that_lets_nobody_in_is_told_at_once(answering, tmp_path, status, told):
    with answering(lambda body: (status, {"error": "no"})) as served:
        with pytest.raises(UserError, match=told):
            into(settings(tmp_path, [row(0)], served.server_port))
        assert len(served.asked) <= 2


def test_the_key_is_read_from_the_environment_and_written_nowhere(answering, tmp_path, monkeypatch):
    with answering(good) as served:
        config = settings(tmp_path, [row(0)], served.server_port, {"key_env": "JUDGE_KEY"})
        monkeypatch.delenv("JUDGE_KEY", raising=False)
        with pytest.raises(UserError, match="the environment has no JUDGE_KEY"):
            into(config)
        for unsendable in ("secret\r", "sécret", "secret of ours"):
            monkeypatch.setenv("JUDGE_KEY", unsendable)
            with pytest.raises(UserError, match="which no API key does") as refused:
                into(config)
            assert "cret" not in str(refused.value)
        monkeypatch.setenv("JUDGE_KEY", "secret-of-ours")
        into(config)
        assert {key for _, key in served.asked} == {"Bearer secret-of-ours"}
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or b"secret-of-ours" not in path.read_bytes()


def test_a_rubric_of_ones_own_takes_the_place_of_ours(answering, tmp_path):
    (tmp_path / "rubric.txt").write_text("The shorter one.")
    with answering(good) as served:
        rubric = tmp_path / "rubric.txt"
        into(settings(tmp_path, [row(0)], served.server_port, rubric=rubric))
        assert served.asked[0][0]["messages"][0]["content"] == "The shorter one."


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"answers": ["a", "b"]}, "row 1: .*'prompt'"),
        ({"prompt": "hm"}, "row 1: .*'answers'"),
        (row(0, answers=[{"verdict": "right"}, "b"]), "row 1: .*'text'"),
        (row(0, answers="ab"), "row 1: .*`answers` is no list"),
        (row(0, answers=["one", [{"role": "user"}]]), r"row 1: messages\[1\]"),
        (row(0, answers=["one"]), "no prompt has two different answers"),
    ],
)
def test_rows_of_another_form_are_named_before_anything_is_asked(answering, tmp_path, bad, told):
    with answering(good) as served:
        with pytest.raises(UserError, match=told):
            into(settings(tmp_path, [bad], served.server_port))
        assert served.asked == []


def test_the_pairs_are_such_as_the_reward_model_learns_from(answering, tmp_path):
    texts = [template.DEFAULT_SYSTEM * 3, json.dumps(row(0)) * 3]
    bpe.train(texts, vocab_size=270).save(tmp_path / "tokenizer")
    with answering(good) as served:
        into(settings(tmp_path, [row(n) for n in range(3)], served.server_port))
    limits = reward.Limits(512, 2048)
    path = tmp_path / "out" / "pairs.jsonl"
    found, _ = reward.ranked.read([path], tmp_path / "tokenizer", limits)
    assert len(found) == 3 and {one.source for one in found} == {"judge"}


def test_a_model_of_our_own_can_be_the_judge(tmp_path, speechless, running):
    """`baiwen serve` with a random model: it is asked and says nothing that could be read."""
    model, tokenizer = speechless
    front = Front(Engine(model, tokenizer, cache_tokens=32_768))
    with running(app.build(front, tokenizer, "ours", 8192)) as url:
        into(settings(tmp_path, [row(0)], int(url.rpartition(":")[2]), max_tokens=8, attempts=1))
    told = files.read_json(tmp_path / "out" / "judge.json")
    assert told["model"] == "ours" and told["undecided"] == {"unreadable": 1}
