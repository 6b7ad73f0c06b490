"""`baiwen serve`, in a thread, with a random model."""

import pytest

from baiwen.engine.engine import Engine
from baiwen.engine.front import Front
from baiwen.serve import app

CONTEXT = 1024


@pytest.fixture(scope="session")
def served(speechless, running):
    """The URL of the server, and its tokenizer."""
    model, tokenizer = speechless
    front = Front(Engine(model, tokenizer, context=CONTEXT, cache_tokens=8192))
    made = app.build(front, tokenizer, "ours", CONTEXT)
    with running(made) as url:
        yield url, tokenizer
