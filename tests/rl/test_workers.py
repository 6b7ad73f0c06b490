"""Rollout workers on this machine: the engine's answers, whoever is started again."""

from itertools import chain

import pytest
import torch

from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError
from baiwen.rl import workers
from baiwen.rl.rollout import roll_out, whole
from baiwen.rl.workers import Spec, Workers, shares

SAMPLING = Sampling(temperature=0.8, max_tokens=8, n=3, seed=7)
PROMPTS = [[5, 9, 11], [40, 41, 42, 43], [7, 8], [5, 9, 11], [60, 61, 62]]
STORE = 100 * 2**20  # bytes


def test_equal_prompts_are_in_one_share_in_their_order():
    assert shares(PROMPTS, 2) == [[0, 3], [1, 2], [4]]
    assert shares(PROMPTS, 1) == [[0, 3], [1], [2], [4]]
    assert shares([], 3) == []


@pytest.fixture(scope="module")
def spec(shape, tokenizer):
    return Spec(shape, tokenizer.vocabulary, 4096, 16, "float32")


@pytest.fixture(scope="module")
def two(spec):
    """Two workers in a cluster of their own."""
    pytest.importorskip("ray", reason="Ray is not installed")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker has
    with workers.cluster(knobs(), spec) as cluster:
        yield cluster
    torch.set_num_threads(threads)


def knobs(**given):
    return Workers(**{"count": 2, "cpus": 0.5, "share": 2, "store": STORE, **given})


@pytest.mark.slow
def test_two_workers_answer_as_the_engine_here_with_all_weights(two, model, sampler, tokenizer):
    for _ in range(2):
        two.update_weights(whole(model))
        sampler.update_weights(whole(model))
        theirs = roll_out(two, PROMPTS, SAMPLING, room=64)
        ours = roll_out(sampler, PROMPTS, SAMPLING, room=64)
        for mine, other in zip(chain(*theirs), chain(*ours), strict=True):
            assert mine.ids == other.ids
            assert mine.logprobs == pytest.approx(other.logprobs, abs=1e-5)
        assert theirs[0] != theirs[3]  # a prompt that is given twice
        model.init_weights(seed=5)
    counted = two.stats()["generated_tokens"]
    assert counted == sampler.stats()["generated_tokens"]


@pytest.mark.slow
def test_one_worker_answers_as_two_in_the_same_bits(two, model, monkeypatch):
    two.update_weights(whole(model))
    theirs = roll_out(two, PROMPTS, SAMPLING, room=64)
    monkeypatch.setattr(two._crew, "workers", two._crew.workers[:1])
    assert roll_out(two, PROMPTS, SAMPLING, room=64) == theirs


@pytest.mark.slow
def test_a_worker_that_is_killed_is_started_again_and_asked_again(two, model):
    two.update_weights(whole(model))
    before = roll_out(two, PROMPTS, SAMPLING, room=64)
    two._crew._ray.kill(two._crew.workers[0].actor)
    assert roll_out(two, PROMPTS, SAMPLING, room=64) == before
    assert two.stats()["restarts"] == 1


@pytest.mark.slow
def test_what_a_worker_cannot_answer_is_named(two, model):
    two.update_weights(whole(model))
    told = "failed at a share of the prompts: a prompt holds the id 100000"
    with pytest.raises(UserError, match=told):
        two.generate([[100_000]], SAMPLING)
