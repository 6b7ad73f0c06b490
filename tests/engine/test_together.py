"""All of it at once: whatever shares the engine, every answer is the one it would be alone."""

import random

import pytest

from baiwen.engine.grammar import Grammar
from baiwen.engine.request import completions
from baiwen.engine.sampler import Sampling

WAYS = ["plain", "lookup", "draft", "no prefix cache"]


def drawn(rng: random.Random, grammar: Grammar) -> Sampling:
    """A sampling of any kind, with a seed."""
    most = rng.randint(0, 30)
    return Sampling(
        max_tokens=most,
        min_tokens=min(most, rng.choice([0, 0, 5])),
        temperature=rng.choice([0, 0.7, 1.0]),
        top_k=rng.choice([0, 5]),
        top_p=rng.choice([1, 0.9]),
        repetition_penalty=rng.choice([1, 1.2]),
        frequency_penalty=rng.choice([0, 0.3]),
        stop=rng.choice([(), ("a", "1 ")]),
        seed=rng.randint(0, 5),
        n=rng.choice([1, 1, 2, 5]),
        logprobs=rng.choice([0, 2]),
        prompt_logprobs=rng.choice([None, None, 1]),
        grammar=rng.choice([None, None, grammar]),
        logit_bias=rng.choice([{}, {7: 3.0}]),
    )


def knobs(way, model):
    return {
        "plain": {},
        "lookup": {"lookup": 3},
        "draft": {"draft": model, "lookup": 2},
        "no prefix cache": {"prefix_cache": False},
    }[way]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("way", WAYS)
def test_every_answer_is_the_one_it_would_be_alone(build, model, tokenizer, way, seed):
    rng = random.Random(f"{way} {seed}")
    grammar = Grammar.regex(tokenizer, "[a-z]{3,9} [0-9]{2,5}")
    engine = build(cache_tokens=256, step_tokens=24, sequences=5, **knobs(way, model))
    begin = [rng.randrange(260) for _ in range(90)]
    deltas, cancelled = {}, set()

    def step():
        for request, found in engine.step():
            deltas[request] += found

    for _ in range(14):
        prompt = begin[: rng.randint(1, 90)] + [
            rng.randrange(260) for _ in range(rng.randint(0, 9))
        ]
        deltas[engine.add(prompt, drawn(rng, grammar))] = []
        if rng.random() < 0.15:
            leaving = rng.choice(list(deltas))
            engine.cancel(leaving)
            cancelled.add(leaving)
        for _ in range(rng.randint(0, 3)):
            step()
    while engine.unfinished:
        step()
    assert engine.pool.available == engine.pool.total
    alone = build()
    for request, found in deltas.items():
        if request not in cancelled:
            expected = alone.generate([request.prompt], request.sampling)
            for one, other in zip(completions(request, found), expected, strict=True):
                assert (one.ids, one.text) == (other.ids, other.text)
                assert one.finish_reason == other.finish_reason
                assert one.stopped_by == other.stopped_by
                assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)
                scores = [[token.logprob for token in done.prompt[1:]] for done in (one, other)]
                assert scores[0] == pytest.approx(scores[1], abs=1e-3)
