"""The chat in a terminal: a conversation with a tiny engine, its commands, pipes, a real pty."""

import fcntl
import importlib.util
import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baiwen import cli
from baiwen.commands import chat
from baiwen.commands.conversation import COMMANDS, Conversation, is_command, obey
from baiwen.commands.local import Local
from baiwen.commands.remote import Remote, events
from baiwen.commands.terminal import Ink, clean
from baiwen.engine.engine import Engine
from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.tokenizer import bpe, template

GREEDY = {"temperature": 0.0, "max_tokens": 6}
PLAIN = {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}  # it asks no terminal for its cursor
READY = "\x1b[?2004h"  # the editor has the terminal: bracketed paste is on
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def _load(name: str):
    path = Path(__file__).parents[1] / "serve" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


scripted = _load("scripted")


@pytest.fixture(scope="module")
def engine() -> Engine:
    tokenizer = bpe.train([template.DEFAULT_SYSTEM] * 4, vocab_size=290)
    shape = replace(
        SIZES["tiny"],
        num_hidden_layers=2,
        vocab_size=384,
        max_position_embeddings=256,
        initializer_range=0.3,
        bos_token_id=tokenizer.end_of_text,
        eos_token_id=tokenizer.end_of_turn,
    )
    model = Transformer(shape)
    model.init_weights(seed=1)
    return Engine(model.eval(), tokenizer)


@pytest.fixture
def talk(engine) -> Conversation:
    return Conversation(Local(engine, "tiny"), GREEDY)


def asked(talk: Conversation, question: str) -> str:
    return "".join(talk.ask(question))


def said(talk: Conversation) -> list[str]:
    return [message["content"] for message in talk.messages]


# The conversation.


def test_every_answer_is_the_engines_own_on_the_whole_conversation(talk, engine):
    first, second = asked(talk, "to be"), asked(talk, "or not")
    messages = [
        {"role": "user", "content": "to be"},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "or not"},
    ]
    assert second == engine.generate([messages], Sampling(**GREEDY))[0].text
    assert said(talk) == ["to be", first, "or not", second]


def test_an_answer_left_early_stays_as_far_as_it_came(talk, engine):
    pieces = talk.ask("to be")
    first = next(pieces)
    pieces.close()
    assert said(talk) == ["to be", first]
    assert engine.unfinished == 0


def test_a_question_that_is_refused_leaves_no_trace(talk):
    asked(talk, "to be")
    before = list(talk.messages)
    with pytest.raises(UserError, match="tokens"):
        asked(talk, "x" * 2000)
    assert talk.messages == before


def test_undo_takes_back_a_question_and_retry_asks_it_again(talk):
    asked(talk, "to be")
    answer = asked(talk, "or not")
    assert obey(talk, "/retry").ask == "or not"
    assert asked(talk, "or not") == answer
    assert obey(talk, "/undo").told == "taken back: or not"
    assert len(talk.messages) == 2
    obey(talk, "/undo")
    assert obey(talk, "/undo").told == obey(talk, "/retry").told == "nothing was asked yet"


def test_edit_asks_another_question_in_the_place_of_the_last(talk):
    asked(talk, "to be")
    assert obey(talk, "/edit not to be").ask == "not to be"
    assert talk.messages == []
    asked(talk, "to be")
    assert obey(talk, "/edit").draft == "to be"


def test_a_system_message_begins_the_conversation_anew(talk):
    plain = asked(talk, "to be")
    obey(talk, "/system Be short.")
    assert said(talk) == ["Be short."]
    assert asked(talk, "to be") != plain
    obey(talk, "/reset")
    assert said(talk) == ["Be short."]
    obey(talk, "/system none")
    assert asked(talk, "to be") == plain


def test_set_changes_how_answers_are_drawn(talk):
    assert obey(talk, "/set max-tokens 2").told == "max_tokens = 2"
    short = asked(talk, "to be")
    obey(talk, "/reset")
    obey(talk, "/set max_tokens=6")
    assert asked(talk, "to be").startswith(short)
    assert "max_tokens = 6" in obey(talk, "/set").told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/set temprature 1", "Did you mean temperature?"),
        ("/set temperature hot", "'hot' is none"),
        ("/set top_p 7", "top_p must be above 0"),
        ("/quti", "Did you mean quit?"),
        ("/save", "give a file"),
        ("/load nowhere.json", "nowhere.json"),
    ],
)
def test_a_slip_in_a_command_is_told_and_changes_nothing(talk, line, told):
    before = dict(talk.knobs)
    with pytest.raises(UserError, match=re.escape(told)):
        obey(talk, line)
    assert talk.knobs == before


def test_tokens_counts_what_the_model_reads(talk, engine):
    asked(talk, "to be")
    count = len(engine.tokenizer.render(talk.messages, generate=True).ids)
    assert obey(talk, "/tokens").told == f"{count:,} of {engine.context:,} tokens"


def test_a_saved_conversation_is_loaded_and_goes_on(talk, engine, tmp_path):
    obey(talk, "/system Be short.")
    asked(talk, "to be")
    path = tmp_path / "talk.json"
    obey(talk, f"/save {path}")
    other = Conversation(Local(engine, "tiny"), GREEDY)
    obey(other, f"/load {path}")
    assert (other.messages, other.system) == (talk.messages, "Be short.")
    assert asked(other, "or not") == asked(talk, "or not")
    obey(other, f"/save {path}")
    assert json.loads(path.read_text())["messages"] == other.messages


def test_a_file_that_was_there_is_not_written_over(talk, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text("{}")
    with pytest.raises(UserError, match="is there already"):
        obey(talk, f"/save {path}")
    with pytest.raises(UserError, match="holds no conversation"):
        obey(talk, f"/load {path}")
    assert path.read_text() == "{}"


def test_help_lists_every_command_and_each_line_fits():
    lines = chat.HELP.splitlines()
    assert [line.split()[0] for line in lines] == [f"/{name}" for name in COMMANDS]
    assert max(map(len, lines)) <= 80
    assert chat.HELP in (Path(__file__).parents[2] / "docs/chat.md").read_text()


def test_a_path_is_a_question_not_a_command():
    assert not is_command("/etc/hosts: what is it?") and not is_command("1/2")
    assert is_command("/what") and is_command("/set temperature 1")


# A server's answers.


@pytest.fixture
def server() -> Iterator["scripted.Scripted"]:
    with scripted.Scripted([scripted.words(text) for text in ("Hel", "lo, ", "世界")]) as made:
        yield made


def test_a_server_is_asked_in_its_protocol(server):
    talk = Conversation(Remote(f"{server.address}/v1/"), {"temperature": 0.5, "seed": None})
    assert asked(talk, "to be") == "Hello, 世界"
    (body,) = server.asked
    assert body == {
        "model": "scripted",
        "messages": [{"role": "user", "content": "to be"}],
        "stream": True,
        "temperature": 0.5,
    }
    assert talk.source.context == 1000
    assert obey(talk, "/tokens").told.endswith(" of 1,000 tokens")


def test_a_refusal_and_a_missing_key_are_told_in_the_servers_words(server):
    talk = Conversation(Remote(server.address), {})
    server.refusal = (400, {"error": {"message": "12 tokens too many"}})
    with pytest.raises(UserError, match=r"HTTP 400\): 12 tokens too many"):
        asked(talk, "to be")
    server.key = "secret"
    with pytest.raises(UserError, match="--api-key"):
        Remote(server.address)
    assert Remote(server.address, "secret").name == "scripted"


@pytest.mark.parametrize(
    "said", ["\x1b]0;owned\x07<html>", {"error": {"message": "\x1b[2Jgone"}}, 7]
)
def test_whatever_a_server_says_against_it_is_told_without_control_characters(server, said):
    talk = Conversation(Remote(server.address), {})
    server.refusal = (500, said)
    with pytest.raises(UserError) as told:
        asked(talk, "to be")
    assert "HTTP 500" in str(told.value) and "\x1b" not in str(told.value)


@pytest.mark.parametrize("said", [b"data: no json\n\n", b"data: [1]\n\n"])
def test_a_server_that_speaks_another_protocol_is_told(said):
    with pytest.raises(UserError, match="does not speak OpenAI's protocol"):
        list(events(io.BytesIO(said)))


def test_events_may_be_split_over_lines_and_end_with_done():
    raw = b': note\ndata: {"a":\r\ndata: 1}\r\n\r\ndata: [DONE]\n\ndata: {"b": 2}\n\n'
    assert list(events(io.BytesIO(raw))) == [{"a": 1}]


def test_an_answer_that_breaks_off_is_told():
    stream = events(io.BytesIO(b'data: {"a": 1}\n\n'))
    assert next(stream) == {"a": 1}
    with pytest.raises(UserError, match="in the middle of its answer"):
        next(stream)


def test_a_server_that_is_not_there_is_told():
    with pytest.raises(UserError, match="does not answer"):
        Remote("http://127.0.0.1:9")


def test_the_key_follows_no_redirect(server):
    server.refusal = (302, {"error": "elsewhere"})
    with pytest.raises(UserError, match="HTTP 302"):
        asked(Conversation(Remote(server.address), {}), "to be")


# What reaches the terminal.

HOSTILE = "\x1b]0;owned\x07\x1b[2Jrm -rf\r\x9b31m\u202egnp.exe\x00\x08"


def test_nothing_that_moves_a_cursor_passes():
    assert clean(HOSTILE) == "]0;owned[2Jrm -rf31mgnp.exe"
    assert clean("tab\tand\nline 你好 é") == "tab\tand\nline 你好 é"


@given(st.text(st.sampled_from("a`*#\n \x1b[31m你")), st.lists(st.integers(0, 40)))
def test_ink_shows_the_clean_text_whatever_its_pieces(text, cuts):
    ink = Ink()
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]
    shown = "".join(map(ink.feed, pieces)) + ink.finish()
    assert ANSI.sub("", shown) == clean(text)
    assert {"\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[36m"} >= set(ANSI.findall(shown))
    whole = Ink()
    assert shown == whole.feed(text) + whole.finish()


def test_ink_colours_code_and_headings():
    ink = Ink()
    shown = ink.feed("# Sum\nof `a`\n```py\nx = 1\n```\nplain") + ink.finish()
    assert "\x1b[1m# Sum\x1b[0m\n" in shown
    assert "\x1b[36m`a`\x1b[0m" in shown
    assert shown.endswith("```\x1b[0m\nplain")


# The command itself: piped, and on a terminal of its own.


def test_what_is_piped_out_is_what_the_model_said_to_the_letter(server, capsys, monkeypatch):
    server.script = [scripted.words(HOSTILE)]
    monkeypatch.setattr(sys, "stdin", io.StringIO("to be\n\n/set temperature 0.25\nor not\n"))
    assert cli.main(["chat", server.address]) == 0
    assert capsys.readouterr().out == f"{HOSTILE}\ntemperature = 0.25\n{HOSTILE}\n"
    assert [body["temperature"] for body in server.asked] == [0.7, 0.25]


def test_a_refused_question_does_not_end_the_chat(server, capsys, monkeypatch):
    server.refusal = (400, {"error": {"message": "too long"}})
    monkeypatch.setattr(sys, "stdin", io.StringIO("to be\n/tokens\n/what\n"))
    assert cli.main(["chat", server.address]) == 0
    told = capsys.readouterr()
    assert told.out == "0 of 1,000 tokens\n"
    assert "too long" in told.err and "there is no /what" in told.err


class Terminal:
    """A process on a terminal of its own, as a person has it."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, b"\x28\x00\x78\x00" + bytes(4))
        code = (
            "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
            "from baiwen.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={**os.environ, "XDG_STATE_HOME": str(home), **PLAIN},
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, text: str, seconds: float = 60.0) -> str:
        """Read until `text` comes, and return all that came before it since the last time."""
        due = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self._master], [], [], max(0, due - time.monotonic()))
            assert ready, f"{text!r} did not come: {self.seen!r}"
            self.seen += os.read(self._master, 65536).decode(errors="replace")
        before, _, self.seen = self.seen.partition(text)
        return before

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(server, tmp_path) -> Iterator[Terminal]:
    made = Terminal(tmp_path, "chat", server.address)
    made.expect("/help lists the commands")
    made.expect(READY)
    yield made
    made.close()


def test_on_a_terminal_lines_are_edited_and_kept_and_answers_are_harmless(
    terminal, server, tmp_path
):
    server.script = [scripted.words("**so** \x1b]0;owned\x07 it is")]
    terminal.type("to bX\x7fe\x1b\ror not\r")
    terminal.expect("\x1b[1m**so**\x1b[0m ]0;owned it is")
    assert server.asked[0]["messages"][0]["content"] == "to be\nor not"
    terminal.type("/edit\r")
    terminal.expect("or not")
    terminal.type("?\r")
    terminal.expect("it is")
    assert server.asked[1]["messages"] == [{"role": "user", "content": "to be\nor not?"}]
    terminal.expect(READY)
    terminal.type("\x04")
    assert terminal.process.wait(10) == 0
    history = tmp_path / "baiwen" / "chat"
    assert "+or not?" in history.read_text()
    assert history.stat().st_mode & 0o77 == 0


def test_ctrl_c_ends_an_answer_and_a_second_one_the_chat(terminal, server):
    server.script = [scripted.words("begun"), None, scripted.words(" never")]
    terminal.type("to be\r")
    terminal.expect("begun")
    terminal.type("\x03")
    terminal.expect(READY)
    server.script = [scripted.words("second")]
    terminal.type("or not\r")
    terminal.expect("second")
    assert server.asked[1]["messages"][1] == {"role": "assistant", "content": "begun"}
    terminal.expect(READY)
    terminal.type("half a line\x03\x03")
    assert terminal.process.wait(10) == 130
