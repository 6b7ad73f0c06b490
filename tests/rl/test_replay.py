"""A mixture trains on the experts that its sampler chose, turn by turn, token by token."""

import copy
import json
from base64 import b64decode
from dataclasses import asdict, replace

import pytest
import torch

from baiwen.data import trees
from baiwen.engine.engine import Engine
from baiwen.engine.sampler import Sampling
from baiwen.model import routing
from baiwen.model.moe import MoE
from baiwen.model.packed import pack
from baiwen.model.transformer import Transformer
from baiwen.rl import groups
from baiwen.rl.groups import Group
from baiwen.rl.prompts import Prompt
from baiwen.rl.rewards import Judged
from baiwen.rl.rollout import Local, roll_out
from baiwen.train.policy import policy

SAMPLING = Sampling(temperature=1.0, max_tokens=12, n=4, seed=7, stop_ids=tuple(range(150)))
IDS = list(range(200, 240))


@pytest.fixture
def mixture(shape, tokenizer):
    made = Transformer(
        replace(shape, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32,
                shared_expert_intermediate_size=32, initializer_range=0.3,
                vocab_size=len(tokenizer))
    ).requires_grad_(False)  # fmt: skip
    made.init_weights(seed=0)
    draws = torch.Generator().manual_seed(0)
    for block in made.model.layers:
        if isinstance(block.mlp, MoE):
            block.mlp.gate.weight.normal_(0, 0.05, generator=draws)
            block.mlp.experts.down_proj *= 4
    return made


def rolled(model, tokenizer, **knobs):
    sampler = Local(Engine(model, tokenizer, cache_tokens=4096, sequences=16, routes=True))
    [answers] = roll_out(sampler, [IDS], SAMPLING, room=256, **knobs)
    return Group(0, answers, [Judged(None, 1.0, 0.0, 1.0)] * 4, [1.0, -0.5, 0.5, -1.0])


def batch_of(group, shape, micro_tokens=4000):
    prompt = Prompt(0, IDS, [], None, None, None)
    made = list(groups.trees_of(group, prompt, micro_tokens, shape))
    return trees.batches(made, micro_tokens, count="answers")


def run(model, batch, chosen):
    given = {"positions": batch.positions, "documents": batch.documents, "chosen": chosen}
    return model(batch.tokens, **given)


def known(chosen):
    return chosen[0, 0, :, 0] < 6


def test_each_token_goes_where_the_sampler_sent_it(mixture, tokenizer):
    """All but the answers' last tokens; the router of the model alone would choose the same."""
    group = rolled(mixture, tokenizer)
    [batch] = batch_of(group, mixture.config)
    there = known(batch.chosen)
    assert (~there).nonzero()[:, 0].tolist() == batch.last.tolist()
    free = run(mixture, batch, None).routing.experts
    assert torch.equal(free[:, :, there], batch.chosen[:, :, there])
    turned = copy.deepcopy(mixture)
    for block in turned.model.layers:
        block.mlp.gate.weight.neg_()
    found = run(turned, batch, batch.chosen).routing.experts
    assert torch.equal(found[:, :, there], batch.chosen[:, :, there])


def test_turns_keep_the_experts_that_they_were_drawn_with(mixture, tokenizer):
    group = rolled(mixture, tokenizer, respond=lambda *_: [160, 161], turns=3)
    assert max(answer.turns for answer in group.answers) > 1
    for answer in group.answers:
        told = routing.read(b64decode(answer.routes), mixture.config)
        ids = torch.tensor([[*IDS, *answer.ids][:-1]])
        assert torch.equal(told, mixture(ids).routing.experts[:, 0].transpose(0, 1))


def test_experts_survive_json_and_the_split_of_a_group(mixture, tokenizer):
    group = rolled(mixture, tokenizer)
    again = Group.of(json.loads(json.dumps(asdict(group))))
    [whole] = batch_of(again, mixture.config)
    assert torch.equal(whole.chosen, batch_of(group, mixture.config)[0].chosen)
    for part in batch_of(again, mixture.config, micro_tokens=80):
        free = run(mixture, part, None).routing.experts
        assert torch.equal(free[:, :, known(part.chosen)], part.chosen[:, :, known(part.chosen)])


@pytest.mark.parametrize("lost", [0, 2])
def test_an_answer_without_experts_leaves_the_others_theirs(mixture, tokenizer, lost):
    """Its own tokens alone are the router's; the prompt's are those of an answer that has some."""
    group = rolled(mixture, tokenizer)
    [whole] = batch_of(group, mixture.config)
    answers = list(group.answers)
    answers[lost] = replace(answers[lost], routes="")
    [batch] = batch_of(replace(group, answers=answers), mixture.config)
    there = known(batch.chosen)
    assert torch.equal(batch.chosen[:, :, there], whole.chosen[:, :, there])
    missing = (known(whole.chosen) & ~there).nonzero()[:, 0].tolist()
    end = int(whole.last[lost])
    assert missing == list(range(end - len(answers[lost].ids), end))


def test_a_prompt_without_experts_leaves_the_others_of_the_batch_theirs(mixture, tokenizer):
    prompt = Prompt(0, IDS, [], None, None, None)
    [tree] = groups.trees_of(rolled(mixture, tokenizer), prompt, 4000, mixture.config)
    made = [tree, replace(tree, routes=None)]
    [batch] = trees.batches(made, 4000, count="answers")
    [whole] = trees.batches([tree], 4000, count="answers")
    assert torch.equal(batch.chosen[:, :, : tree.tokens], whole.chosen)
    assert not known(batch.chosen)[tree.tokens :].any()
    [without] = trees.batches(made[1:], 4000, count="answers")
    assert without.chosen is None


def test_the_mismatch_shrinks_where_the_sampler_is_coarser(mixture, tokenizer):
    coarse = copy.deepcopy(mixture)
    pack(coarse, "int8")
    [batch] = batch_of(rolled(coarse, tokenizer), mixture.config)
    free, replayed = (
        float(policy(run(mixture, batch, chosen), batch).metrics["mismatch_kl"])
        for chosen in (None, batch.chosen)
    )
    assert replayed < 0.6 * free, (replayed, free)


def test_a_dense_model_has_no_experts_to_tell(model, tokenizer):
    sampler = Local(Engine(model, tokenizer, cache_tokens=4096, sequences=16))
    [answers] = roll_out(sampler, [IDS], SAMPLING, room=256)
    group = Group(0, answers, [Judged(None, 1.0, 0.0, 1.0)] * 4, [1.0, -0.5, 0.5, -1.0])
    [batch] = batch_of(group, model.config)
    assert batch.chosen is None
