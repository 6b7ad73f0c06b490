"""The engine against the model's own full forward."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from baiwen.engine import pretrained
from baiwen.engine.engine import Engine, Prompt
from baiwen.engine.grammar import Grammar
from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError
from baiwen.model import weights
from baiwen.model.transformer import Transformer

NEVER = Sampling(max_tokens=12, stop_ids=())
LIVELY = replace(NEVER, temperature=1.0, top_p=0.95, seed=7)
PROMPTS = ["hello", "hello world, this is a much longer prompt than the others", "你好", "1 + 1 ="]


def by_full_forward(engine: Engine, prompt: Prompt, tokens: int) -> tuple[list[int], list[float]]:
    """Greedy ids and their log-probabilities, without a cache."""
    ids = engine.ids(prompt)
    found: list[int] = []
    logprobs: list[float] = []
    for _ in range(tokens):
        with torch.no_grad():
            logits = engine.model.logits(torch.tensor([ids + found]))[0, -1]
        found.append(int(logits[: len(engine.tokenizer)].argmax()))
        logprobs.append(logits.log_softmax(-1)[found[-1]].item())
    return found, logprobs


def ids_of(completions):
    return [done.ids for done in completions]


def finish(engine):
    """Step until nothing is under way; all deltas by request."""
    deltas = {}
    while engine.unfinished:
        for request, found in engine.step():
            deltas.setdefault(request, []).extend(found)
    return deltas


def assert_nothing_is_held(engine):
    assert engine.pool.holders == [0] * engine.pool.total
    assert engine.pool.available == engine.pool.total
    assert not engine.scheduler.running and not engine.scheduler.waiting


@pytest.mark.parametrize("knobs", [{}, {"sequences": 3}, {"prefix_cache": False}, {"lookup": 3}])
def test_greedy_is_the_argmax_of_the_full_forward(build, knobs):
    engine = build(**knobs)
    for prompt, done in zip(PROMPTS, engine.generate(PROMPTS, NEVER), strict=True):
        ids, logprobs = by_full_forward(engine, prompt, 12)
        assert done.ids == ids
        assert done.logprobs == pytest.approx(logprobs, abs=1e-4)
        assert done.text == engine.tokenizer.decode(ids)
        assert done.finish_reason == "length"


@pytest.mark.parametrize("sampling", [NEVER, LIVELY])
def test_the_size_of_chunks_changes_nothing(build, sampling):
    whole = build().generate(PROMPTS, sampling)
    for step_tokens in (1, 3, 17):
        engine = build(step_tokens=step_tokens, sequences=1)
        assert ids_of(engine.generate(PROMPTS, sampling)) == ids_of(whole)


def test_what_else_is_answered_changes_no_text(build):
    for sampling in (NEVER, LIVELY):
        together = build().generate(PROMPTS, sampling)
        alone = [build().generate([prompt], sampling)[0] for prompt in PROMPTS]
        assert ids_of(together) == ids_of(alone)
        assert [done.text for done in together] == [done.text for done in alone]


def test_the_prefix_cache_changes_no_answer_and_saves_the_prompt(build):
    prompts = [PROMPTS[1] * 3 + end for end in ("", " one", " two")]
    bare, engine = build(prefix_cache=False), build()
    for sampling in (NEVER, LIVELY):
        first = engine.generate(prompts, sampling)
        again = engine.generate(prompts, sampling)
        assert ids_of(bare.generate(prompts, sampling)) == ids_of(first) == ids_of(again)
        logprobs = [[one for done in all_of for one in done.logprobs] for all_of in (first, again)]
        assert logprobs[1] == pytest.approx(logprobs[0], abs=1e-4)
    assert bare.stats()["cached_tokens"] == 0
    shared = len(engine.tokenizer.encode(prompts[0])) // 16 * 16
    assert engine.stats()["cached_tokens"] >= 3 * 3 * shared
    assert engine.stats()["blocks_cached"] > 0


def test_prompts_that_come_together_share_what_they_begin_with(build):
    prompts = [[5] * 40 + [6 + number] * 9 for number in range(6)]
    engine = build(step_tokens=24)
    assert ids_of(engine.generate(prompts, NEVER)) == ids_of(
        build(prefix_cache=False).generate(prompts, NEVER)
    )
    assert engine.stats()["prompt_tokens"] == 49 + 5 * (49 - 32)
    assert not engine.scheduler._due


def test_a_conversation_reuses_what_was_said(build):
    engine = build()
    messages = [{"role": "user", "content": "hello world " * 5}]
    ids = engine.ids(messages)
    said = engine.generate([ids], NEVER)[0].ids
    request = engine.add([*ids, *said, 5, 6, 7], NEVER)
    finish(engine)
    assert request.cached_tokens == (len(ids) + len(said) - 1) // 16 * 16


def test_preemption_changes_no_answer(build):
    prompts = [prompt * 2 for prompt in PROMPTS]
    sampling = replace(LIVELY, max_tokens=60)
    tight = build(cache_tokens=160, prefix_cache=False)
    assert ids_of(tight.generate(prompts, sampling)) == ids_of(build().generate(prompts, sampling))
    assert tight.stats()["preemptions"] > 0
    assert_nothing_is_held(tight)


@pytest.mark.parametrize("prefix_cache", [True, False])
def test_samples_of_a_prompt_read_it_once(build, prefix_cache):
    engine = build(prefix_cache=prefix_cache)
    alone = [build().generate(PROMPTS[1:2], replace(LIVELY, n=8))]
    done = engine.generate(PROMPTS[1:2], replace(LIVELY, n=8))
    assert ids_of(done) == ids_of(alone[0])
    assert engine.stats()["prompt_tokens"] == len(engine.tokenizer.encode(PROMPTS[1]))
    assert engine.stats()["generated_tokens"] == 8 * 12
    assert_nothing_is_held(engine)


def test_samples_beyond_the_seats_come_later_and_are_the_same(build):
    sampling = replace(LIVELY, n=8)
    wide, narrow = build(), build(sequences=3)
    assert ids_of(narrow.generate(PROMPTS[:2], sampling)) == ids_of(
        wide.generate(PROMPTS[:2], sampling)
    )
    assert_nothing_is_held(narrow)


def test_n_answers_differ_and_lie_beside_each_other(engine):
    done = engine.generate(PROMPTS[:2], replace(LIVELY, n=3))
    assert len(done) == 6
    assert len({tuple(answer.ids) for answer in done[:3]}) == 3
    first = engine.generate(PROMPTS[:1], replace(LIVELY, n=3))
    assert ids_of(first) == ids_of(done[:3])


@pytest.mark.parametrize("seed", [7, None])
def test_a_prompt_that_is_asked_again_is_answered_anew(engine, seed):
    sampling = replace(LIVELY, seed=seed)
    again = ids_of(engine.generate([PROMPTS[0]] * 3, sampling))
    assert len(set(map(tuple, again))) == 3
    if seed is not None:
        assert again == ids_of(engine.generate(PROMPTS[:1], replace(sampling, n=3)))


def test_another_seed_is_another_text(engine):
    assert ids_of(engine.generate(PROMPTS, LIVELY)) != ids_of(
        engine.generate(PROMPTS, replace(LIVELY, seed=8))
    )


def test_cancelling_frees_at_once_and_leaves_the_others_alone(build):
    engine = build(step_tokens=16)
    long = engine.add(PROMPTS[1] * 4, replace(LIVELY, n=3))
    other = engine.add(PROMPTS[0], NEVER)
    waiting = engine.add(PROMPTS[1] * 4, NEVER)
    for _ in range(3):
        engine.step()
    engine.cancel(long)
    engine.cancel(waiting)
    engine.cancel(waiting)
    held = {block for sample in other.samples for block in sample.table}
    assert {block for block, count in enumerate(engine.pool.holders) if count} == held
    assert engine.unfinished == 1
    deltas = finish(engine)
    assert [token.id for delta in deltas[other] for token in delta.tokens][-3:] == (
        by_full_forward(engine, PROMPTS[0], 12)[0][-3:]
    )
    assert_nothing_is_held(engine)


def test_changed_weights_are_used_once_the_cache_is_reset(config, tokenizer):
    model = Transformer(config)
    model.init_weights(1)
    engine = Engine(model, tokenizer, cache_tokens=512, sequences=4)
    prompt = PROMPTS[1]
    before = engine.generate([prompt], NEVER)[0].ids
    running = engine.add(prompt, NEVER)
    for _ in range(4):
        engine.step()
    model.init_weights(2)
    engine.reset_cache()
    after = engine.generate([prompt], NEVER)[0].ids
    assert after == by_full_forward(engine, prompt, 12)[0] != before
    kept = engine.ids(prompt) + before[:4]  # the answer under way goes on from what it had said
    assert running.samples[0].ids[: len(kept)] == kept
    assert running.samples[0].ids[len(kept) :] == by_full_forward(engine, kept, 8)[0]
    assert_nothing_is_held(engine)


def test_answers_stop_at_their_own_end_while_others_go_on(engine):
    plain = engine.generate(PROMPTS, NEVER)
    end = plain[0].ids[4]
    stopped = engine.generate(PROMPTS, replace(NEVER, stop_ids=(end,)))
    for before, after in zip(plain, stopped, strict=True):
        if end in before.ids:
            cut = before.ids.index(end)
            assert after.ids == before.ids[: cut + 1]
            assert after.text == engine.tokenizer.decode(before.ids[:cut])
            assert (after.finish_reason, after.stopped_by) == ("stop", end)
        else:
            assert (after.ids, after.text) == (before.ids, before.text)
    assert any(end not in before.ids for before in plain)


def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(engine):
    plain = engine.generate(PROMPTS[:1], NEVER)[0]
    stop = plain.text[5:8]
    done = engine.generate(PROMPTS[:1], replace(NEVER, stop=("never seen", stop)))[0]
    assert done.text == plain.text[: plain.text.index(stop)]
    assert (done.finish_reason, done.stopped_by) == ("stop", stop)


def test_before_min_tokens_nothing_ends_an_answer(engine):
    plain = engine.generate(PROMPTS[:1], NEVER)[0]
    sampling = replace(NEVER, stop_ids=(plain.ids[2],), stop=(plain.text[1:3],), min_tokens=6)
    done = engine.generate(PROMPTS[:1], sampling)[0]
    assert len(done.ids) >= 6
    assert plain.ids[2] not in done.ids[:6]


@pytest.mark.parametrize("stop", [(), ("xyz", "a")])
def test_a_stream_is_the_text_in_pieces(engine, stop):
    sampling = replace(LIVELY, stop=stop, max_tokens=30)
    pieces = list(engine.stream(PROMPTS[0], sampling))
    assert "".join(pieces) == engine.generate(PROMPTS[:1], sampling)[0].text
    assert all(pieces)


def test_a_stream_that_is_left_holds_nothing(engine):
    stream = engine.stream(PROMPTS[1], replace(NEVER, max_tokens=100))
    next(stream)
    stream.close()
    assert engine.unfinished == 0
    assert_nothing_is_held(engine)


def test_ids_that_only_pad_the_embedding_are_never_chosen(engine):
    rows, known = engine.model.config.vocab_size, len(engine.tokenizer)
    assert known < rows
    hot = replace(LIVELY, temperature=50.0, top_p=1.0, max_tokens=60, n=4)
    ids = {token for done in engine.generate(PROMPTS, hot) for token in done.ids}
    assert max(ids) < known and len(ids) > known / 2


def test_a_prompt_of_ids_that_only_pad_the_embedding_is_answered(build):
    sampling = replace(LIVELY, repetition_penalty=1.5, presence_penalty=1.0)
    prompts = [[5, 319, 310, 7], [5, 6, 7, 8]]
    together = build().generate(prompts, sampling)
    assert ids_of(together) == [build().generate([ids], sampling)[0].ids for ids in prompts]


@pytest.mark.parametrize("lookup", [0, 4])
def test_a_strong_repetition_penalty_repeats_nothing(build, lookup):
    engine = build(lookup=lookup)
    prompt = engine.tokenizer.encode(PROMPTS[0])
    for temperature in (0.0, 1.0):
        sampling = replace(LIVELY, temperature=temperature, repetition_penalty=1e9)
        for done in engine.generate([PROMPTS[0], PROMPTS[3]], sampling)[:1]:
            assert len(set(done.ids)) == len(done.ids)
            assert not set(done.ids) & set(prompt)


def test_a_bias_bars_and_forces(engine):
    first = engine.generate(PROMPTS[:1], NEVER)[0].ids[0]
    barred = engine.generate(PROMPTS[:1], replace(NEVER, logit_bias={first: -1000.0}))[0]
    assert first not in barred.ids
    forced = engine.generate(PROMPTS[:1], replace(NEVER, logit_bias={9: 1000.0}))[0]
    assert forced.ids == [9] * 12


def test_log_probabilities_are_the_models_own_whatever_the_sampling(engine):
    sampling = replace(
        LIVELY, temperature=0.5, presence_penalty=1.0, logit_bias={4: 3.0}, logprobs=5
    )
    done = engine.generate(PROMPTS[1:2], sampling)[0]
    prompt = engine.tokenizer.encode(PROMPTS[1])
    with torch.no_grad():
        logits = engine.model.logits(torch.tensor([prompt + done.ids]))[0, len(prompt) - 1 : -1]
    truth = logits.log_softmax(-1)
    best = truth[:, : len(engine.tokenizer)].topk(5)  # padding is in the sum, not in the list
    for place, token in enumerate(done.tokens):
        assert token.logprob == pytest.approx(truth[place, token.id].item(), abs=1e-4)
        assert [one for one, _ in token.top] == best.indices[place].tolist()
        found = [logprob for _, logprob in token.top]
        assert found == pytest.approx(best.values[place].tolist(), abs=1e-4)


@pytest.mark.parametrize("step_tokens", [2048, 8])
def test_a_prompt_is_scored_as_by_the_full_forward(build, step_tokens):
    engine = build(step_tokens=step_tokens)
    ids = engine.tokenizer.encode(PROMPTS[1])
    with torch.no_grad():
        truth = engine.model.logits(torch.tensor([ids]))[0].log_softmax(-1)
    sampling = Sampling(max_tokens=0, prompt_logprobs=2, n=1)
    for _ in range(2):  # the second time its blocks are in the cache
        done = engine.generate([ids], sampling)[0]
        assert (done.text, done.ids, done.finish_reason) == ("", [], "length")
        assert [token.id for token in done.prompt] == ids
        assert math.isnan(done.prompt[0].logprob) and done.prompt[0].top == ()
        for place, token in enumerate(done.prompt[1:]):
            assert token.logprob == pytest.approx(truth[place, token.id].item(), abs=1e-4)
            best = truth[place, : len(engine.tokenizer)].topk(2).indices.tolist()
            assert [one for one, _ in token.top] == best


def test_a_grammar_holds_beside_free_answers(build, tokenizer):
    grammar = Grammar.regex(tokenizer, "(hello|world)( [0-9]{2}){3}")
    free, bound = replace(LIVELY, max_tokens=40), replace(LIVELY, grammar=grammar, max_tokens=40)
    for lookup in (0, 4):
        engine = build(lookup=lookup)
        one, other = engine.add(PROMPTS[0], free), engine.add(PROMPTS[0], replace(bound, n=3))
        deltas = finish(engine)
        texts = ["".join(d.text for d in deltas[other] if d.sample == i) for i in range(3)]
        for text in texts:
            assert text.split()[0] in ("hello", "world") and len(text) == 14
        assert [d.finish_reason for d in deltas[other] if d.finish_reason] == ["stop"] * 3
        assert build().generate([PROMPTS[0]], free)[0].ids == one.samples[0].ids[-40:]


@pytest.mark.parametrize("way", ["check", "push"])
def test_a_grammar_that_fails_ends_its_own_request_alone(build, monkeypatch, tokenizer, way):
    engine = build()
    grammar = Grammar.regex(tokenizer, "[a-z ]{500}")
    bound = engine.add(PROMPTS[0], replace(LIVELY, grammar=grammar, max_tokens=100, n=2))
    free = engine.add(PROMPTS[0], NEVER)
    engine.step()

    def fail(*_given):
        raise UserError("too ambiguous")

    monkeypatch.setattr(bound.samples[0].matcher, way, fail)
    assert (bound, []) in engine.step()
    assert bound.finished and "ambiguous" in str(bound.error)
    assert len([d for d in finish(engine)[free] if d.finish_reason]) == 1
    assert_nothing_is_held(engine)


def test_a_penalty_of_next_to_nothing_keeps_to_the_grammar(engine, tokenizer):
    grammar = Grammar.regex(tokenizer, "(he|wo)+[0-9]")
    sampling = replace(NEVER, grammar=grammar, repetition_penalty=1e-300)
    assert set(engine.generate(["hello world"], sampling)[0].text) <= set("hewo0123456789")


def test_before_min_tokens_a_grammar_ends_no_answer_that_it_lets_go_on(engine, tokenizer):
    liked = {tokenizer.end_of_turn: 99.0}
    sampling = Sampling(max_tokens=30, min_tokens=12, logit_bias=liked)
    for pattern, tokens in (("[a-z]{1,40}", 13), ("(x|y){4}", 4)):
        grammar = Grammar.regex(tokenizer, pattern)
        [done] = engine.generate(["hello"], replace(sampling, grammar=grammar))
        assert (len(done.ids), done.finish_reason) == (tokens, "stop")


def test_text_ids_and_messages_are_prompts(engine):
    messages = [{"role": "user", "content": "hello"}]
    rendered = engine.tokenizer.render(messages, generate=True).ids
    by_messages, by_ids = engine.generate([messages, rendered], NEVER)
    assert (by_messages.text, by_messages.ids) == (by_ids.text, by_ids.ids)
    assert engine.generate([engine.tokenizer.encode("hello"), "hello"], NEVER)[0].text != ""


def test_no_prompts_give_no_answers(engine):
    assert engine.generate([]) == []


@pytest.mark.parametrize("prompt", ["", [], [5, 320], [-1]])
def test_a_prompt_that_cannot_be_read_is_refused(engine, prompt):
    with pytest.raises(UserError, match="prompt"):
        engine.generate(["fine", prompt], NEVER)
    assert engine.unfinished == 0


def test_a_prompt_that_can_never_fit_is_refused_by_how_much(build):
    engine = build(cache_tokens=64)
    assert engine.context == 64
    done = engine.generate([[5] * 63, [5] * 50], replace(NEVER, max_tokens=100))
    assert [len(one.ids) for one in done] == [1, 14]
    assert [one.finish_reason for one in done] == ["length", "length"]
    with pytest.raises(UserError, match=r"70 tokens.*7 too many"):
        engine.add([5] * 70, NEVER)
    for knobs in ({"logit_bias": {300: 1.0}}, {"stop_ids": (300,)}):
        with pytest.raises(UserError, match="there is no token 300"):
            engine.add([5], replace(NEVER, **knobs))


def test_an_engine_without_room_is_refused(build):
    with pytest.raises(UserError, match="cache_tokens = 10"):
        build(cache_tokens=10)
    with pytest.raises(UserError, match="step_tokens = 4"):
        build(step_tokens=4)


def test_embeddings_are_pooled_hidden_states(build):
    engine = build(step_tokens=16)
    for pooling in ("mean", "last"):
        found = engine.embed(PROMPTS, pooling)
        for row, prompt in zip(found, PROMPTS, strict=True):
            with torch.no_grad():
                hidden = engine.model(torch.tensor([engine.ids(prompt)])).hidden[0]
            expected = hidden.mean(0) if pooling == "mean" else hidden[-1]
            torch.testing.assert_close(row, expected, atol=1e-4, rtol=1e-4)


def test_counts_are_those_of_what_was_done(engine):
    engine.generate(PROMPTS, NEVER)
    stats = engine.stats()
    assert stats["prompt_tokens"] == sum(len(engine.ids(prompt)) for prompt in PROMPTS)
    assert stats["generated_tokens"] == 48
    assert Counter(stats)["running"] == stats["waiting"] == stats["blocks_used"] == 0


def test_a_tokenizer_of_another_model_is_refused(engine, tokenizer):
    small = replace(engine.model.config, vocab_size=200)
    with pytest.raises(UserError, match="do not belong together"):
        Engine(Transformer(small), tokenizer)
    wrong_end = replace(engine.model.config, eos_token_id=(tokenizer.end_of_turn, 3))
    with pytest.raises(UserError, match="ends answers with the id 3"):
        pretrained.check(wrong_end, tokenizer, "here")


def test_a_folder_gives_the_model_and_its_tokenizer(engine, tmp_path):
    weights.save(engine.model.state_dict(), engine.model.config, tmp_path)
    engine.tokenizer.save(tmp_path)
    model, tokenizer = pretrained.load(tmp_path)
    again = Engine(model, tokenizer).generate(PROMPTS, NEVER)
    assert ids_of(again) == ids_of(engine.generate(PROMPTS, NEVER))
