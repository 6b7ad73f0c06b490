"""Beyond the trained length: the engine against full forwards, against itself and transformers."""

import random
from dataclasses import replace

import pytest
import torch

from baiwen.engine.engine import Engine
from baiwen.engine.reach import Extend
from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError
from baiwen.model import weights
from baiwen.model.config import DualChunk, Yarn
from baiwen.model.patterns import Head, Patterns
from baiwen.model.rope import temperature
from baiwen.model.sparse import Sparse
from baiwen.model.transformer import Transformer

TRAINED = 64
NEVER = Sampling(max_tokens=8, stop_ids=())
YARN, DCA = Extend(dca=False), Extend(local=8)
SPARSE = Sparse(threshold=200, chunk=128, mass=0.8, floor=0.0, sink=16, local=16)


def prompt(length: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(5, 250), k=length)


@pytest.fixture(scope="module")
def trained(config):
    return replace(config, max_position_embeddings=TRAINED)


@pytest.fixture(scope="module")
def model(trained):
    model = Transformer(trained)
    model.init_weights(0)
    return model


@pytest.fixture
def long(model, tokenizer):
    """An engine that reads 16 times the trained length."""

    def built(**knobs) -> Engine:
        room = {"context": 16 * TRAINED, "cache_tokens": 4096, "sequences": 8}
        return Engine(model, tokenizer, **room | knobs)

    return built


def assert_alike(found, expected):
    assert [done.ids for done in found] == [done.ids for done in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def greedy(model, config, ids, known):
    """The likeliest ids by full forwards of the same weights under another configuration."""
    other = Transformer(config)
    other.load_state_dict(model.state_dict())
    ids = list(ids)
    for _ in range(NEVER.max_tokens):
        with torch.no_grad():
            ids.append(int(other.logits(torch.tensor([ids]))[0, -1, :known].argmax()))
    return ids[-NEVER.max_tokens :]


@pytest.mark.parametrize("length", [40, 61, 100, 150])
def test_under_dual_chunk_attention_it_answers_as_the_full_forward(long, model, trained, length):
    ids = prompt(length)
    for rope in ("none", "temperature"):
        engine = long(extend=replace(DCA, rope=rope))
        total = engine.reader.reaches[0].length(length + NEVER.max_tokens) / TRAINED
        fixed = temperature(total) if rope == "temperature" else 1.0  # of the whole request
        told = replace(
            trained,
            rope_scaling=Yarn(1.0, TRAINED, attention_factor=fixed),
            dual_chunk_attention_config=DualChunk(TRAINED, 8, 10**6),
        )
        expected = greedy(model, told, ids, len(engine.tokenizer))
        assert engine.generate([ids], NEVER)[0].ids == expected


@pytest.mark.parametrize("length", [40, 100, 150])
def test_a_request_has_the_smallest_yarn_that_holds_it(long, model, trained, length):
    engine, ids = long(extend=YARN), prompt(length)
    factor = -(-(length + NEVER.max_tokens) // TRAINED)
    told = replace(trained, rope_scaling=Yarn(float(factor), TRAINED) if factor > 1 else None)
    expected = greedy(model, told, ids, len(engine.tokenizer))
    assert engine.generate([ids], NEVER)[0].ids == expected


@pytest.mark.parametrize("extend", [YARN, DCA])
def test_requests_of_different_factors_share_steps_and_change_nothing(long, extend):
    prompts = [prompt(length, length) for length in (30, 90, 200, 55, 700)]
    together = long(extend=extend).generate(prompts, NEVER)
    alone = [long(extend=extend).generate([ids], NEVER)[0] for ids in prompts]
    assert_alike(together, alone)


@pytest.mark.parametrize("extend", [YARN, DCA])
def test_the_size_of_chunks_changes_nothing_beyond_the_trained_length(long, extend):
    prompts = [prompt(length, length) for length in (90, 300)]
    whole = long(extend=extend).generate(prompts, NEVER)
    for step_tokens in (13, 64):
        engine = long(extend=extend, step_tokens=step_tokens, sequences=2)
        assert_alike(engine.generate(prompts, NEVER), whole)


@pytest.mark.parametrize("extend", [YARN, DCA])
def test_short_prompts_are_untouched_to_the_bit(long, model, tokenizer, extend):
    prompts = [prompt(length) for length in (10, 25, 48)]
    plain = Engine(model, tokenizer, cache_tokens=4096, sequences=8).generate(prompts, NEVER)
    found = long(extend=extend).generate(prompts, NEVER)
    assert [(one.ids, one.logprobs) for one in found] == [(one.ids, one.logprobs) for one in plain]


@pytest.mark.parametrize("extend", [YARN, DCA])
def test_blocks_are_shared_by_what_is_read_alike_and_by_nothing_else(long, extend):
    engine, begin = long(extend=extend), prompt(48)
    short, longer = NEVER, replace(NEVER, max_tokens=60)
    engine.generate([begin], short)
    assert engine.stats()["cached_tokens"] == 0
    asked = engine.add(begin, longer)  # which needs a factor of 2
    while engine.unfinished:
        engine.step()
    assert asked.cached_tokens == 0
    grown = [*begin, *prompt(30, 1)]
    again = engine.add(grown, longer)  # 3 times the length
    beside = engine.add(grown, replace(NEVER, max_tokens=30))  # 2 times
    while engine.unfinished:
        engine.step()
    assert again.cached_tokens == 0 and beside.cached_tokens == 48
    bare = long(extend=extend, prefix_cache=False)
    said = beside.samples[0].ids[len(grown) :]
    assert bare.generate([grown], replace(NEVER, max_tokens=30))[0].ids == said


def test_what_the_memory_holds_does_not_change_how_a_request_is_read(long):
    ids, room = prompt(150), {"context": None, "extend": YARN}
    small, large = (long(cache_tokens=tokens, **room) for tokens in (192, 4096))
    assert (small.context, large.context) == (192, 256)
    assert small.reader.of(150, 180).ropes == large.reader.of(150, 180).ropes
    assert_alike(small.generate([ids], NEVER), large.generate([ids], NEVER))


def test_a_draft_reads_beyond_its_own_trained_length(long, model, trained):
    shorter = Transformer(replace(trained, max_position_embeddings=TRAINED // 2))
    shorter.load_state_dict(model.state_dict())
    prompts = [prompt(length, length) for length in (20, 150)]
    engine = long(draft=shorter, extend=YARN)
    assert_alike(engine.generate(prompts, NEVER), long(extend=YARN).generate(prompts, NEVER))
    assert engine.reader.reaches[0].trained == 2 * engine.reader.reaches[1].trained


@pytest.mark.slow  # transformers takes its time to be imported
def test_a_static_yarn_answers_as_transformers(model, trained, tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    static = replace(trained, rope_scaling=Yarn(4.0, TRAINED), max_position_embeddings=256)
    weights.save(model.state_dict(), static, tmp_path)
    known = Transformer(static)
    known.load_state_dict(model.state_dict())
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    for length in (30, 200):
        ids = prompt(length)
        said = theirs.generate(
            torch.tensor([ids]),
            max_new_tokens=8,
            do_sample=False,
            eos_token_id=-1,
            suppress_tokens=list(range(len(tokenizer), static.vocab_size)),
        )
        engine = Engine(known, tokenizer, cache_tokens=512, sequences=2)
        assert engine.generate([ids], NEVER)[0].ids == said[0, length:].tolist()


def test_sparse_prompts_answer_alike_whatever_else_is_asked(long):
    prompts = [prompt(length, length) for length in (350, 60, 201, 450, 256)]
    alone = [long(sparse=SPARSE).generate([ids], NEVER)[0] for ids in prompts]
    engine = long(sparse=SPARSE, step_tokens=64)
    for _ in range(2):  # the second time what can be shared is in the cache
        assert_alike(engine.generate(prompts, NEVER), alone)
    assert engine.stats()["cached_tokens"] == 256 + 48 + 128 + 384 + 128
    bare = long(sparse=SPARSE, prefix_cache=False, cache_tokens=1024, step_tokens=150)
    assert_alike(bare.generate(prompts, NEVER), alone)


def test_a_sparse_prompt_that_sees_everything_answers_as_a_dense_one(long):
    prompts = [prompt(length, length) for length in (350, 60)]
    dense = long().generate(prompts, NEVER)
    whole = long(sparse=replace(SPARSE, mass=1.0, floor=1.0)).generate(prompts, NEVER)
    assert_alike(whole, dense)
    assert whole[1].sparsity is None


@pytest.mark.parametrize("more", [1, 2, 8, 9])
def test_the_last_few_tokens_of_a_sparse_prompt_are_read_as_an_answer_is(long, more):
    ids = prompt(256 + more)
    dense = long().generate([ids], NEVER)
    seen = long(sparse=replace(SPARSE, mass=1.0, floor=1.0)).generate([ids], NEVER)
    assert_alike(seen, dense)
    assert seen[0].sparsity.tokens == (256 if more <= 8 else 265)


def test_what_was_seen_of_a_sparse_prompt_is_told(long):
    engine = long(sparse=SPARSE)
    assert engine.stats()["sparse_tokens"] == 0 and engine.stats()["sparse_recall"] == 1
    done, short = engine.generate([prompt(350), prompt(60)], replace(NEVER, n=2))[::2]
    assert short.sparsity is None and done.sparsity.tokens == 350
    assert 0 < done.sparsity.density < 1
    assert 0 < done.sparsity.lowest_recall <= done.sparsity.recall < 1
    stats = engine.stats()
    assert stats["sparse_tokens"] == 350 and stats["sparse_recall"] == done.sparsity.recall
    assert "prompts from 200 on sparsely, by vote" in engine.told


def test_a_sparse_prompt_is_read_in_whole_chunks_beside_the_others(long):
    engine = long(sparse=SPARSE, step_tokens=16)
    engine.add(prompt(60), NEVER)
    engine.add(prompt(300), NEVER)
    engine.add(prompt(250, 1), NEVER)
    steps = []
    for _ in range(5):
        steps.append(
            [(chunk.sample.request.number, chunk.count) for chunk in engine.scheduler.step()]
        )
        engine.step()
    assert [dict(step).get(1) for step in steps] == [128, 128, 44, 1, 1]
    assert [dict(step).get(0) for step in steps] == [16, 16, 16, 12, 1]
    assert [dict(step).get(2) for step in steps] == [None, None, None, 128, 122]


def test_a_preempted_sparse_prompt_answers_as_before(long):
    prompts = [prompt(300, 1), prompt(250, 2)]
    sampling = replace(NEVER, max_tokens=40)
    expected = long(sparse=SPARSE).generate(prompts, sampling)
    tight = long(sparse=SPARSE, context=512, cache_tokens=608, prefix_cache=False)
    found = tight.generate(prompts, sampling)
    assert_alike(found, expected)
    assert tight.stats()["preemptions"] > 0
    assert [done.sparsity.tokens for done in found] == [300, 250]  # be it read again
    assert tight.stats()["sparse_tokens"] > 550


def test_patterns_of_another_model_and_odd_chunks_are_refused(long):
    with pytest.raises(UserError, match="chunk = 100 must be a multiple of 16"):
        long(sparse=Sparse(chunk=100))
    other = Patterns(((Head(10, 10),) * 4,) * 3)
    with pytest.raises(UserError, match="3 layers with 4 heads; this one has 2 with 4"):
        long(sparse=Sparse(patterns=other))


def test_a_cache_may_have_a_dtype_of_its_own(long):
    prompts = [prompt(30), prompt(200)]
    exact, halved = long(kv="fp32"), long(kv="bf16")
    assert halved.runner.caches[0].slabs.dtype == torch.bfloat16
    assert exact.runner.caches[0].slabs.dtype == torch.float32
    one, other = (engine.generate(prompts, NEVER) for engine in (exact, halved))
    assert one[0].logprobs != other[0].logprobs
    assert other[0].logprobs[0] == pytest.approx(one[0].logprobs[0], abs=0.05)
    with pytest.raises(UserError, match="kv = 'int3' is none of fp32, bf16, int8"):
        long(kv="int3")


def test_shared_blocks_of_codes_say_the_same_again(long):
    engine, text = long(kv="int8"), prompt(300)
    assert engine.runner.caches[0].slabs.dtype == torch.int8
    samples = replace(NEVER, n=2)  # whose blocks part in the middle, which copies one
    first = engine.generate([text], samples)
    again = engine.generate([text], samples)
    assert engine.stats()["cached_tokens"] == 300 // 16 * 16
    alone = long(kv="int8", prefix_cache=False).generate([text], NEVER)
    assert_alike([*first, *again], alone * 4)


def test_texts_beyond_what_is_embedded_are_refused(long):
    engine = long()
    assert engine.embed([prompt(64)]).shape == (1, 32)
    with pytest.raises(UserError, match="70 tokens, 6 more than the 64 that are embedded"):
        engine.embed([prompt(70)])


def test_a_context_that_memory_does_not_hold_is_told_with_its_size(model, tokenizer):
    with pytest.raises(UserError, match=r"a context of 100,000,000,000 tokens takes .* GiB"):
        Engine(model, tokenizer, context=10**11)
    with pytest.raises(UserError, match=r"a context of 100,000,000,000 tokens takes"):
        Engine(model, tokenizer, context=10**11, cache_tokens=10**12)
    with pytest.raises(UserError, match=r"cache_tokens = 512 has no room .* 1,000 tokens"):
        Engine(model, tokenizer, context=1000, cache_tokens=512)
