"""`baiwen serve`, in a thread, with a random model."""

import threading

import pytest

from baiwen.engine.engine import Engine
from baiwen.engine.front import Front
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.serve import app, server
from baiwen.tokenizer import bpe, template

CONTEXT = 1024


@pytest.fixture(scope="session")
def served():
    """The URL of the server, and its tokenizer."""
    tokenizer = bpe.train([template.DEFAULT_SYSTEM * 3], vocab_size=270)
    model = Transformer(
        ModelConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=CONTEXT,
            tie_word_embeddings=True, eos_token_id=tokenizer.end_of_turn,
        )
    )  # fmt: skip
    model.init_weights(0)
    front = Front(Engine(model, tokenizer, context=CONTEXT, cache_tokens=8192))
    made = app.build(front, tokenizer, "ours", CONTEXT)
    listener, ready, running = server.bind("127.0.0.1", 0, None), threading.Event(), {}

    def run():
        running["server"] = server.made(made, listener, 5, ready.set)
        running["server"].run([listener])

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(20)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", tokenizer
    running["server"].should_exit = True
    thread.join(20)
    listener.close()
