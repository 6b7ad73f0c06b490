"""The experts that an engine tells are those of a forward pass over prompt and answer."""

import dataclasses

import pytest
import torch

from baiwen.engine.engine import Engine
from baiwen.engine.sampler import Sampling
from baiwen.model.moe import MoE
from baiwen.model.packed import pack
from baiwen.model.routing import kept_as
from baiwen.model.transformer import Transformer

ASKED = Sampling(max_tokens=24, seed=1, stop_ids=())
PROMPT = "hello world this is a text. hello world this is a text. hello world this"


@pytest.fixture(scope="module")
def shape(config):
    return dataclasses.replace(
        config, num_hidden_layers=3, num_experts=6, num_experts_per_tok=2, mlp_only_layers=(1,),
        moe_intermediate_size=24, shared_expert_intermediate_size=24,
    )  # fmt: skip


def mixture(shape):
    model = Transformer(shape).requires_grad_(False)
    model.init_weights(0)
    draws = torch.Generator().manual_seed(0)
    for block in model.model.layers:
        if isinstance(block.mlp, MoE):
            torch.nn.init.normal_(block.mlp.gate.weight, std=0.5, generator=draws)
            block.mlp.experts.down_proj *= 4  # which experts a token goes to matters
    return model


@pytest.fixture(scope="module")
def moe(shape):
    return mixture(shape)


def told(completion, model, tokens):
    """[L, 1, T, k]."""
    shape = model.config
    found = torch.frombuffer(bytearray(completion.routes), dtype=kept_as(shape.num_experts))
    return found.view(tokens, 2, shape.num_experts_per_tok).transpose(0, 1)[:, None]


def by_forward(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).routing.experts


WAYS = {
    "at once": {},
    "in chunks": {"step_tokens": 8},
    "without sharing": {"prefix_cache": False},
    "in turns": {"sequences": 2},
    "with guesses": {"lookup": 4},
    "preempted": {"cache_tokens": 192, "sequences": 8},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_token_but_the_last_has_the_experts_of_the_full_forward(moe, tokenizer, way):
    """Of three answers to each of two prompts, of which the second comes twice."""
    engine = Engine(
        moe, tokenizer, routes=True, **{"cache_tokens": 1024, "sequences": 8} | WAYS[way]
    )
    prompts = [PROMPT, "1 + 1 = 2", PROMPT]
    few = {7: 99.0, 8: 99.0} if way == "with guesses" else {}  # so that some guesses are right
    asked = dataclasses.replace(ASKED, n=3, logit_bias=few)
    found = engine.generate(prompts, asked)
    stats = engine.stats()
    assert (stats["preemptions"] > 0) == (way == "preempted")
    assert (stats["cached_tokens"] > 0) == (way != "without sharing")
    assert (stats["accepted"] > 0) == (way == "with guesses")
    for number, completion in enumerate(found):
        ids = [*tokenizer.encode(prompts[number // 3]), *completion.ids][:-1]
        assert torch.equal(told(completion, moe, len(ids)), by_forward(moe, ids))


def test_a_draft_changes_nothing(moe, tokenizer, model):
    engine = Engine(moe, tokenizer, cache_tokens=1024, sequences=8, routes=True, draft=model)
    (done,) = engine.generate([PROMPT], ASKED)
    ids = [*tokenizer.encode(PROMPT), *done.ids][:-1]
    assert torch.equal(told(done, moe, len(ids)), by_forward(moe, ids))


def test_nothing_is_told_unless_asked(moe, tokenizer):
    (done,) = Engine(moe, tokenizer, cache_tokens=1024, sequences=8).generate([PROMPT], ASKED)
    assert done.routes == b""


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
def test_a_trainer_that_takes_them_computes_what_a_coarser_engine_computed(shape, tokenizer, kind):
    """The distance of its log-probabilities shrinks; left to itself it chooses otherwise."""
    coarse, trainer = mixture(shape), mixture(shape)
    if kind == "int8":
        pack(coarse, "int8")
    else:
        coarse.to(torch.bfloat16)
    engine = Engine(coarse, tokenizer, cache_tokens=4096, sequences=8, routes=True)
    done = engine.generate([PROMPT] * 4, dataclasses.replace(ASKED, tempered=True))
    distances = {"free": 0.0, "replayed": 0.0}
    others = 0
    for completion in done:
        prompt = tokenizer.encode(PROMPT)
        ids = torch.tensor([[*prompt, *completion.ids]])
        given = told(completion, trainer, ids.shape[1] - 1)
        with torch.no_grad():
            free, replayed = trainer(ids[:, :-1]), trainer(ids[:, :-1], chosen=given)
        assert torch.equal(replayed.routing.experts, given)
        others += int((free.routing.experts.sort().values != given.sort().values).sum())
        for name, out in (("free", free), ("replayed", replayed)):
            logps = trainer.project(out.hidden[0, len(prompt) - 1 :]).log_softmax(-1)
            mine = logps.gather(1, ids[0, len(prompt) :, None])[:, 0]
            distances[name] += float((mine - torch.tensor(completion.logprobs)).abs().sum())
    assert others > 0
    assert distances["replayed"] < 0.6 * distances["free"]
