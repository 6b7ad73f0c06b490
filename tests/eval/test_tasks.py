"""Questions to prompts, answers to verdicts, verdicts to numbers."""

import json

import pytest

from baiwen.engine.engine import Engine
from baiwen.errors import UserError
from baiwen.eval.tasks import (
    Question,
    Sample,
    answer,
    chat,
    difference,
    draw_shots,
    few_shot,
    questions,
    score,
)
from baiwen.instruct.task import document
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.tokenizer import bpe
from baiwen.verify import Verdict

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
ASKED = Question([{"role": "user", "content": "2 + 2?"}], "4", "number", "sums")
SHOTS = {"sums": ["Question: 1 + 1?\nAnswer: 2", "Question: 1 + 2?\nAnswer: 3"]}


@pytest.fixture(scope="module")
def tokenizer():
    return bpe.train(["Question: 2 + 2? Answer: 4 " * 20], vocab_size=262)


@pytest.fixture(scope="module")
def engine(tokenizer):
    config = ModelConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        torch_dtype="float32",
    )
    model = Transformer(config)
    model.init_weights(seed=0)
    return Engine(model, tokenizer)


def sample(kind, verdict):
    return Sample(kind, "?", "?", "!", "1", "number", verdict, tokens=1, finish_reason="stop")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"verifier": "numbr"}, "row 2: no verifier 'numbr'; .* Did you mean number?"),
        ({"prompt": []}, "row 2: messages must be a list"),
        ({"prompt": [{"role": "usr", "content": ""}]}, r"row 2: messages\[0\].role is 'usr'"),
        ({"tools": ["f"]}, r"row 2: tools\[0\] must be an object"),
    ],
)
def test_a_row_that_cannot_be_asked_or_judged_is_named(tmp_path, wrong, told):
    row = {"prompt": ASKED.prompt, "answer": "4", "verifier": "number", "kind": "sums"}
    path = tmp_path / "heldout.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in (row, row | wrong)))
    with pytest.raises(UserError, match=told):
        questions(path)


def test_a_chat_prompt_is_the_protocol_with_the_tools_and_the_assistants_head(tokenizer):
    asked = Question(ASKED.prompt, "4", "number", "sums", tools=[TOOL])
    text = tokenizer.decode(chat(tokenizer).prompt(asked))
    assert text == tokenizer.render(asked.prompt, [TOOL], generate=True).text
    assert text.endswith("<|im_start|>assistant\n")


def test_a_few_shot_prompt_ends_where_the_answer_begins(tokenizer):
    form = few_shot(tokenizer, document, SHOTS, room=1000)
    expected = (
        "Question: 1 + 1?\nAnswer: 2\n\nQuestion: 1 + 2?\nAnswer: 3\n\nQuestion: 2 + 2?\nAnswer:"
    )
    assert tokenizer.decode(form.prompt(ASKED)) == expected
    assert form.stop == ("\n\n",)


def test_shots_that_do_not_fit_are_left_out_the_first_one_first(tokenizer):
    whole = few_shot(tokenizer, document, SHOTS, room=1000).prompt(ASKED)
    cut = few_shot(tokenizer, document, SHOTS, room=len(whole) - 1).prompt(ASKED)
    text = "Question: 1 + 2?\nAnswer: 3\n\nQuestion: 2 + 2?\nAnswer:"
    assert tokenizer.decode(cut) == text
    bare = few_shot(tokenizer, document, SHOTS, room=1).prompt(ASKED)
    assert tokenizer.decode(bare) == "Question: 2 + 2?\nAnswer:"


def test_shots_are_drawn_by_kind_and_by_seed():
    rows = [
        {"kind": kind, "messages": [{"role": "user", "content": f"{kind} {n}"}, said]}
        for kind in ("a", "b")
        for n in range(20)
        for said in [{"role": "assistant", "content": "x"}]
    ]
    shots = draw_shots(rows, document, count=3, seed=1)
    assert {kind: len(of_kind) for kind, of_kind in shots.items()} == {"a": 3, "b": 3}
    assert all(text.startswith("Question: b ") for text in shots["b"])
    assert shots == draw_shots(rows, document, count=3, seed=1)
    assert shots != draw_shots(rows, document, count=3, seed=2)


def test_every_question_gets_its_own_sample_in_order(engine, tokenizer):
    prompts = ["2 + 2?", "2?", "2 + 2 + 2 + 2?"]
    questions = [Question([{"role": "user", "content": p}], "4", "number", "sums") for p in prompts]
    samples = list(answer(engine, questions, chat(tokenizer), max_tokens=5))
    assert [f"user\n{p}<|im_end|>" in s.prompt for p, s in zip(prompts, samples, strict=True)]
    alone = [next(answer(engine, [q], chat(tokenizer), max_tokens=5)) for q in questions]
    assert [s.answer for s in samples] == [s.answer for s in alone]
    assert all(0 < s.tokens <= 5 for s in samples)


def test_a_question_in_parts_is_shown_as_its_text(engine):
    parts = [{"type": "text", "text": "2 + "}, {"type": "text", "text": "2?"}]
    asked = Question([{"role": "user", "content": parts}], "4", "number", "sums")
    (found,) = answer(engine, [asked], chat(engine.tokenizer), max_tokens=1)
    assert found.asked == "2 + 2?"


def test_every_verdict_is_counted_by_name_and_only_right_ones_score():
    samples = [sample("a", verdict) for verdict in Verdict] + [sample("b", Verdict.right)]
    scores = score(samples)
    assert scores["all"]["verdicts"] == {
        "right": 2, "wrong": 1, "undecided": 1, "error": 1, "timeout": 1,
    }  # fmt: skip
    assert scores["all"]["n"] == 6
    assert scores["a"]["accuracy"] == 1 / 5
    assert scores["b"]["accuracy"] == 1
    assert scores["b"]["low"] < 1


def test_a_difference_is_paired_over_all_and_by_kind():
    right, wrong = Verdict.right, Verdict.wrong
    before = [sample("a", wrong), sample("a", right), sample("b", wrong), sample("b", wrong)]
    after = [sample("a", right), sample("a", right), sample("b", right), sample("b", wrong)]
    result = difference(after, before)
    assert [result[kind]["value"] for kind in ("all", "a", "b")] == [0.5, 0.5, 0.5]
    assert result["all"]["p"] == 0.5  # two changes, both gains: 2 / 2^2
