"""A small server: a model of two layers that knows a few answers by heart."""

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import torch
import torch.nn.functional as F

import baiwen
from baiwen.engine.engine import Engine
from baiwen.engine.front import Front
from baiwen.model.documents import Documents
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.serve import app, server
from baiwen.serve.access import Gate
from baiwen.serve.limits import Limits
from baiwen.tokenizer import bpe, template

CONTEXT = 1024
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "how warm it is",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
CALLED = 'say "</tool_call>" and {not} <tool_call>'  # in a string, where it is words


def call(city):
    return {"function": {"name": "weather", "arguments": {"city": city}}}


def said(content="", *cities):
    return {"role": "assistant", "content": content, "tool_calls": [call(city) for city in cities]}


TAUGHT = {  # question -> answer, with tools and without
    "Rome?": said("", "Rome"),
    "Rome and Oslo?": said("Both.", "Rome", "Oslo"),
    "tricky?": said("", CALLED),
    "thanks": said("Any time."),
}
SPOKEN = {"hello": "Hi! 你好 👋🏽 e\u0301 👨‍👩‍👧", "count": "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"}


@pytest.fixture(scope="session")
def tokenizer():
    answers = [str(answer) for answer in (*TAUGHT.values(), *SPOKEN.values(), WEATHER)]
    texts = [template.DEFAULT_SYSTEM, template.TOOLS_INTRODUCTION, template.TOOLS_INSTRUCTION]
    return bpe.train([*texts * 4, *answers * 2], vocab_size=512)


def conversations(tokenizer):
    for question, answer in TAUGHT.items():
        yield tokenizer.render([{"role": "user", "content": question}, answer], tools=[WEATHER])
    for question, answer in SPOKEN.items():
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        yield tokenizer.render(turns)


@pytest.fixture(scope="session")
def model(tokenizer):
    """A model that knows the answers above by heart."""
    shape = replace(
        SIZES["tiny"],
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=640,
        max_position_embeddings=CONTEXT,
        bos_token_id=tokenizer.end_of_text,
        eos_token_id=tokenizer.end_of_turn,
    )
    made = Transformer(shape)
    made.init_weights(seed=0)
    teach(made, list(conversations(tokenizer)))
    return made.eval()


def teach(model, rows):
    """Train on all rows at once until every word of the answers is certain."""
    tokens = torch.tensor([[token for row in rows for token in row.ids]])
    documents = Documents.of([[len(row.ids) for row in rows]])
    meant = torch.tensor([bit for row in rows for bit in [*row.mask[1:], 0]], dtype=torch.bool)
    labels = tokens[0].roll(-1)[meant]
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
    for _ in range(400):
        outputs = model(tokens, documents=documents)
        loss = F.cross_entropy(F.linear(outputs.hidden[0, meant], outputs.head), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.01:
            return
    raise AssertionError(f"the model has not learnt: loss {loss}")


@pytest.fixture(scope="session")
def folder(model, tokenizer, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("models") / "tiny"
    baiwen.save(model, tokenizer, place)
    return place


@dataclass
class Served:
    """A server on a real socket, in a thread."""

    url: str
    engine: Engine
    gate: Gate
    limits: Limits
    address: tuple[str, int]


@contextlib.contextmanager
def serving(model, tokenizer, limits=None, api_key=None, reading=None, **fields):
    """Serve the model at a free port; reading: knobs of the engine."""
    engine = Engine(model, tokenizer, cache_tokens=16 * CONTEXT, **reading or {})
    limits, gate = limits or Limits(), Gate(api_key)
    front = Front(engine, max_waiting=limits.waiting)
    made = app.build(front, tokenizer, "tiny", engine.context, gate=gate, limits=limits, **fields)
    listener = server.bind("127.0.0.1", 0, api_key)
    address = listener.getsockname()
    ready = threading.Event()
    running = {}

    def run():
        running["server"] = server.made(made, listener, 5, ready.set)
        running["server"].run([listener])

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield Served(server.url(listener), engine, gate, limits, address)
    finally:
        running["server"].should_exit = True
        thread.join(20)
        listener.close()


@pytest.fixture(scope="session")
def start(model, tokenizer):
    """Start a server of one's own: `with start(limits=...) as served`."""
    return lambda **fields: serving(model, tokenizer, **fields)


@pytest.fixture(scope="session")
def served(start):
    with start() as found:
        yield found


@pytest.fixture(scope="session")
def weather():
    return WEATHER


@pytest.fixture
def http(served):
    with httpx.Client(base_url=served.url, timeout=60) as client:
        yield client


@pytest.fixture
def raw(served):
    """A raw connection to the server: `raw(b"GET / HTTP/1.1...")` -> what comes back."""

    def talk(data: bytes, seconds: float = 5.0) -> bytes:
        with socket.create_connection(served.address, timeout=seconds) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(data)
            received = b""
            with contextlib.suppress(OSError):
                while part := connection.recv(65536):
                    received += part
            return received

    return talk


@pytest.fixture
def settled(served):
    """Wait until nothing runs, and say how many blocks are in use."""

    def wait(seconds: float = 5.0) -> int:
        due = time.monotonic() + seconds
        while served.engine.unfinished and time.monotonic() < due:
            time.sleep(0.005)
        assert served.engine.unfinished == 0
        return int(served.engine.stats()["blocks_used"])

    return wait
