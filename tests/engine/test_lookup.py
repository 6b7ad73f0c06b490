"""Guesses change the number of steps and nothing else."""

import random
import re
from collections import Counter
from dataclasses import replace
from itertools import product

import pytest
import torch

from baiwen.engine.engine import Engine
from baiwen.engine.grammar import Grammar
from baiwen.engine.lookup import Lookup
from baiwen.engine.sampler import Sampling
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer

PROMPTS = ["hello world this is a text, hello world this is", "1 + 1 = 2, 1 + 1 =", "ab" * 20]
NEVER = Sampling(max_tokens=25, stop_ids=())
SAMPLINGS = [
    NEVER,
    replace(NEVER, temperature=0.6, seed=3, top_k=5),
    replace(NEVER, temperature=0.8, seed=3, n=3),
    replace(NEVER, temperature=0.7, seed=3, repetition_penalty=1.2, frequency_penalty=0.3),
    replace(NEVER, temperature=0.7, seed=3, presence_penalty=0.5, min_tokens=9, stop=("a", "1")),
]


def brute_force(ids, most):
    """What followed the latest earlier occurrence of the last 4, 3 or 2 ids, and so on again."""
    for length in (4, 3, 2):
        for end in range(len(ids) - 1, length - 1, -1):
            if len(ids) > length and ids[end - length : end] == ids[-length:]:
                return (ids[end:] * most)[:most]
    return []


def test_a_guess_is_what_followed_the_same_ids_the_last_time():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 3, (80,), generator=generator).tolist()
    lookup, hits = Lookup(), 0
    for end in range(1, len(ids) + 1):
        expected = brute_force(ids[:end], 3)
        assert lookup.guess(ids[:end], 3) == expected
        hits += bool(expected)
    assert hits > 40


@pytest.fixture(scope="module")
def draft(config):
    small = Transformer(replace(config, hidden_size=16, num_hidden_layers=1))
    small.init_weights(5)
    return small


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_text_with_guesses_is_the_text_without(build, model, draft, sampling):
    plain = [done.ids for done in build().generate(PROMPTS, sampling)]
    for knobs in ({"lookup": 3}, {"draft": draft}, {"draft": model, "lookup": 2}):
        engine = build(**knobs)
        assert [done.ids for done in engine.generate(PROMPTS, sampling)] == plain
        assert engine.stats()["proposed"] > 0 or "draft" not in knobs
        assert engine.pool.available == engine.pool.total


def test_guesses_survive_preemption(build, model):
    sampling = replace(NEVER, temperature=0.8, seed=3, n=2)
    plain = [done.ids for done in build().generate(PROMPTS, sampling)]
    for knobs in ({"lookup": 3}, {"draft": model}):
        tight = build(cache_tokens=208, **knobs)
        assert [done.ids for done in tight.generate(PROMPTS, sampling)] == plain
        assert tight.stats()["preemptions"] > 0


def test_samples_of_a_prompt_share_no_guess(build):
    """The prompt's last token is left to a step of its own, where it could be guessed after."""
    prompt = random.Random(0).choices([5, 6, 7, 8], k=31)
    few = dict.fromkeys([5, 6, 7, 8], 60.0)  # so that some guesses are right
    for seed in (1, 3):
        sampling = replace(NEVER, temperature=3.0, seed=seed, n=6, logit_bias=few)
        plain = [done.ids for done in build().generate([prompt], sampling)]
        engine = build(lookup=4, step_tokens=30)
        assert [done.ids for done in engine.generate([prompt], sampling)] == plain
        assert engine.stats()["accepted"] > 10


def test_a_draft_that_is_the_model_itself_is_always_right_and_saves_steps(build, model):
    engine = build(draft=model)
    steps = 0
    engine.add(PROMPTS[0], replace(NEVER, temperature=0.9, seed=1, max_tokens=40))
    while engine.unfinished:
        engine.step()
        steps += 1
    stats = engine.stats()
    assert stats["accepted"] == stats["proposed"] > 0
    assert steps == 1 + 8  # the prompt, then five tokens a step


def test_text_that_repeats_itself_takes_fewer_steps(build):
    engine = build(lookup=4)
    sampling = replace(NEVER, logit_bias={9: 50.0}, max_tokens=50)
    engine.add(PROMPTS[0], sampling)
    steps = 0
    while engine.unfinished:
        engine.step()
        steps += 1
    assert steps < 20


def test_a_grammar_bars_guesses_too(build, tokenizer, model):
    grammar = Grammar.regex(tokenizer, "(ab){2,30}[0-9]{3}")
    liked = dict.fromkeys(tokenizer.encode("abab"), 5.0)  # so that there is something to guess
    sampling = replace(
        NEVER, temperature=1.0, seed=2, grammar=grammar, n=4, logit_bias=liked, max_tokens=90
    )
    plain = build().generate(PROMPTS[2:], sampling)
    for knobs in ({"lookup": 4}, {"draft": model}):
        engine = build(**knobs)
        guessed = engine.generate(PROMPTS[2:], sampling)
        assert [done.text for done in guessed] == [done.text for done in plain]
        assert all(re.fullmatch("(ab){2,30}[0-9]{3}", done.text) for done in guessed)
        assert engine.stats()["accepted"] > 0


def test_pairs_of_tokens_have_the_models_distribution(tokenizer):
    """Chi-square over the first two tokens, of which the second may have been guessed."""
    config = ModelConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, initializer_range=0.5,
        tie_word_embeddings=True, eos_token_id=tokenizer.end_of_turn,
    )  # fmt: skip
    model = Transformer(config)
    model.init_weights(0)
    engine = Engine(model, tokenizer, cache_tokens=8192, sequences=128, lookup=2)
    few = [3, 4, 5]
    bias = dict.fromkeys(few, 100.0)  # three tokens in all
    sampling = Sampling(max_tokens=3, temperature=1.0, seed=0, stop_ids=(), n=3000, logit_bias=bias)
    prompt = [3, 4, 5, 3, 3, 4, 4, 5, 5, 3, 5, 4, 3, 4]
    found = Counter(tuple(done.ids[1:]) for done in engine.generate([prompt], sampling))
    truth = dict.fromkeys(product(few, few), 0.0)
    for first, second, third in product(few, few, few):
        with torch.no_grad():
            logits = model.logits(torch.tensor([[*prompt, first, second]]))[0, -3:]
        logprobs = logits[:, few].log_softmax(-1)
        path = zip(range(3), (first, second, third), strict=True)
        truth[second, third] += sum(logprobs[i, few.index(t)] for i, t in path).exp().item()
    assert sum(truth.values()) == pytest.approx(1)
    assert engine.stats()["accepted"] > 100
    statistic = sum((found[pair] - 3000 * p) ** 2 / (3000 * p) for pair, p in truth.items())
    assert statistic < 26.1  # 8 degrees of freedom, p = 0.001
