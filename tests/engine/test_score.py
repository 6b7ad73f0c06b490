"""A score is that of the conversation alone, whatever else is asked and however it is written."""

from dataclasses import replace

import pytest
import torch

from baiwen.engine import score as scoring
from baiwen.engine.score import groups, score
from baiwen.errors import UserError
from baiwen.model.reward import RewardModel


@pytest.fixture(scope="module")
def judge(config):
    made = RewardModel(config)
    made.init_weights(3)
    return made


def said(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


CHATS = [said(q, a) for q in ("hello 1", "1 + 1 = ?") for a in ("2", "hello world", "", "你好 2")]


def plain(model, ids):
    """The score of one conversation by itself: the head on the last of its hidden states."""
    hidden, _ = model.states(torch.tensor([ids]))
    first, relu, second = model.score
    return second(relu(first(hidden[0, -1])))[0]


@pytest.mark.parametrize("batch_tokens", [1, 200, 4096])
def test_scores_do_not_depend_on_what_shares_a_row(judge, tokenizer, batch_tokens):
    together = score(judge, tokenizer, CHATS, batch_tokens)
    alone = [plain(judge, tokenizer.render(chat).ids) for chat in CHATS]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-5, atol=1e-6)
    assert together.std() > 1e-3


def test_answers_to_one_prompt_share_it(judge, tokenizer):
    every = [tokenizer.render(chat).ids for chat in CHATS]
    rows = list(scoring.batches(tokenizer, every, 4096))
    assert len(rows) == 1 and max(rows[0].trunks) >= 0
    assert len(rows[0].tokens) < 0.5 * sum(map(len, every))
    assert [len(group) for _, group in groups(tokenizer, every, 4096)] == [4, 4]


def test_a_group_that_does_not_fit_a_row_goes_into_several(judge, tokenizer):
    every = [tokenizer.render(CHATS[0]).ids] * 9
    rows = list(scoring.batches(tokenizer, every, len(every[0]) + 3))
    assert all(len(row.tokens) <= len(every[0]) + 3 for row in rows)
    assert sum(len(row.scored) for row in rows) == 9 and len(rows) > 1


def test_messages_rows_and_ids_score_alike(judge, tokenizer):
    ids = tokenizer.render(CHATS[1]).ids
    found = score(judge, tokenizer, [CHATS[1], {"messages": CHATS[1]}, ids])
    torch.testing.assert_close(found, found[:1].expand(3), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ids", [[], [1, 320], [-1], [1] * 40_000])
def test_conversations_that_cannot_be_scored_are_refused_by_name(judge, tokenizer, ids):
    with pytest.raises(UserError, match=r"conversations\[1\]"):
        score(judge, tokenizer, [CHATS[0], ids])


def test_nothing_to_score_is_no_scores(judge, tokenizer):
    assert score(judge, tokenizer, []).shape == (0,)


def test_a_reward_model_in_bf16_scores_in_fp32(config, tokenizer):
    made = RewardModel(replace(config, torch_dtype="bfloat16"))
    made.init_weights(3)
    wide = score(made, tokenizer, CHATS)
    short = score(made.bfloat16(), tokenizer, CHATS)
    assert short.dtype == torch.float32 and len(short.unique()) == len(CHATS)
    assert (short - wide).abs().max() < 0.3 * wide.std()
