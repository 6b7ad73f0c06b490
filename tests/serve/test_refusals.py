"""What is refused, and how: OpenAI's shape, the field by its name, nothing of our inside."""

import re

import httpx
import pytest

from baiwen.serve.limits import Limits

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]
LEAKS = re.compile(r"Traceback|File \"|0x[0-9a-f]{6}|/work|site-packages|pydantic|baiwen\.")


def refused(response, status=400):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert not LEAKS.search(response.text), response.text
    return error


@pytest.mark.parametrize(
    ("body", "param", "told"),
    [
        ({}, "messages", "is missing"),
        ([], None, "must be an object"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "usr", "content": "x"}]}, "messages[0].role", "'system'"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "is missing"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content", "valid string"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].",
            "",
        ),
        ({"messages": HI, "foo": 1}, "foo", "not a parameter"),
        ({"messages": HI, "audio": {}}, "audio", "not supported"),
        ({"messages": HI, "reasoning_effort": "low"}, "reasoning_effort", "not supported"),
        ({"messages": HI, "web_search_options": {}}, "web_search_options", "not supported"),
        ({"messages": HI, "chat_template": "{{ x }}"}, "chat_template", "not a parameter"),
        ({"messages": HI, "temperature": 2.1}, "temperature", "less than or equal to 2"),
        ({"messages": HI, "temperature": "1"}, "temperature", "number"),
        ({"messages": HI, "temperature": True}, "temperature", "number"),
        ({"messages": HI, "top_p": -0.1}, "top_p", "greater"),
        ({"messages": HI, "n": 0}, "n", "greater than or equal to 1"),
        ({"messages": HI, "n": 17}, "n", "at most 16"),
        ({"messages": HI, "n": 10**30}, "n", ""),
        ({"messages": HI, "seed": 2**64}, "seed", "less"),
        ({"messages": HI, "stop": ""}, "stop", "empty"),
        ({"messages": HI, "stop": ["a"] * 17}, "stop", "at most 16"),
        ({"messages": HI, "stop": "a" * 300}, "stop", "256"),
        ({"messages": HI, "logit_bias": {"x": 1}}, "logit_bias", "no id"),
        ({"messages": HI, "logit_bias": {"-1": 1}}, "logit_bias", "no id"),
        ({"messages": HI, "logit_bias": {"9" * 30: 1}}, "logit_bias", "no id"),
        ({"messages": HI, "logit_bias": {"1": 101}}, "logit_bias.1", "100"),
        ({"messages": HI, "max_tokens": -1}, "max_tokens", "greater"),
        ({"messages": HI, "top_logprobs": 3}, "top_logprobs", "needs logprobs"),
        ({"messages": HI, "logprobs": True, "top_logprobs": 21}, "top_logprobs", "20"),
        ({"messages": HI, "stream_options": {}}, "stream_options", "needs stream"),
        ({"messages": HI, "structured_outputs": {}}, "structured_outputs", "exactly one"),
        ({"messages": HI, "structured_outputs": {"regex": "("}}, None, "regex"),
        ({"messages": HI, "response_format": {"type": "xml"}}, "response_format.type", "json"),
    ],
)
def test_a_wrong_field_is_named(http, body, param, told):
    error = refused(http.post(CHAT, json=body))
    assert (error["param"] or "").startswith(param or "") and told in error["message"]
    assert error["type"] == "invalid_request_error"


def test_a_keyword_of_a_schema_that_cannot_be_kept_is_named(http):
    schema = {"type": "object", "properties": {"a": {"uniqueItems": True}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    error = refused(http.post(CHAT, json={"messages": HI, "response_format": form}))
    assert "uniqueItems" in error["message"]


def test_another_model_is_not_here(http):
    error = refused(http.post(CHAT, json={"messages": HI, "model": "gpt-5"}), 404)
    assert error["code"] == "model_not_found" and "'tiny'" in error["message"]
    refused(http.get("/v1/models/gpt-5"), 404)
    assert http.get("/v1/models/tiny").json()["id"] == "tiny"


def test_unknown_routes_and_methods(http):
    refused(http.get("/v1/nothing"), 404)
    refused(http.get("/../../etc/passwd"), 404)
    refused(http.get(CHAT), 405)
    refused(http.delete("/health"), 405)


def test_a_body_must_be_json_and_say_so(http):
    refused(http.post(CHAT, content=b"{}"))
    refused(http.post(CHAT, content=b"{}", headers={"Content-Type": "text/plain"}))
    refused(http.post(CHAT, data={"messages": "x"}))


def test_a_body_that_is_too_large_is_refused_before_it_is_read(start):
    with start(limits=Limits(body=1000)) as small, httpx.Client(base_url=small.url) as client:
        refused(client.post(CHAT, content=b" " * 1001), 413)
        chunked = (b" " * 100 for _ in range(20))
        headers = {"Content-Type": "application/json"}
        refused(client.post(CHAT, content=chunked, headers=headers), 413)
        body = {"messages": HI, "max_tokens": 1}
        assert client.post(CHAT, json=body).status_code == 200


def test_more_prompts_than_may_wait_are_told_to_come_back(start):
    with start(limits=Limits(waiting=2)) as small, httpx.Client(base_url=small.url) as client:
        body = {"prompt": ["a", "b", "c", "d"], "max_tokens": 1}
        response = client.post("/v1/completions", json=body)
        refused(response, 429)
        assert response.headers["retry-after"] == "1"
        assert client.post("/v1/completions", json={"prompt": "a"}).status_code == 200


def test_scores_of_long_prompts_are_bounded(start):
    with start(limits=Limits(scores=300)) as small, httpx.Client(base_url=small.url) as client:
        body = {"prompt": [[5] * 60] * 2, "echo": True, "max_tokens": 0, "logprobs": 2}
        error = refused(client.post("/v1/completions", json=body))
        assert error["param"] == "logprobs" and "are 360" in error["message"]
        body["logprobs"] = 1
        assert client.post("/v1/completions", json=body).status_code == 200


def test_embeddings_that_take_too_long_are_ended(start):
    slow = Limits(request_seconds=0.05)
    with start(limits=slow) as small, httpx.Client(base_url=small.url, timeout=60) as client:
        refused(client.post("/v1/embeddings", json={"input": [[5] * 1000] * 128}), 504)


def test_an_answer_that_takes_too_long_is_ended(start):
    slow = Limits(request_seconds=0.05)
    with start(limits=slow) as small, httpx.Client(base_url=small.url) as client:
        body = {"messages": HI, "logit_bias": {"10": 100}}
        refused(client.post(CHAT, json=body), 504)
        streamed = client.post(CHAT, json={**body, "stream": True})
        assert '"timeout_error"' in streamed.text and "[DONE]" not in streamed.text
