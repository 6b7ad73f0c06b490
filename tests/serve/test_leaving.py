"""Clients that leave, that do not read, that never finish asking: nothing of theirs stays."""

import asyncio
import contextlib
import json
import random
import socket
import struct
import time
from itertools import count

import httpx
import pytest

from baiwen.engine.engine import Engine
from baiwen.engine.front import Front
from baiwen.engine.matcher import Matcher
from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError
from baiwen.serve import app, embeddings
from baiwen.serve.errors import APIError
from baiwen.serve.generation import Generation
from baiwen.serve.limits import Limits
from baiwen.serve.protocol import EmbeddingRequest

LONG = {"messages": [{"role": "user", "content": "hm"}], "logit_bias": {"10": 100}}


def request(body, path="/v1/chat/completions"):
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def opened(served, data, receive_buffer=None):
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect(served.address)
    connection.sendall(data)
    return connection


def reset(connection):
    """Leave with a RST, as a process that is killed with unread data does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def running(served):
    return served.engine.unfinished


def until(holds, seconds):
    due = time.monotonic() + seconds
    while not holds() and time.monotonic() < due:
        time.sleep(0.002)
    return holds()


@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["FIN", "RST"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_blocks_at_once(served, settled, leave, stream):
    settled()
    connection = opened(served, request({**LONG, "stream": stream}))
    assert until(lambda: served.engine.stats()["blocks_used"] > 0, 5)
    left = time.monotonic()
    leave(connection)
    assert until(lambda: not running(served), 5)
    assert time.monotonic() - left < 0.1 * slowness(served)
    assert settled() == 0


def slowness(served):
    """How many times slower than alone this machine is now: others may be at work on it."""
    begun = time.monotonic()
    sum(range(1_000_000))
    return max(1.0, (time.monotonic() - begun) / 0.02)


@pytest.mark.slow
def test_a_thousand_aborted_streams_leave_nothing(served, settled):
    rng = random.Random(0)
    for number in range(1000):
        connection = opened(served, request({**LONG, "stream": True, "n": 1 + number % 3}))
        if number % 4 == 0:
            connection.recv(64)
        elif number % 4 == 1:
            time.sleep(rng.random() * 0.002)
        (reset if number % 2 else socket.socket.close)(connection)
    assert settled(60) == 0
    stats = served.engine.stats()
    assert stats["running"] == stats["waiting"] == 0


@pytest.mark.slow
def test_readers_that_stall_are_bounded_and_dropped(start):
    limits = Limits(read_seconds=0.5, waiting=1000)
    with start(limits=limits) as served:
        body = {**LONG, "stream": True, "logprobs": True, "top_logprobs": 20}
        stalled = [opened(served, request(body), receive_buffer=4096) for _ in range(200)]
        with httpx.Client(base_url=served.url, timeout=120) as client:
            told = client.post("/v1/completions", json={"prompt": "a", "max_tokens": 2})
            assert told.status_code == 200
            assert until(lambda: not running(served), 120)
            assert served.engine.stats()["blocks_used"] == 0
            assert until(lambda: 'dropped_total{reason="slow"}' in client.get("/metrics").text, 10)
        for connection in stalled:
            connection.close()


def test_requests_that_come_drop_by_drop_are_cut(start):
    limits = Limits(header_seconds=0.3, body_seconds=0.3)
    with start(limits=limits) as served:
        slow = opened(served, b"GET /health HTTP/1.1\r\n")
        body = request(LONG)[:-10]
        late = opened(served, body)
        begun = time.monotonic()
        assert everything(slow).startswith(b"HTTP/1.1 408 ")
        assert everything(late).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - begun < 5


def everything(connection):
    """What comes until the server closes."""
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


def endured(connection, drop: bytes) -> float:
    """Seconds for which a server takes one drop after the other, at most 5."""
    begun = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - begun < 5:
            connection.sendall(drop)
            time.sleep(0.05)
    return time.monotonic() - begun


def test_drops_do_not_stretch_the_time_for_headers(start):
    with start(limits=Limits(header_seconds=0.3)) as served:
        assert endured(opened(served, b"GET /health HTTP/1.1\r\n"), b"X: y\r\n") < 3


def test_drops_do_not_stretch_the_time_for_a_body(start):
    with start(limits=Limits(body_seconds=0.3)) as served:
        begun = request({**LONG, "user": "x" * 100})[:-100]
        assert endured(opened(served, begun), b"x") < 3


def test_connections_over_the_limit_are_turned_away(start):
    with start(limits=Limits(connections=3)) as served:
        kept = [opened(served, b"G") for _ in range(3)]
        time.sleep(0.1)
        over = opened(served, b"")
        assert b" 503 " in over.recv(1000)
        for connection in kept:
            connection.close()
        assert until(lambda: httpx.get(f"{served.url}/health").status_code == 200, 5)


def test_a_reader_slower_than_the_model_is_told_that_it_was(model, tokenizer):
    async def run():
        engine = Engine(model, tokenizer, cache_tokens=1024)
        front = Front(engine, buffer=1)
        service = app.build(front, tokenizer, "tiny", engine.context).state.service
        async with front:
            generation = await Generation.start(service, [5], Sampling(stop_ids=()))
            with pytest.raises(APIError, match="not read in time") as told:
                async for _ in generation.deltas():
                    await asyncio.sleep(0.5)
            assert told.value.status_code == 408

    asyncio.run(run())


def test_an_answer_that_was_ready_in_time_may_be_read_later(model, tokenizer):
    async def run():
        front = Front(Engine(model, tokenizer, cache_tokens=1024))
        limits = Limits(request_seconds=0.1)
        service = app.build(front, tokenizer, "tiny", 1024, limits=limits).state.service
        async with front:
            sampling = Sampling(max_tokens=3, stop_ids=())
            generation = await Generation.start(service, [5], sampling)
            while not generation._submission.ended:
                await asyncio.sleep(0.01)
            said = []
            async for delta in generation.deltas():
                said += delta.tokens
                await asyncio.sleep(0.1)
            assert len(said) == 3

    asyncio.run(run())


def test_where_one_of_several_prompts_fails_the_others_end(served, http, settled, monkeypatch):
    settled()
    calls = count()

    def check(_matcher):
        if next(calls) == 8:
            raise UserError("too complex")

    monkeypatch.setattr(Matcher, "check", check)
    form = {"structured_outputs": {"regex": "[a-z ]{2000}"}, "max_tokens": 1000}
    told = http.post("/v1/completions", json={"prompt": ["a", "b"], **form})
    assert told.status_code == 400 and "too complex" in told.text
    begun = served.engine.stats()["generated_tokens"]
    assert settled() == 0
    assert served.engine.stats()["generated_tokens"] < begun + 100


def test_an_embedding_that_the_end_of_the_server_cuts_is_told_so(model, tokenizer):
    async def run():
        front = Front(Engine(model, tokenizer, cache_tokens=1024))
        service = app.build(front, tokenizer, "tiny", 1024).state.service
        async with front:
            pass
        with pytest.raises(APIError) as told:
            await embeddings._vectors(service, [[5]], EmbeddingRequest(input=[5]))
        assert told.value.status_code == 503 and told.value.headers["Retry-After"]

    asyncio.run(run())
