"""No request stops the server: mutated bodies and raw bytes, and a canary that sings on.

`ABUSE=1` runs as many as issue 3 asks for (`make abuse`); else a tenth of them.
"""

import json
import os
import random
import re

import pytest

SHARE = 1 if os.environ.get("ABUSE") else 10
BODIES = 5000 // SHARE
FAULT = re.compile(rb"^HTTP/1.1 5", re.MULTILINE)
LEAKS = re.compile(r"Traceback|File \"|0x[0-9a-f]{6}|site-packages|pydantic")

HI = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
SEEDS = [
    ("/v1/chat/completions", {"messages": HI, "max_tokens": 2, "temperature": 0.5, "seed": 1}),
    ("/v1/chat/completions", {"messages": HI, "max_tokens": 2, "stream": True, "n": 2}),
    ("/v1/chat/completions", {"messages": HI, "max_tokens": 3, "tools": [TOOL]}),
    (
        "/v1/chat/completions",
        {"messages": HI, "max_tokens": 3, "logit_bias": {"5": 3}, "stop": "x"},
    ),
    (
        "/v1/chat/completions",
        {
            "messages": HI,
            "max_tokens": 3,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": SCHEMA},
            },
        },
    ),
    ("/v1/completions", {"prompt": ["a", "b"], "max_tokens": 2, "echo": True, "logprobs": 2}),
    ("/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 1, "stop_token_ids": [3]}),
    ("/v1/responses", {"input": "hi", "max_output_tokens": 2, "instructions": "x"}),
    ("/v1/embeddings", {"input": ["a", "b"], "encoding_format": "float"}),
    ("/tokenize", {"messages": HI, "tools": [TOOL]}),
    ("/detokenize", {"tokens": [1, 2, 3]}),
]
STRANGE = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 0.1, -0.0, 1e308, "", "x",
    "\x00", "�", "<|im_start|>", "</tool_call>", "a" * 3000, "\U0010ffff", [], [[]], {}, {"": {}},
    [None], ["x"] * 50, {"$ref": "#"}, {"type": "object"}, "{{ ''.__class__ }}", "../../etc/passwd",
    "http://127.0.0.1:1/", [0] * 2000, {"a": {"a": {"a": {"a": 1}}}},
]  # fmt: skip


def mutated(value, rng):
    """`value` with something strange in some place of it."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        name = rng.choice(list(value))
        change = rng.random()
        if change < 0.1:
            return {key: inner for key, inner in value.items() if key != name}
        if change < 0.2:
            return {**value, rng.choice(["foo", "n", "seed", "", "stop"]): rng.choice(STRANGE)}
        return {**value, name: mutated(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [*value[:place], mutated(value[place], rng), *value[place + 1 :]]
    return rng.choice(STRANGE)


def spoiled(data, rng):
    """Bytes of JSON with some of them changed."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(found) + 1)
        change = rng.random()
        if change < 0.4:
            found[place : place + 1] = bytes([rng.randrange(256)])
        elif change < 0.7:
            del found[place : place + rng.randint(1, 8)]
        else:
            found[place:place] = rng.choice([b"\x00", b"\\ud800", b"NaN", b'"', b"{", b"[" * 99])
    return bytes(found)


@pytest.fixture
def canary(http):
    """An answer that must come out the same, to the bit, whatever was asked before."""
    body = {"prompt": "Rome and", "max_tokens": 8, "seed": 3, "logprobs": 2, "echo": True}

    def sung():
        told = http.post("/v1/completions", json=body)
        assert told.status_code == 200
        return told.json()["choices"]

    sung()  # so that every one finds the same in the cache
    first = sung()
    return lambda: sung() == first


def judged(response):
    """Refused with a reason, or answered; never a fault of the server's."""
    assert response.status_code < 500, response.text
    assert not LEAKS.search(response.text), response.text
    if response.status_code >= 400:
        assert response.json()["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.slow
def test_mutated_bodies_are_refused_or_answered(http, canary, settled):
    rng = random.Random(7)
    headers = {"Content-Type": "application/json"}
    for number in range(BODIES):
        path, body = rng.choice(SEEDS)
        for _ in range(rng.randint(0, 3)):
            body = mutated(body, rng)
        data = json.dumps(body).encode()
        if rng.random() < 0.3:
            data = spoiled(data, rng)
        judged(http.post(path, content=data, headers=headers))
        if number % 100 == 99:
            assert canary()
    assert settled() == 0


HOST = b"Host: localhost\r\n"
GET = b"GET /health HTTP/1.1\r\n" + HOST
POST = b"POST /tokenize HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST
RAW = {
    "nothing": b"",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "zeros": b"\x00" * 5000,
    "half a line": b"GET ",
    "no version": b"GET /\r\n\r\n",
    "another version": b"GET /health HTTP/9.9\r\n" + HOST + b"\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": GET + HOST + b"\r\n",
    "a long line": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "many headers": GET + b"X: y\r\n" * 10_000 + b"\r\n",
    "a long header": GET + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
    "a folded header": GET + b"X: a\r\n b\r\n\r\n",
    "a bad header": GET + b"X\x00: a\r\n\r\n",
    "a bad method": b"G@T / HTTP/1.1\r\n" + HOST + b"\r\n",
    "bytes in the path": b"GET /\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n",
    "an escaped path": b"GET /%00%2e%2e/%ff HTTP/1.1\r\n" + HOST + b"\r\n",
    "a foreign target": b"GET http://example.com/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "a tunnel": b"CONNECT example.com:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "an upgrade": GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a huge length": POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "length and chunks": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "another encoding": POST + b"Transfer-Encoding: gzip\r\n\r\n",
    "many in a row": (GET + b"\r\n") * 200,
    "a request and rubbish": GET + b"\r\n" + b"\xff" * 500,
}


@pytest.mark.parametrize("name", RAW)
def test_raw_bytes_are_refused_or_answered(raw, canary, name):
    answer = raw(RAW[name], seconds=0.3)
    assert not FAULT.search(answer)
    assert not LEAKS.search(answer.decode("latin-1"))
    assert canary()


@pytest.mark.parametrize("name", ["a long line", "many headers", "a long header"])
def test_long_headers_are_told_their_limit(raw, name):
    assert re.match(rb"HTTP/1.1 4(00|31) ", raw(RAW[name], seconds=0.3))


def test_random_bytes_do_no_harm(raw, canary):
    rng = random.Random(3)
    for _ in range(200 // SHARE):
        data = rng.randbytes(rng.randint(1, 300))
        start = rng.choice([b"", b"GET / HTTP/1.1\r\n", POST])
        assert not FAULT.search(raw(start + data, seconds=0.02))
    assert canary()
