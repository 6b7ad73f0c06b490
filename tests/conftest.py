"""What the tests share: where the optional shared data lies."""

import contextlib
import importlib
import json
import os
import runpy
import signal
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import hypothesis
import pytest

# A busy machine is no fault of the code: what takes too long ends at pytest's own limit.
hypothesis.settings.register_profile("baiwen", deadline=None)
hypothesis.settings.load_profile("baiwen")

# A shell starts what it puts into the background with Ctrl-C ignored, which children inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


def fsync(file: int) -> None:
    """No disk is waited for: a test kills processes, whose writes the kernel keeps; no power fails.

    What a power cut would leave is reckoned from the calls themselves (tests/files/conftest.py).
    """
    os.fstat(file)  # an OSError where nothing is open


os.fsync = fsync


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: at the end they would keep one of several workers busy."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws depends on no other test; torch is not imported for those without it."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data beside the checkout; the test is skipped where it is absent."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"needs the shared data, which is not at {path}")
    return path


@pytest.fixture(scope="session")
def forks():
    """Python commands without the seconds that imports take: `forks.run("-m", "baiwen", ...)`."""
    made = runpy.run_path(str(Path(__file__).with_name("forks.py")))["Forks"]()
    yield made
    made.close()


class Scripted(BaseHTTPRequestHandler):
    """A chat model behind OpenAI's protocol that answers by the server's `rule`.

    A rule is given the body of a request, and gives a text; or a status, a body and, if need be,
    headers; or None, and the connection is dropped.
    """

    def do_GET(self):
        self.send(200, {"data": [{"id": "rule"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((body, self.headers.get("authorization")))
        found = self.server.rule(body)
        if isinstance(found, str):
            usage = {"prompt_tokens": 10, "completion_tokens": len(found.split())}
            message = {"role": "assistant", "content": found}
            choice = {"message": message, "finish_reason": "stop"}
            self.send(200, {"choices": [choice], "usage": usage})
        elif found:
            self.send(*found)

    def send(self, status, body, headers=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        with contextlib.suppress(OSError):  # who asked has left
            self.send_response(status)
            for name, value in {"content-length": len(data), **(headers or {})}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_):
        pass


class Servers(ThreadingHTTPServer):
    """A thread a request; `asked` has the body and the key of each."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, rule, port):
        super().__init__(("127.0.0.1", port), Scripted)
        self.rule, self.asked = rule, []
        self.url = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture(scope="session")
def answering():
    """A scripted server: `with answering(rule) as served: served.url, served.asked`."""

    @contextlib.contextmanager
    def opened(rule, port=0):
        with Servers(rule, port) as made:
            thread = threading.Thread(target=made.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield made
            finally:
                made.shutdown()
                thread.join()

    return opened


@pytest.fixture(scope="session")
def running():
    """An application of ours on a free port, in a thread: `with running(made) as url`."""
    server = importlib.import_module("baiwen.serve.server")  # torch, only for who serves

    @contextlib.contextmanager
    def opened(made):
        listener, ready, held = server.bind("127.0.0.1", 0, None), threading.Event(), []

        def run():
            held.append(server.made(made, listener, 5, ready.set))
            held[0].run([listener])

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert ready.wait(20)
        try:
            yield server.url(listener)
        finally:
            held[0].should_exit = True
            thread.join(20)
            listener.close()

    return opened


@pytest.fixture(scope="session")
def speechless():
    """A model of random weights, which says nothing that could be read, and its tokenizer."""
    bpe, template, config, transformer = (
        importlib.import_module(f"baiwen.{name}")
        for name in ("tokenizer.bpe", "tokenizer.template", "model.config", "model.transformer")
    )
    tokenizer = bpe.train([template.DEFAULT_SYSTEM * 3], vocab_size=270)
    shape = config.ModelConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=8192,
        tie_word_embeddings=True, eos_token_id=tokenizer.end_of_turn,
    )  # fmt: skip
    model = transformer.Transformer(shape)
    model.init_weights(0)
    return model, tokenizer
