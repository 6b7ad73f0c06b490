"""An engine that is asked from many threads says what it says alone."""

from concurrent.futures import ThreadPoolExecutor

import pytest

import baiwen
from baiwen.endpoint import Refused, Stopped, answers
from baiwen.engine.asked import Asked, Local, opened
from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError
from baiwen.model.transformer import Transformer


def asked(number):
    return [{"role": "user", "content": f"{number} + 1 ="}]


def test_many_threads_get_what_the_engine_gives_alone_decoded_together(build):
    given = {"temperature": 1.0, "max_tokens": 6, "seed": 3}
    prompts = [asked(number) for number in range(12)]
    alone = build(cache_tokens=4096).generate(prompts, Sampling(**given))
    engine = build(cache_tokens=4096)
    steps, step = [], engine.step
    engine.step = lambda: steps.append(engine.unfinished) or step()
    with Asked(engine, "tiny") as ask:
        found = list(answers(ask, [(prompt, given) for prompt in prompts], concurrency=8))
    assert [answer.value for answer in found] == [done.text for done in alone]
    assert max(steps) >= 4  # under way in one step
    reply = found[0].replies[0]
    assert reply.prompt_tokens == len(engine.ids(prompts[0]))
    assert reply.completion_tokens == len(alone[0].tokens)
    assert reply.cut == (alone[0].finish_reason == "length")


def test_a_prompt_that_is_too_long_is_refused_and_others_are_not(engine):
    with Asked(engine, "tiny") as ask:
        with pytest.raises(Refused, match="too many"):
            ask([{"role": "user", "content": "hello " * 2000}], {})
        assert ask(asked(1), {"max_tokens": 2}).completion_tokens <= 2


def test_a_word_that_the_engine_does_not_know_is_named(engine):
    with Asked(engine, "tiny") as ask, pytest.raises(UserError, match="knows no best_of"):
        ask(asked(1), {"best_of": 2})


def test_who_waits_when_it_stops_is_told_and_so_is_who_asks_later(engine):
    with Asked(engine, "tiny") as ask, ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(ask, asked(n), {"max_tokens": 200}) for n in range(4)]
        ask.stop()
        assert all(isinstance(one.exception(20), Stopped) for one in waiting)
        with pytest.raises(Stopped):
            ask(asked(1), {})
    assert engine.unfinished == 0


@pytest.mark.parametrize("method", ["step", "add"])
def test_an_engine_that_fails_tells_everyone(engine, method):
    def fails(*_):
        raise RuntimeError("out of memory")

    setattr(engine, method, fails)
    with Asked(engine, "tiny") as ask:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="out of memory"):
                ask(asked(1), {})


def test_a_folder_is_opened_under_a_name_that_its_content_makes(config, tokenizer, tmp_path):
    names = []
    for seed in (0, 1):
        model = Transformer(config)
        model.init_weights(seed)
        folder = tmp_path / str(seed) / "tiny"
        baiwen.save(model, tokenizer, folder)
        with opened(Local(model=folder, device="cpu", dtype="float32", concurrency=2)) as ask:
            assert isinstance(ask(asked(1), {"max_tokens": 4}).text, str)
            names.append(ask.name)
    assert names[0] != names[1]
    assert all(name.startswith("tiny ") and name.endswith(" float32") for name in names)
