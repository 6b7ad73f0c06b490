"""`baiwen chat URL` against the real server: the same answers as from the folder."""

import io
import sys

import pytest

from baiwen import cli
from baiwen.commands.conversation import Conversation, obey
from baiwen.commands.remote import Remote
from baiwen.engine.engine import Engine
from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError

GREEDY = {"temperature": 0.0, "max_tokens": 12, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}


def test_a_server_answers_as_the_engine_behind_it(served, model, tokenizer):
    talk = Conversation(Remote(served.url), GREEDY, system="Be short.")
    first = "".join(talk.ask("Who are you?"))
    second = "".join(talk.ask("And now?"))
    engine = Engine(model, tokenizer, cache_tokens=4096)
    asked = [talk.messages[:2], talk.messages[:4]]
    assert [done.text for done in engine.generate(asked, Sampling(**GREEDY))] == [first, second]
    tokens = len(tokenizer.render(talk.messages, generate=True).ids)
    assert obey(talk, "/tokens").told == f"{tokens:,} of {served.engine.context:,} tokens"


def test_an_answer_that_is_left_frees_the_servers_blocks(served, settled):
    talk = Conversation(Remote(served.url), {"temperature": 1.0, "max_tokens": 400})
    pieces = talk.ask("Go on")
    next(pieces)
    pieces.close()
    assert settled(5) == 0


def test_a_prompt_that_is_too_long_is_told_in_the_servers_words(served):
    talk = Conversation(Remote(served.url), GREEDY)
    with pytest.raises(UserError, match=r"HTTP 400\): .*too many"):
        "".join(talk.ask("x y " * served.engine.context))
    assert talk.messages == []


def test_the_key_comes_from_the_option_or_the_environment(start, capsys, monkeypatch):
    with start(api_key="a-good-key") as guarded:
        chat = ["chat", guarded.url, "--temperature", "0", "--max-tokens", "3"]
        for more, set_to, code in [
            ([], None, 2),
            (["--api-key", "a-good-key"], None, 0),
            ([], "a-good-key", 0),
        ]:
            monkeypatch.setattr(sys, "stdin", io.StringIO("Hi\n"))
            monkeypatch.setenv("BAIWEN_API_KEY", set_to or "")
            assert cli.main([*chat, *more]) == code
        assert "--api-key" in capsys.readouterr().err
