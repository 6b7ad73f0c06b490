"""Long prompts through the server: what is read how is told, and no default changes it."""

import random
from dataclasses import replace

import httpx
import pytest

from baiwen import cli
from baiwen.model.sparse import Sparse

SPARSE = Sparse(threshold=600, chunk=256, mass=0.8, floor=0.0, sink=16, local=16)


@pytest.fixture(scope="module")
def long(start):
    reading = {"context": 4096, "sparse": SPARSE}
    with (
        start(reading=reading) as served,
        httpx.Client(base_url=served.url, timeout=60) as http,
    ):
        yield served, http


def complete(http, length, **fields):
    prompt = random.Random(length).choices(range(5, 250), k=length)
    return http.post("/v1/completions", json={"prompt": prompt, "max_tokens": 4, **fields}).json()


def test_a_server_says_how_it_reads(long, http):
    _, client = long
    (model,) = client.get("/v1/models").json()["data"]
    assert model["max_model_len"] == 4096
    assert model["reads"].startswith("4,096 tokens: 1,024 as trained, beyond by dual chunk")
    assert model["reads"].endswith("prompts from 600 on sparsely, by vote")
    assert http.get("/v1/models").json()["data"][0]["reads"] == "1,024 tokens, as trained"


def test_the_recall_of_a_sparse_prompt_is_told_with_its_usage(long):
    _, http = long
    told = complete(http, 1500)["usage"]["prompt_tokens_details"]
    assert told["cached_tokens"] == 0 and told["sparsity"]["tokens"] == 1500
    assert 0 < told["sparsity"]["recall"] <= 1 and 0 < told["sparsity"]["density"] < 1
    again = complete(http, 1500)["usage"]["prompt_tokens_details"]
    assert again["cached_tokens"] == 1280 and again["sparsity"]["tokens"] == 220
    assert complete(http, 100)["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert "baiwen_engine_sparse_tokens 1720.0" in http.get("/metrics").text


def test_an_answer_of_any_length_does_not_change_how_the_prompt_is_read(long, monkeypatch):
    served, http = long
    add, asked = served.engine.add, []

    def recorded(prompt, sampling):
        asked.append((len(prompt), sampling.max_tokens))
        return add(prompt, replace(sampling, max_tokens=1))

    monkeypatch.setattr(served.engine, "add", recorded)
    for words in (1, 1000):
        messages = [{"role": "user", "content": "hello " * words}]
        http.post("/v1/chat/completions", json={"messages": messages}).raise_for_status()
    assert asked == [(prompt, served.engine.answer(prompt)) for prompt, _ in asked]
    lengths = [-(-(prompt + 64) // 1024) * 1024 for prompt, _ in asked]  # 64: an answer at least
    assert [prompt + most for prompt, most in asked] == lengths and lengths[1] > lengths[0] == 1024


def test_a_prompt_beyond_the_context_is_refused_by_how_much(long):
    _, http = long
    error = complete(http, 4100)["error"]
    assert "4,096 tokens at most" in error["message"] and "8 too many" in error["message"]


def test_how_a_server_reads_is_not_a_matter_of_its_client(long, capsys):
    served, _ = long
    assert cli.main(["chat", served.url, "--context", "100"]) == 2
    assert "--context is for a model that is loaded here" in capsys.readouterr().err
    assert cli.main(["chat", served.url, "--sparse-from", "0"]) == 2
    assert "--sparse-from is for a model that is loaded here" in capsys.readouterr().err
