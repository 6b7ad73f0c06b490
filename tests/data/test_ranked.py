"""Pairs and judged answers become trees with ranks; what teaches nothing is left out."""

import json

import pytest

from baiwen.data.ranked import Limits, read
from baiwen.errors import UserError
from baiwen.tokenizer import bpe, template

ASKED = [{"role": "user", "content": "1 + 1?"}]
PAIR = {"prompt": ASKED, "chosen": "2", "rejected": [{"role": "assistant", "content": "3"}]}


def answers(*verdicts):
    return {"prompt": ASKED, "answers": [{"text": f"{v} 2", "verdict": v} for v in verdicts]}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    made = bpe.train([template.DEFAULT_SYSTEM] * 4, vocab_size=280)
    made.folder = tmp_path_factory.mktemp("tokenizer")
    made.save(made.folder)
    return made


@pytest.fixture
def written(tmp_path):
    def write(*rows):
        path = tmp_path / "data.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        return path

    return write


def test_a_tree_is_the_rendered_conversation_to_its_very_end(tokenizer, written):
    found, _ = read([written(PAIR)], tokenizer.folder, Limits(99, 200))
    tree = found[0].tree()
    for answer, text in zip(tree.answers, ("2", "3"), strict=True):
        said = {"role": "assistant", "content": text}
        assert [*tree.prompt, *answer] == tokenizer.render([*ASKED, said]).ids
    assert tree.values["rank"] == (1.0, 0.0)


def test_answers_that_were_not_judged_have_no_rank(tokenizer, written):
    row = answers("wrong", "right", "timeout", "wrong", "undecided", "error")
    found, dropped = read([written(row)], tokenizer.folder, Limits(99, 400))
    assert found[0].ranks == (0.0, 1.0, 0.0) and not dropped


def test_prompts_without_an_order_are_counted_by_why(tokenizer, written):
    rows = [answers("right", "right"), answers("wrong"), answers("wrong", "error"), answers()]
    path = written(PAIR, *rows, {**PAIR, "rejected": "3 " * 99})
    found, dropped = read([path], tokenizer.folder, Limits(99, 400, "drop"))
    assert len(found) == 1
    assert dropped == {"all right": 1, "all wrong": 1, "undecided": 2, "too long": 1}


@pytest.mark.slow
def test_workers_give_the_same_in_the_same_order(tokenizer, written):
    rows = [{**PAIR, "prompt": f"{n} + 1?", "kind": str(n)} for n in range(150)]
    one, _ = read([written(*rows)], tokenizer.folder, Limits(99, 200))
    two, _ = read([written(*rows)], tokenizer.folder, Limits(99, 200), workers=2)
    assert [ranked.kind for ranked in one] == [ranked.kind for ranked in two]
    assert [ranked.tree() for ranked in one] == [ranked.tree() for ranked in two]


@pytest.mark.parametrize(
    ("limits", "told"),
    [(Limits(20, 400), "the context has 20"), (Limits(99, 40), "micro_tokens = 40")],
)
def test_a_prompt_that_is_too_long_is_named(tokenizer, written, limits, told):
    with pytest.raises(UserError, match=rf"data\.jsonl:1: .*{told}"):
        read([written(PAIR)], tokenizer.folder, limits)


def test_shares_of_prompts_are_spread_evenly(tokenizer, written):
    rows = [{**PAIR, "prompt": f"{n} + 1?"} for n in range(300)]
    found, _ = read([written(*rows)], tokenizer.folder, Limits(99, 200))
    assert 0.3 < sum(ranked.share() < 0.4 for ranked in found) / 300 < 0.5
