"""The engine against the model's own full forward."""

from dataclasses import replace

import pytest
import torch

from baiwen.engine import pretrained
from baiwen.engine.engine import Engine
from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError
from baiwen.model import weights
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.tokenizer import bpe
from baiwen.tokenizer.tokenizer import Tokenizer

NEVER = Sampling(max_tokens=12, stop_ids=())
LIVELY = replace(NEVER, temperature=1.0, top_p=0.95, seed=7)
PROMPTS = ["hello", "hello world, this is a much longer prompt than the others", "你好", "1 + 1 ="]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return bpe.train(["hello world this is a text", "1 + 1 = 2 你好 世界"] * 20, 270)


@pytest.fixture(scope="module")
def engine(tokenizer) -> Engine:
    config = ModelConfig(
        vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.4,
        tie_word_embeddings=True, eos_token_id=tokenizer.end_of_turn,
    )  # fmt: skip
    model = Transformer(config)
    model.init_weights(0)
    return Engine(model, tokenizer, sequences=3)


def by_full_forward(engine: Engine, prompt: str, tokens: int) -> tuple[list[int], list[float]]:
    """Greedy ids and their log-probabilities, without a cache."""
    ids = engine.tokenizer.encode(prompt)
    found: list[int] = []
    logprobs: list[float] = []
    for _ in range(tokens):
        with torch.no_grad():
            logits = engine.model.logits(torch.tensor([ids + found]))[0, -1]
        found.append(int(logits[: len(engine.tokenizer)].argmax()))
        logprobs.append(logits.log_softmax(-1)[found[-1]].item())
    return found, logprobs


def test_batched_cached_greedy_is_the_argmax_of_the_full_forward(engine):
    for prompt, done in zip(PROMPTS, engine.generate(PROMPTS, NEVER), strict=True):
        ids, logprobs = by_full_forward(engine, prompt, 12)
        assert done.ids == ids
        assert done.logprobs == pytest.approx(logprobs, abs=1e-4)
        assert done.text == engine.tokenizer.decode(ids)
        assert done.finish_reason == "length"


def test_a_seed_gives_the_same_text_whatever_else_is_asked(engine):
    together = engine.generate(PROMPTS, LIVELY)
    alone = [engine.generate([prompt], LIVELY)[0] for prompt in PROMPTS]
    assert [done.ids for done in together] == [done.ids for done in alone]
    other = engine.generate(PROMPTS, replace(LIVELY, seed=8))
    assert [done.ids for done in together] != [done.ids for done in other]


def test_n_answers_differ_and_lie_beside_each_other(engine):
    done = engine.generate(PROMPTS[:2], replace(LIVELY, n=3))
    assert len(done) == 6
    assert len({tuple(answer.ids) for answer in done[:3]}) == 3
    first = engine.generate(PROMPTS[:1], replace(LIVELY, n=3))
    assert [answer.ids for answer in first] == [answer.ids for answer in done[:3]]


@pytest.mark.parametrize("seed", [7, None])
def test_a_prompt_that_is_asked_again_is_answered_anew(engine, seed):
    sampling = replace(LIVELY, seed=seed)
    again = [done.ids for done in engine.generate([PROMPTS[0]] * 3, sampling)]
    assert len({tuple(ids) for ids in again}) == 3
    if seed is not None:
        three = engine.generate(PROMPTS[:1], replace(sampling, n=3))
        assert again == [done.ids for done in three]


def test_answers_stop_at_their_own_end_while_others_go_on(engine):
    plain = engine.generate(PROMPTS, NEVER)
    end = plain[0].ids[4]
    stopped = engine.generate(PROMPTS, replace(NEVER, stop_ids=(end,)))
    for before, after in zip(plain, stopped, strict=True):
        if end in before.ids:
            cut = before.ids.index(end)
            assert after.ids == before.ids[: cut + 1]
            assert after.text == engine.tokenizer.decode(before.ids[:cut])
            assert after.finish_reason == "stop"
        else:
            assert (after.ids, after.text) == (before.ids, before.text)
            assert after.logprobs == pytest.approx(before.logprobs, abs=1e-5)
    assert any(end not in before.ids for before in plain)


def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(engine):
    plain = engine.generate(PROMPTS[:1], NEVER)[0]
    stop = plain.text[5:8]
    done = engine.generate(PROMPTS[:1], replace(NEVER, stop=("never seen", stop)))[0]
    assert done.text == plain.text[: plain.text.index(stop)]
    assert done.finish_reason == "stop"


@pytest.mark.parametrize("stop", [(), ("xyz", "a")])
def test_a_stream_is_the_text_in_pieces(engine, stop):
    sampling = replace(LIVELY, stop=stop, max_tokens=30)
    pieces = list(engine.stream(PROMPTS[0], sampling))
    assert "".join(pieces) == engine.generate(PROMPTS[:1], sampling)[0].text
    assert all(pieces)


def test_a_stream_holds_back_what_may_become_a_stop_text(engine):
    text = engine.generate(PROMPTS[:1], NEVER)[0].text
    stop = text[3:7]
    shown = ""
    for piece in engine.stream(PROMPTS[0], replace(NEVER, stop=(stop,))):
        shown += piece
        assert text[: text.index(stop)].startswith(shown)


def test_ids_that_only_pad_the_embedding_are_never_chosen(engine):
    rows, known = engine.model.config.vocab_size, len(engine.tokenizer)
    assert known < rows
    hot = replace(LIVELY, temperature=50.0, top_p=1.0, max_tokens=60, n=4)
    ids = {token for done in engine.generate(PROMPTS, hot) for token in done.ids}
    assert max(ids) < known and len(ids) > known / 2


def test_a_strong_repetition_penalty_repeats_nothing(engine):
    prompt = engine.tokenizer.encode(PROMPTS[0])
    for temperature in (0.0, 1.0):
        sampling = replace(LIVELY, temperature=temperature, repetition_penalty=1e9)
        for done in engine.generate([PROMPTS[0], PROMPTS[3]], sampling)[:1]:
            assert len(set(done.ids)) == len(done.ids)
            assert not set(done.ids) & set(prompt)


def test_text_ids_and_messages_are_prompts(engine):
    messages = [{"role": "user", "content": "hello"}]
    rendered = engine.tokenizer.render(messages, generate=True).ids
    by_messages, by_ids = engine.generate([messages, rendered], NEVER)
    assert (by_messages.text, by_messages.ids) == (by_ids.text, by_ids.ids)
    assert by_messages.logprobs == pytest.approx(by_ids.logprobs, abs=1e-4)  # rows of one batch
    assert engine.generate([engine.tokenizer.encode("hello"), "hello"], NEVER)[0].text != ""


def test_no_prompts_give_no_answers(engine):
    assert engine.generate([]) == []


@pytest.mark.parametrize("prompt", ["", [], [5, 320], [-1]])
def test_a_prompt_that_cannot_be_read_is_refused(engine, prompt):
    with pytest.raises(UserError, match="prompt"):
        engine.generate([prompt], NEVER)


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
    assert [done.ids for done in again] == [done.ids for done in engine.generate(PROMPTS, NEVER)]
