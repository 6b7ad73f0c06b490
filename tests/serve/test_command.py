"""`baiwen serve` as a process: its one line, its first token, its end."""

import contextlib
import json
import re
import signal
import threading
import time

import httpx
import pytest

from baiwen import cli
from baiwen.commands.serve import sampling
from baiwen.errors import UserError

LONG = {"messages": [{"role": "user", "content": "hm"}], "logit_bias": {"10": 100}}


WORDS = ["-m", "baiwen", "serve", "--port", "0", "--device", "cpu"]
TOLD = re.compile(r"\S+ at (\S+)/v1, chat page at \S+/\nreads 1,024 tokens, as trained\n", re.ASCII)


@pytest.fixture
def serving(folder, forks):
    """`with serving(*options) as (job, url)`: a server, without the seconds of its imports."""

    @contextlib.contextmanager
    def started(*options):
        job = forks.start(*WORDS, folder, *options)
        try:
            due = time.monotonic() + 120
            while not (told := TOLD.fullmatch(job.told())):
                assert time.monotonic() < due, job.told()
                time.sleep(0.01)
            yield job, told[1]
        finally:
            job.kill()

    return started


def test_it_says_where_it_is_and_answers(serving, folder):
    with serving("--draft", folder) as (job, url), httpx.Client(timeout=60) as client:
        assert job.told().startswith(f"tiny at {url}/v1, chat page at {url}/\n")
        body = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0}
        told = client.post(f"{url}/v1/chat/completions", json=body).json()
        assert told["model"] == "tiny" and told["choices"][0]["message"]["content"].startswith("Hi")
        assert client.get(f"{url}/").status_code == 200
        numbers = client.get(f"{url}/metrics").text
        accepted = re.search(r"^baiwen_engine_accepted (\S+)", numbers, re.MULTILINE)
        assert float(accepted[1]) > 0  # the draft is the model itself
        job.kill(signal.SIGTERM)
        assert job.wait(60).returncode == 0
        assert all(line.startswith("compiling ") for line in job.stderr.splitlines())


def test_running_requests_are_finished_and_new_ones_refused_at_sigterm(serving):
    with serving("--drain", "60") as (job, url):
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
        job.kill(signal.SIGTERM)
        with contextlib.suppress(httpx.TransportError):  # it may have ended already
            while (status := httpx.get(f"{url}/health").status_code) == 200:
                time.sleep(0.01)
            assert status == 503
        reader.join(60)
        assert job.wait(60).returncode == 0
    assert lines[-2] == "data: [DONE]"
    last = json.loads(lines[-4].removeprefix("data: "))
    assert last["choices"][0]["finish_reason"] == "length"


def test_it_ends_when_the_time_to_drain_is_over(serving):
    with serving("--drain", "0.2") as (job, url):
        body = {**LONG, "stream": True, "n": 16}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as told:
            next(told.iter_lines())
            job.kill(signal.SIGTERM)
            begun = time.monotonic()
            job.wait(15)
            assert time.monotonic() - begun < 10
        assert "Traceback" not in job.stderr


def test_the_key_may_come_from_the_environment(serving, monkeypatch):
    monkeypatch.setenv("BAIWEN_API_KEY", "a-key-of-some-length")
    with serving() as (_, url):
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
        (["--draft", "nowhere"], "there is no draft at nowhere"),
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
