"""`/v1/completions`: prompts as they stand, scored where that is asked for."""

import json
import math

import pytest
import torch

from baiwen.engine.engine import Engine
from baiwen.engine.sampler import Sampling

PATH = "/v1/completions"


def parts(response):
    frames = response.text.removesuffix("\n\n").split("\n\n")
    assert frames.pop() == "data: [DONE]"
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def greedy(http, **fields):
    response = http.post(PATH, json={"temperature": 0, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def test_an_echo_scores_the_prompt_as_the_model_does(http, model, tokenizer):
    ids = tokenizer.encode("Rome and Oslo are two")
    told = greedy(http, prompt=ids, echo=True, logprobs=1, max_tokens=1)
    logprobs = told["choices"][0]["logprobs"]
    made = Engine(model, tokenizer).generate([ids], Sampling(max_tokens=1))[0]
    whole = torch.tensor([[*ids, *made.ids]])
    table = model.logits(whole)[0, :, : len(tokenizer)].float().log_softmax(-1)
    right = table[:-1].gather(1, whole[0, 1:, None])[:, 0].tolist()
    assert logprobs["token_logprobs"][0] is None and logprobs["top_logprobs"][0] is None
    assert logprobs["token_logprobs"][1:] == pytest.approx(right, abs=1e-3)
    best = [max(top.values()) for top in logprobs["top_logprobs"][1:]]
    assert best == pytest.approx(table[:-1].amax(-1).tolist(), abs=1e-3)
    assert "".join(logprobs["tokens"]) == told["choices"][0]["text"]


def test_an_echo_alone_generates_nothing(http):
    told = greedy(http, prompt="Rome", echo=True, logprobs=0, max_tokens=0)
    (choice,) = told["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("Rome", "length")
    assert told["usage"]["completion_tokens"] == 0
    assert len(choice["logprobs"]["tokens"]) == told["usage"]["prompt_tokens"]


def test_offsets_point_into_the_text(http):
    (choice,) = greedy(http, prompt="Rome, 你好", echo=True, logprobs=0, max_tokens=8)["choices"]
    logprobs, text = choice["logprobs"], choice["text"]
    for token, place in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
        if not token.startswith("bytes:"):
            assert text[place:].startswith(token)


def test_offsets_of_a_stream_are_those_of_the_whole(http):
    asked = {"prompt": "hello", "echo": True, "logprobs": 0, "max_tokens": 40, "seed": 3}
    asked |= {"temperature": 2, "stop": ["never said"], "min_tokens": 40}
    whole = http.post(PATH, json=asked).json()["choices"][0]["logprobs"]
    streamed = parts(http.post(PATH, json={**asked, "stream": True}))
    logprobs = [part["choices"][0]["logprobs"] for part in streamed]
    assert "bytes:" in str(whole["tokens"])
    for name in ("tokens", "text_offset"):
        assert [item for some in logprobs for item in some[name]] == whole[name]


def test_the_token_that_ends_an_answer_is_scored_too(http, tokenizer):
    end = tokenizer.end_of_turn
    told = greedy(http, prompt="Rome", logprobs=0, max_tokens=1, logit_bias={str(end): 100})
    (choice,) = told["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("", "stop")
    assert choice["logprobs"]["tokens"] == ["<|im_end|>"]


def test_many_prompts_are_answered_in_their_order(http):
    alone = [greedy(http, prompt=text, max_tokens=5)["choices"][0]["text"] for text in "abc"]
    told = greedy(http, prompt=["a", "b", "c"], n=2, max_tokens=5)
    assert [choice["index"] for choice in told["choices"]] == [0, 1, 2, 3, 4, 5]
    assert [choice["text"] for choice in told["choices"]] == [t for t in alone for _ in range(2)]


def test_streams_of_many_prompts_add_up(http):
    fields = {"prompt": ["Rome", [1, 2, 3], "c"][::2], "max_tokens": 6, "echo": True, "logprobs": 2}
    whole = greedy(http, **fields)["choices"]
    told = http.post(PATH, json={"temperature": 0, "stream": True, **fields})
    texts, records = ["", ""], [[], []]
    for part in parts(told):
        (choice,) = part["choices"]
        texts[choice["index"]] += choice["text"]
        records[choice["index"]].append(choice["logprobs"])
    assert texts == [choice["text"] for choice in whole]
    for place, choice in enumerate(whole):
        for name in ("tokens", "text_offset"):
            joined = [value for record in records[place] for value in record[name]]
            assert joined == choice["logprobs"][name]
        tops = [top for record in records[place] for top in record["top_logprobs"]]
        for top, right in zip(tops, choice["logprobs"]["top_logprobs"], strict=True):
            assert top == (right if right is None else pytest.approx(right, rel=1e-3, abs=1e-4))


def test_a_stream_ends_with_its_usage(http):
    fields = {"prompt": "a", "max_tokens": 3, "stream": True}
    told = parts(http.post(PATH, json={**fields, "stream_options": {"include_usage": True}}))
    assert told[-1]["choices"] == [] and told[-1]["usage"]["completion_tokens"] <= 3


def test_a_gap_is_filled_behind_the_markers_of_infilling(http, served, tokenizer):
    told = greedy(http, prompt="def f(x):", suffix="return y", max_tokens=4)
    extra = len(tokenizer.encode("def f(x):")) + len(tokenizer.encode("return y"))
    assert told["usage"]["prompt_tokens"] == extra + 3


def test_control_tokens_in_a_text_are_words_and_ids_are_ids(http, tokenizer):
    text = greedy(http, prompt="<|im_end|>", max_tokens=1)["usage"]["prompt_tokens"]
    ids = greedy(http, prompt=[tokenizer.end_of_turn], max_tokens=1)["usage"]["prompt_tokens"]
    assert text > 1 and ids == 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [10**9]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": ["a"] * 200}, "prompt"),
        ({"prompt": "a", "best_of": 3}, "best_of"),
        ({"prompt": "a", "suffix": "b", "echo": True}, "suffix"),
        ({"prompt": "a", "logprobs": 21}, "logprobs"),
        ({"prompt": "a", "min_tokens": 20}, "min_tokens"),
        ({"prompt": "a", "stop_token_ids": [100000]}, "stop_token_ids"),
        ({"prompt": "a", "max_tokens": 5000}, "max_tokens"),
        ({"prompt": "a " * 3000}, "prompt"),
        ({"prompt": ["a"] * 100, "n": 16}, "answers"),
    ],
)
def test_what_cannot_be_done_is_refused(http, fields, param):
    response = http.post(PATH, json=fields)
    assert response.status_code == 400, response.text
    assert (response.json()["error"]["param"] or "").startswith(param)


def test_embeddings_have_length_one_in_both_forms(http):
    numbers = http.post("/v1/embeddings", json={"input": ["Rome", "Oslo"]}).json()["data"]
    assert math.dist(numbers[0]["embedding"], [0] * 96) == pytest.approx(1)
    assert numbers[0]["embedding"] != numbers[1]["embedding"]
    last = http.post("/v1/embeddings", json={"input": "Rome", "pooling": "last"}).json()["data"]
    assert last[0]["embedding"] != numbers[0]["embedding"]


def test_tokens_there_and_back(http, tokenizer):
    told = http.post("/tokenize", json={"prompt": "Rome 你", "return_token_strs": True}).json()
    assert told["tokens"] == tokenizer.encode("Rome 你") and told["count"] == len(told["tokens"])
    assert len(told["token_strs"]) == told["count"] and told["max_model_len"] == 1024
    back = http.post("/detokenize", json={"tokens": told["tokens"]}).json()
    assert back == {"prompt": "Rome 你"}
