"""`baiwen serve` as a process: its one line, its first token, its end."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

from baiwen import cli
from baiwen.commands.serve import sampling
from baiwen.errors import UserError

LONG = {"messages": [{"role": "user", "content": "hm"}], "logit_bias": {"10": 100}}


@contextlib.contextmanager
def running(folder, *options):
    """The server's process and the URL that it tells."""
    words = [sys.executable, "-m", "baiwen", "serve", str(folder), "--port", "0", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, **pipes) as process:
        try:
            line = process.stdout.readline()
            told = re.fullmatch(r"(\S+) at (\S+)/v1, chat page at (\S+)/\n", line)
            if told:
                assert process.stdout.readline() == "reads 1,024 tokens, as trained\n"
            assert told, f"{line!r} {process.stderr.read() if process.poll() else ''}"
            yield process, told[2]
        finally:
            process.kill()


def test_it_says_where_it_is_and_answers(folder):
    begun = time.monotonic()
    with running(folder, "--device", "cpu") as (process, url), httpx.Client(timeout=60) as client:
        body = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0}
        told = client.post(f"{url}/v1/chat/completions", json=body).json()
        seconds = time.monotonic() - begun
        assert told["model"] == "tiny" and told["choices"][0]["message"]["content"].startswith("Hi")
        assert client.get(f"{url}/").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0 and process.stderr.read() == ""
    assert seconds < 60  # benchmarks/serve.py measures it


def test_running_requests_are_finished_and_new_ones_refused_at_sigterm(folder):
    with running(folder, "--device", "cpu", "--drain", "60") as (process, url):
        lines: list[str] = []
        begun = threading.Event()

        def read():
            body = {**LONG, "stream": True}
            with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as told:
                for line in told.iter_lines():
                    lines.append(line)
                    begun.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert begun.wait(30)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(httpx.TransportError):  # it may have ended already
            while (status := httpx.get(f"{url}/health").status_code) == 200:
                time.sleep(0.01)
            assert status == 503
        reader.join(60)
        assert process.wait(10) == 0
    assert lines[-2] == "data: [DONE]"
    last = json.loads(lines[-4].removeprefix("data: "))
    assert last["choices"][0]["finish_reason"] == "length"


def test_it_ends_when_the_time_to_drain_is_over(folder):
    with running(folder, "--device", "cpu", "--drain", "0.2") as (process, url):
        body = {**LONG, "stream": True, "n": 16}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as told:
            next(told.iter_lines())
            process.send_signal(signal.SIGTERM)
            begun = time.monotonic()
            process.wait(15)
            assert time.monotonic() - begun < 10
        assert "Traceback" not in process.stderr.read()


def test_the_key_may_come_from_the_environment(folder, monkeypatch):
    monkeypatch.setenv("BAIWEN_API_KEY", "a-key-of-some-length")
    with running(folder, "--device", "cpu") as (_, url):
        assert httpx.get(f"{url}/v1/models").status_code == 401


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--host", "0.0.0.0"], "API key"),
        (["--port", "99999"], "--port"),
        (["--api-key", "short"], "8 characters"),
        (["--context", "-5"], "--context -5 must be at least 2"),
        (["--context", "0"], "--context 0 must be at least 2"),
        (["--context", "2000", "--cache-tokens", "1024"], "no room for a context of 2,000 tokens"),
        (["--context", "9" * 10], "GiB of keys and values (0.8 KiB a token)"),
        (["--context", "3000", "--factors", "1,2"], "2.93 times the 1,024 that the model was"),
        (["--context", "3000", "--factors", "0.5,3"], "a factor of 0.5 is below 1"),
        (["--factors", "two"], "--factors two must be numbers"),
        (["--sparse-mass", "2"], "mass = 2.0 must be a share"),
        (["--sparse-chunk", "100"], "chunk = 100 must be a multiple of 16"),
        (["--patterns", "README.md"], "README.md: this is not JSON"),
        (["--max-waiting", "0"], "--max-waiting 0 must be at least 1"),
        (["--max-seconds", "nan"], "--max-seconds nan must be at least 0"),
    ],
)
def test_mistakes_are_told_in_a_line(folder, capsys, options, told):
    assert cli.main(["serve", str(folder), "--device", "cpu", "--port", "0", *options]) == 2
    assert told in capsys.readouterr().err


def test_the_folder_says_how_to_draw(folder, tmp_path):
    assert sampling(folder)["temperature"] == 0.7
    (tmp_path / "generation_config.json").write_text('{"do_sample": false, "top_k": 5}')
    assert sampling(tmp_path) == {"top_k": 5, "temperature": 0.0}
    (tmp_path / "generation_config.json").write_text('{"temperature": -1}')
    with pytest.raises(UserError, match=r"generation_config\.json"):
        sampling(tmp_path)
