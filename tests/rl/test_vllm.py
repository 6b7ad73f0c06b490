"""The vLLM adapter against a double: a server of its protocol that answers with our engine.

No vLLM runs here. The double speaks what vLLM's documentation says of `/v1/completions`, Sleep Mode
and `/metrics`, and answers with an error where a real server would.
"""

import json
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import torch

import baiwen
from baiwen import config, files, stages
from baiwen.engine.engine import Engine
from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError
from baiwen.model import weights
from baiwen.rl.rollout import roll_out, whole
from baiwen.rl.vllm import Vllm, served
from baiwen.stages import grpo
from baiwen.tokenizer import bpe

SAMPLING = Sampling(temperature=0.8, max_tokens=8, n=3, seed=7)
PROMPTS = [[5, 9, 11], [40, 41, 42, 43], [5, 9, 11]]


class Double(BaseHTTPRequestHandler):
    """vLLM's protocol; `self.server` has folder, engine, tokenizer, awake, and what to do wrong."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/v1/models":
            self.reply({"data": [{"id": "served"}]})
        elif self.path == "/metrics":
            count = self.server.engine.stats()["generated_tokens"]
            self.reply(
                "# TYPE vllm:generation_tokens_total counter\n"
                f'vllm:generation_tokens_total{{engine="0",model_name="served"}} {count}.0\n'
                'vllm:iteration_tokens_total_bucket{le="1.0"} 3.0\nvllm:num_requests_running 0.0\n'
            )

    def do_POST(self):
        told = self.rfile.read(int(self.headers["content-length"] or 0))
        where = urlsplit(self.path)
        server = self.server
        server.asked.append(self.path)
        with server.lock:
            if server.wrong:
                status, body, pause = server.wrong.pop(0)
                server.asked_wrongly()
                time.sleep(pause)
                self.reply(body, status)
            else:
                path = where.path.strip("/").replace("/", "_")
                getattr(self, path)(json.loads(told or "null"), parse_qs(where.query))

    def reply(self, body, status=200):
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def v1_completions(self, body, _):
        if self.server.awake != {"weights", "kv_cache"}:
            return self.reply("the engine is asleep", 500)
        assert body["return_token_ids"]
        assert body["logprobs"] is not None
        sampling = Sampling(
            tempered=True,  # --logprobs-mode processed_logprobs
            stop_ids=tuple(body["stop_token_ids"]),
            **{name: body[name] for name in ("temperature", "max_tokens", "n", "seed", "top_p")},
        )
        if len(body["prompt"]) > 60:
            return self.reply({"error": {"message": "longer than the maximum model length"}}, 400)
        done = self.server.engine.generate([body["prompt"]], sampling)
        choices = [
            {
                "index": index,
                "text": answer.text,
                "finish_reason": answer.finish_reason,
                "token_ids": answer.ids,
                "logprobs": {"token_logprobs": answer.logprobs},
            }
            for index, answer in enumerate(done)
        ]
        return self.reply({"choices": choices[::-1]})

    def detokenize(self, body, _):
        self.reply({"prompt": self.server.tokenizer.decode(body["tokens"])})

    def sleep(self, _, query):
        assert query == {"level": ["2"]}
        self.server.awake.clear()
        for parameter in self.server.engine.model.parameters():
            parameter.data.fill_(float("nan"))  # memory without content
        self.reply("")

    def wake_up(self, _, query):
        self.server.awake |= set(query["tags"])
        self.server.engine.reset_cache()
        self.reply("")

    def collective_rpc(self, body, _):
        assert body == {"method": "reload_weights"}
        assert self.server.awake == {"weights"}
        read = weights.load(self.server.folder, dtype=torch.float32)
        self.server.engine.model.load_state_dict(read.state_dict())
        self.reply({"results": [None]})


@pytest.fixture
def start(model, tokenizer, tmp_path):
    """The model that trains, and a copy of its folder that is served."""
    baiwen.save(model, tokenizer, tmp_path / "start")
    shutil.copytree(tmp_path / "start", tmp_path / "served")
    return tmp_path / "start"


@pytest.fixture
def double(start, tokenizer):
    folder = start.parent / "served"
    server = ThreadingHTTPServer(("127.0.0.1", 0), Double)
    server.folder, server.tokenizer, server.lock = folder, tokenizer, threading.Lock()
    server.engine = Engine(
        weights.load(folder, dtype=torch.float32), tokenizer, cache_tokens=4096, sequences=16
    )
    server.awake, server.asked, server.wrong = {"weights", "kv_cache"}, [], []
    server.asked_wrongly = lambda: None
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def knobs(double, **given):
    url = f"http://127.0.0.1:{double.server_address[1]}"
    return Vllm(**{"url": url, "folder": double.folder, "pause": 0.01, "retries": 2, **given})


def opened(double, start, tokenizer, **given):
    return served(knobs(double, **given), start, tokenizer, torch.float32)


def test_answers_are_those_of_the_weights_that_were_pushed_in_ids(
    double, start, model, sampler, tokenizer
):
    with opened(double, start, tokenizer) as there:
        for _ in range(2):
            there.update_weights(whole(model))
            sampler.update_weights(whole(model))
            theirs = roll_out(there, PROMPTS, SAMPLING, room=64)
            for prompt, group in zip(PROMPTS, theirs, strict=True):
                for answer in group:
                    context = torch.tensor([[*prompt, *answer.ids]])
                    logits = model.logits(context)[0, len(prompt) - 1 : -1] / 0.8
                    ids = torch.tensor(answer.ids)[:, None]
                    wanted = logits.log_softmax(-1).gather(1, ids)[:, 0]
                    assert answer.logprobs == pytest.approx(wanted.tolist(), abs=1e-4)
            assert theirs[0] != theirs[2]  # a prompt that is given twice
            assert roll_out(there, PROMPTS, SAMPLING, room=64) == theirs
            there.pause()
            model.init_weights(seed=5)
        told = there.stats()
        assert told["generated_tokens"] == double.engine.stats()["generated_tokens"] > 0
        assert told["running"] == 0
    assert double.asked[1:5] == [
        "/sleep?level=2",
        "/wake_up?tags=weights",
        "/collective_rpc",
        "/wake_up?tags=kv_cache",
    ]


def test_the_text_is_without_the_end_marker(double, start, model, tokenizer):
    with opened(double, start, tokenizer) as there:
        there.update_weights(whole(model))
        long = Sampling(temperature=1.0, max_tokens=100, n=4, seed=1)
        answers = chain(*roll_out(there, PROMPTS, long, room=400))
    ended = [answer for answer in answers if answer.finish == "stop"]
    assert ended
    assert all(answer.text == tokenizer.decode(answer.ids[:-1]) for answer in ended)


@pytest.mark.parametrize(
    "wrong", [(503, "loading", 0), (200, '{"choices": []}', 0), (200, "late", 0.6)]
)
def test_what_passes_is_asked_again(double, start, model, tokenizer, wrong):
    with opened(double, start, tokenizer, retries=8) as there:
        there.update_weights(whole(model))
        whole_answers = there.generate(PROMPTS, SAMPLING)
        client, (*_, pause) = there._peers[0].client, wrong
        patient, client.timeout = client.timeout, pause / 2 or 60
        double.asked_wrongly = lambda: setattr(client, "timeout", patient)  # of what is asked next
        double.wrong = [wrong]
        assert there.generate(PROMPTS, SAMPLING) == whole_answers


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ((500, "out of memory", 0), "is down: after 3 tries it says HTTP 500: out of memory"),
        ((404, "no such route", 0), "does not let us in: HTTP 404"),
        ((200, "late", 0.2), "is down: after 3 tries it says ReadTimeout"),
    ],
)
def test_a_server_that_fails_ends_the_run_with_what_it_says(
    double, start, model, tokenizer, wrong, told
):
    with opened(double, start, tokenizer) as there:
        there._peers[0].client.timeout = wrong[2] / 2 or 60
        double.wrong = [wrong] * 20
        with pytest.raises(UserError, match=told):
            there.generate(PROMPTS, SAMPLING)
    double.wrong = []


def test_what_the_server_refuses_is_told(double, start, tokenizer):
    with (
        opened(double, start, tokenizer) as there,
        pytest.raises(
            UserError, match=r"/v1/completions refuses: HTTP 400: .*maximum model length"
        ),
    ):
        there.generate([[5] * 61], SAMPLING)


def test_a_server_of_another_vocabulary_is_refused(double, start, tokenizer):
    text = "the quick brown fox jumps over the lazy dog while nobody else is looking"
    double.tokenizer = bpe.train([text] * 4, vocab_size=len(tokenizer.vocabulary.tokens))
    told = "serves served, which has another vocabulary than `start`"
    with pytest.raises(UserError, match=told), opened(double, start, tokenizer):
        pass


def test_the_model_that_trains_is_never_overwritten(double, start, tokenizer):
    double.folder = start.parent / "served/../start"
    told = "is `start`, and would be overwritten"
    with pytest.raises(UserError, match=told), opened(double, start, tokenizer):
        pass


def test_a_run_rolls_out_on_the_server(double, start, asked):
    out = start.parent / "out"
    parsed = config.parse(
        {
            **{"out": out, "start": start, "prompts": asked, "steps": 3, "prompts_per_step": 2},
            **{"samples_per_prompt": 2, "max_tokens": 6, "micro_tokens": 600, "threads": 1},
            **{"dtype": "float32", "order": {"by_variance": False}, "zero_variance": "keep"},
            "vllm": knobs(double).model_dump(),
            "workers": {"staleness": 1},
        },
        grpo.Config,
        "a test",
    )
    stages.run(stages.Recipe(Path("grpo.toml"), "grpo", "grpo", parsed))
    told = list(files.read_jsonl(out / "metrics.jsonl"))
    assert [row["staleness"] for row in told] == [0, 1, 1]
    assert all(row["mismatch"] < 1e-2 for row in told)
    assert double.asked.count("/collective_rpc") == 4  # a rollout each, and before them
