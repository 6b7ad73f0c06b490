"""`/pooling`: a reward model's scores over HTTP are those of the engine."""

import asyncio
import re
import signal
import time

import httpx
import pytest
import torch

from baiwen import cli
from baiwen.engine.score import score
from baiwen.engine.scorer import Scorer
from baiwen.model import weights
from baiwen.model.reward import RewardModel
from baiwen.serve import app
from baiwen.serve.access import Gate
from baiwen.serve.limits import Limits

QUESTION = {"role": "user", "content": "hello"}
CHATS = [[QUESTION, {"role": "assistant", "content": text}] for text in ("Hi!", "", "1, 2, 3")]


@pytest.fixture(scope="module")
def judge(model):
    return RewardModel.on(model, seed=4)


@pytest.fixture(scope="module")
def url(judge, tokenizer, running):
    made = app.build_scoring(Scorer(judge, tokenizer), "judge", 512, limits=Limits())
    with running(made) as url:
        yield url


@pytest.fixture
def client(url):
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


def rewards(answer):
    assert answer.status_code == 200, answer.text
    assert [one["index"] for one in answer.json()["data"]] == [*range(len(answer.json()["data"]))]
    return torch.tensor([one["data"][-1][0] for one in answer.json()["data"]])


def test_messages_score_as_the_engine_scores_them(client, judge, tokenizer):
    found = torch.cat([rewards(client.post("/pooling", json={"messages": c})) for c in CHATS])
    torch.testing.assert_close(found, score(judge, tokenizer, CHATS), rtol=1e-5, atol=1e-6)
    assert found.std() > 1e-4


def test_ids_of_tokenize_score_as_their_messages_and_many_at_once(client, judge, tokenizer):
    asked = [{"messages": chat, "add_generation_prompt": False} for chat in CHATS]
    every = [client.post("/tokenize", json=body).json()["tokens"] for body in asked]
    answer = client.post("/pooling", json={"input": every, "model": "judge"})
    expected = score(judge, tokenizer, CHATS)
    torch.testing.assert_close(rewards(answer), expected, rtol=1e-5, atol=1e-6)
    read = sum(map(len, every))
    assert answer.json()["usage"]["prompt_tokens"] == answer.json()["usage"]["total_tokens"] == read


def test_requests_that_come_together_share_forwards(judge, tokenizer):
    async def together():
        async with Scorer(judge, tokenizer) as scorer:
            every = [tokenizer.render(chat).ids for chat in CHATS * 20]
            found = await asyncio.gather(*[scorer.score([ids]) for ids in every])
            return torch.tensor(found).flatten(), scorer.stats()

    found, stats = asyncio.run(together())
    expected = score(judge, tokenizer, CHATS * 20)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert stats["conversations"] == 60 and stats["forwards"] < 9 and stats["waiting"] == 0
    assert stats["tokens"] < 0.6 * sum(len(tokenizer.render(chat).ids) for chat in CHATS * 20)


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"]
)
def test_a_reward_model_says_that_it_writes_no_answers(client, path):
    answer = client.post(path, json={"messages": [QUESTION]})
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["type"] == "invalid_request_error"
    assert "judge is a reward model" in error["message"] and "/pooling" in error["message"]


def test_a_language_model_says_that_it_gives_no_scores(http):
    answer = http.post("/pooling", json={"messages": CHATS[0]})
    assert answer.status_code == 400 and "is a language model" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "param", "told"),
    [
        ({}, "messages", "exactly one of messages and input"),
        ({"messages": CHATS[0], "input": "hm"}, "messages", "exactly one of"),
        (
            {"input": "<|im_start|>user\nhello<|im_end|>\n"},
            "input",
            "as messages",
        ),
        ({"input": []}, "input", "at least 1"),
        ({"input": [[10**6]]}, "input", "holds the id 1000000"),
        ({"input": [[1] * 600]}, "input", "88 too many"),
        ({"input": [[1]] * 200}, "input", "takes at most 128"),
        ({"messages": CHATS[0], "model": "other"}, "model", "'other' is not here"),
        ({"messages": CHATS[0], "temperature": 1}, "temperature", "is not a parameter"),
        ({"messages": CHATS[0], "use_activation": True}, "use_activation", "False"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_openais_shape(client, body, param, told):
    answer = client.post("/pooling", json=body)
    assert answer.status_code in (400, 404), answer.text
    error = answer.json()["error"]
    assert error["param"] == param and told in error["message"], error


def test_a_forward_that_fails_is_told_and_forgotten_when_one_succeeds(
    judge, tokenizer, monkeypatch
):
    async def ask(scorer):
        with monkeypatch.context() as patch:
            patch.setattr("baiwen.engine.score.forward", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await scorer.score([[1, 2]])
        assert isinstance(scorer.failure, ZeroDivisionError)
        return await scorer.score([[1, 2]])

    async def served():
        async with Scorer(judge, tokenizer) as scorer:
            return await ask(scorer), scorer.failure

    (found,), failure = asyncio.run(served())
    assert found == pytest.approx(score(judge, tokenizer, [[1, 2]]).item()) and failure is None


def test_more_than_may_wait_is_told_to_come_back(judge, tokenizer):
    made = app.build_scoring(Scorer(judge, tokenizer, max_waiting=2), "judge", 512, gate=Gate())

    async def ask():
        transport = httpx.ASGITransport(made)
        async with (
            made.router.lifespan_context(made),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            return await client.post("/pooling", json={"input": [[1], [2], [3]]})

    answer = asyncio.run(ask())
    assert answer.status_code == 429 and answer.headers["retry-after"] == "1"


def test_models_health_metrics_and_openapi_are_there(client):
    client.post("/pooling", json={"input": [[1, 2, 3]]})
    assert client.get("/v1/models").json()["data"][0]["id"] == "judge"
    assert client.get("/health").json() == {"status": "ok"}
    assert "baiwen_engine_conversations" in client.get("/metrics").text
    assert "/pooling" in client.get("/openapi.json").json()["paths"]
    assert client.get("/").status_code == 404


@pytest.fixture(scope="module")
def folder_of_judge(judge, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge") / "judge"
    folder.mkdir()
    weights.save(judge.state_dict(), judge.config, folder)
    tokenizer.save(folder)
    return folder


def test_the_command_serves_a_reward_models_folder(folder_of_judge, judge, tokenizer, forks):
    options = ["--port", "0", "--device", "cpu", "--dtype", "float32"]
    job = forks.start("-m", "baiwen", "serve", folder_of_judge, *options)
    try:
        due = time.monotonic() + 120
        while not (told := re.fullmatch(r"judge at (\S+)/pooling\n", job.told())):
            assert time.monotonic() < due, job.told()
            time.sleep(0.01)
        answer = httpx.post(f"{told[1]}/pooling", json={"messages": CHATS[0]}, timeout=60)
        job.kill(signal.SIGTERM)
        assert job.wait(60).returncode == 0
    finally:
        job.kill()
    expected = score(judge, tokenizer, CHATS[:1])
    torch.testing.assert_close(rewards(answer), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "words",
    [
        ["chat"],
        ["serve", "--weights", "int8"],
        ["serve", "--sparse-from", "0"],
        ["export", "--gguf", "x"],
    ],
)
def test_commands_for_language_models_refuse_a_reward_model(folder_of_judge, words, capsys):
    code = cli.main([words[0], str(folder_of_judge), *words[1:]])
    told = capsys.readouterr().err
    assert code == 2 and "is a reward model" in told, told
