"""A server that says what a test wrote: OpenAI's protocol, as far as the chat page speaks it.

    with Scripted([words("Hello "), words("there")]) as server:
        page.goto(server.address)

Only for what no real model says on demand: a hostile text, a tool call, a refusal, a long answer.
"""

import json
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from baiwen.serve.web import page

Chunk = dict[str, Any]


def words(text: str, **more: Any) -> Chunk:
    return {"delta": {"content": text}, **more}


def call(name: str, arguments: str, index: int = 0) -> Chunk:
    function = {"name": name, "arguments": arguments}
    return {"delta": {"tool_calls": [{"index": index, "id": f"call{index}", "function": function}]}}


class Scripted(ThreadingHTTPServer):
    """Answers with `script`; `asked` holds what it was asked, `paths` every path that was wanted.

    refusal: a status and a body instead of an answer. key: what it wants as `Bearer`.
    usage: whether an answer ends with its tokens. A chunk that is None waits until `go` is set.
    """

    daemon_threads = True

    def __init__(self, script: Iterable[Chunk | None] = (), context: int = 1000) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.script, self.context = list(script), context
        self.refusal: tuple[int, str] | None = None
        self.key: str | None = None
        self.name = "scripted"  # of its model, the only one that it answers for
        self.usage = True
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.go = threading.Event()
        self.page, self.page_headers = page.read()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "Scripted":
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self.shutdown()
        self.server_close()


class Answer(BaseHTTPRequestHandler):
    server: Scripted

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        if self.path == "/":
            self.give(200, self.server.page, self.server.page_headers)
        elif self.allowed():
            models = [{"id": self.server.name, "max_model_len": self.server.context}]
            self.give(200, {"data": models})

    def do_POST(self) -> None:
        self.server.paths.append(self.path)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.allowed():
            return
        if self.path == "/tokenize":
            said = [body["prompt"]] if "prompt" in body else map(str, body["messages"])
            count = sum(len(text.split()) for text in said)
            self.give(200, {"count": count, "max_model_len": self.server.context})
        elif body["model"] != self.server.name:
            self.give(404, {"error": {"message": f"no {body['model']}", "type": "not_found_error"}})
        else:
            self.server.asked.append(body)
            self.answer()

    def allowed(self) -> bool:
        if self.server.key in (None, self.headers.get("Authorization", "").removeprefix("Bearer ")):
            return True
        self.give(401, {"error": {"message": "this key is not right", "type": "invalid_api_key"}})
        return False

    def answer(self) -> None:
        if self.server.refusal:
            self.give(*self.server.refusal)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for chunk in self.server.script:
                if chunk is None:
                    self.server.go.wait(20)
                    continue
                self.event({"choices": [{"index": 0, **chunk}]})
            usage = {"total_tokens": 20, "completion_tokens": len(self.server.script)}
            if self.server.usage:
                self.event({"choices": [], "usage": usage})
            self.wfile.write(b"data: [DONE]\n\n")
        except BrokenPipeError:
            self.server.paths.append("left")

    def event(self, value: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")
        self.wfile.flush()

    def give(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
