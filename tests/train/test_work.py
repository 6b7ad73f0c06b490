"""What stands beside the model that trains, counted: a reference, a reward model, rollouts."""

from dataclasses import replace
from math import ceil

import pytest

from baiwen.errors import UserError
from baiwen.model import count
from baiwen.model.sizes import SIZES
from baiwen.train import beside
from baiwen.train.clock import LINKS, Clock
from baiwen.train.cluster import Cluster, Layout, Plan, plans, refused
from baiwen.train.devices import DEVICES
from baiwen.train.spread import Spread
from baiwen.train.work import Other, Rollout, Trees, UnplannedError, Work, needed, on_trees

POLICY, JUDGE = SIZES["7b"], replace(SIZES["3b"], reward=True)
ROLLOUT = Rollout(
    prompts=256, samples=8, prompt=200, answer=2048, longest=2500, sequences=20, updates=2
)
TREE = 200 + 8 * 2049
WORK = Work(
    POLICY,
    2248,
    256 * TREE,
    10 * 256 * TREE,
    trees=Trees(4000, 256, 2501),
    others=(Other("reference", POLICY), Other("reward model", JUDGE, held="whole")),
    rollout=ROLLOUT,
    merging=4,
    context=False,
)
H200 = DEVICES["h200"]


def total(shape):
    return count.parameters(shape).total


def clock(spread, shape=POLICY):
    return Clock(shape, 2248, spread, 1, False, 8192, H200, 0.5)


def test_every_pass_over_a_token_is_counted():
    """Of the policy four thirds of a step: one of them generates."""
    own, judge = (count.flops_per_token(shape, 2248) for shape in (POLICY, JUDGE))
    assert WORK.flops_per_token == pytest.approx(own * (4 + 1) / 3 + judge / 3)
    assert Work(POLICY, 2248, 2**20).flops_per_token == own


def test_a_reference_is_divided_and_a_reward_model_and_a_sampler_are_whole():
    held = beside.held(WORK, Spread(shard=8), ranks=8)
    assert held["reference"] == pytest.approx(4 * total(POLICY) / 8, rel=1e-3)  # padding
    assert held["merging"] == held["reference"]
    assert held["reward model"] == 2 * total(JUDGE)
    assert held["sampler's weights"] == 4 * total(POLICY)
    blocks = 20 * (ceil(2500 / 16) + 1)
    keys = 2 * POLICY.num_hidden_layers * POLICY.num_key_value_heads * POLICY.head_dim
    assert held["keys and values"] == blocks * 16 * keys * 4
    assert beside.held(WORK, Spread(), ranks=1)["sampler's weights"] == 0  # those that train


def test_a_rollout_reads_the_weights_for_every_token_of_its_longest_queue():
    """Of 8 ranks each has 64 prompts of an episode, 512 answers: 26 queues of 2,048 tokens."""
    spent = beside.seconds(WORK, clock(Spread(shard=8)), micro_batches=3, ranks=8)
    cached = 2 * POLICY.num_hidden_layers * POLICY.num_key_value_heads * POLICY.head_dim * 4
    moved = beside.CAST * total(POLICY) + 20 * (200 + 1024) * cached
    prompts = 64 * 200 * 2 * count.parameters(POLICY).matmul / (0.5 * H200.flops)
    gathered = 4 * total(POLICY) * 7 / 8 / (LINKS * 1e9 * H200.link)
    expected = 26 * 2048 * moved / (1e9 * H200.hbm) + prompts + gathered
    assert spent["rollout"] == pytest.approx(expected / 2, rel=1e-4)  # two updates share it


def test_a_small_model_rolls_out_as_fast_as_kernels_are_launched():
    small = replace(WORK, shape=SIZES["tiny"], others=())
    (spent,) = beside.seconds(small, clock(Spread(), SIZES["tiny"]), 1, ranks=64).values()
    passes = ceil(8 * 8 / 20) * 2048
    launched = passes * SIZES["tiny"].num_hidden_layers * beside.LAUNCHES
    assert spent == pytest.approx(launched / 2, rel=0.02)


def test_another_model_reads_at_a_third_of_what_a_step_computes():
    """A reference reads a rank's own micro-batches, a reward model the answers it has sampled."""
    spent = beside.seconds(WORK, clock(Spread()), micro_batches=3, ranks=1)
    reads = 3 * 8192 * count.flops_per_token(POLICY, 2248) / 3
    assert spent["reference"] == pytest.approx(reads / (0.5 * H200.flops), rel=1e-3)
    scores = WORK.tokens_per_step * count.flops_per_token(JUDGE, 2248) / 3
    assert spent["reward model"] == pytest.approx(scores / (0.5 * H200.flops))


def test_trees_fill_micro_batches_evenly_and_are_not_cut():
    def plan(shards, micro):
        return Plan(WORK, Cluster(shards, H200), Layout(shards, micro_tokens=micro))

    few = plan(8, 20_000)
    assert few.micro_batches == ceil(256 * TREE / 160_000)
    assert few.filled == ceil(256 * TREE / 8 / few.micro_batches) <= 20_000
    assert plan(1024, 20_000).filled == TREE  # of 1,024 ranks three quarters have none


def test_a_plan_has_what_stands_beside_it_in_its_memory_and_seconds():
    best = plans(WORK, Cluster(64, H200))[0]
    assert best.fits and best.layout.context == 1
    assert best.memory["reward model"] == 2 * total(JUDGE)
    assert best.seconds["rollout"] > best.seconds["compute"] > best.seconds["reference"] > 0
    assert best.days == pytest.approx(10 * sum(best.seconds.values()) / 86_400)


def test_what_trains_in_a_single_process_has_no_layout_of_many():
    lone = replace(WORK, alone="muon needs whole matrices")
    assert refused(lone, Layout(2)) == "muon needs whole matrices"
    assert not plans(lone, Cluster(8, H200)) and plans(lone, Cluster(1, H200))


def test_steps_of_trees_are_those_of_the_loader():
    made = on_trees(POLICY, 100, [90, 110, 130, 70, 100], per_step=2, epochs=1.5)
    assert made.steps == ceil(1.5 * 5 / 2) and made.tokens_per_step == 200
    assert made.trees == Trees(total=5, number=2, longest=130)


def test_an_input_that_is_not_there_is_named(tmp_path):
    needed(start=tmp_path)
    with pytest.raises(UnplannedError, match=r"data = .*absent: not there yet"):
        needed(start=tmp_path, data=tmp_path / "absent")
    assert issubclass(UnplannedError, UserError)
