"""The routers' losses beside the global balance, and the load of the experts."""

import dataclasses
import json

import pytest
import torch

from baiwen.model.routing import balance
from baiwen.train.balance import EXPERTS, Loads, Routers, load
from baiwen.train.loop import accumulate
from baiwen.train.losses import lm


def test_load_is_told_by_its_extremes():
    """Of two layers: one even; in the other an expert has three times the mean, and one nothing."""
    found = load(torch.tensor([[10.0, 10, 10, 10], [30, 5, 5, 0]]))
    assert found["expert_violation"] == pytest.approx((0 + 2) / 2)
    assert found["expert_violation_worst"] == pytest.approx(2)
    assert found["idle_experts"] == pytest.approx(1 / 8)


def test_a_step_logs_the_load_of_all_its_micro_batches(tiny, world):
    model, batches = tiny.model(tiny.MOE), tiny.loader(micro_rows=4).step(0)
    found = accumulate(model, batches, lm, world)
    routings = [model(b.tokens, positions=b.positions, documents=b.documents) for b in batches]
    counts = sum(out.routing.sums.counts for out in routings)
    for name, value in load(counts).items():
        torch.testing.assert_close(found[name], value)
    entropy = sum(out.routing.sums.entropy.sum() for out in routings)
    rows = sum(b.real for b in batches) * tiny.MOE.num_hidden_layers
    torch.testing.assert_close(found["router_entropy"], entropy / rows)


def test_every_assignment_is_counted_so_none_is_dropped(tiny, world):
    model, batches = tiny.model(tiny.MOE), tiny.loader(micro_rows=4).step(0)
    routers = Routers(tiny.MOE, world)
    accumulate(model, batches, lm, world, routers)
    each = sum(b.real for b in batches) * tiny.MOE.num_experts_per_tok
    assert routers.counts.sum(1).tolist() == [each] * tiny.MOE.num_hidden_layers


def test_the_micro_balance_is_the_mean_of_what_each_micro_batch_is_alone(tiny, world):
    """Weighed by its tokens; with one micro-batch it is the global balance."""
    model, batches = tiny.model(tiny.MOE), tiny.loader(micro_rows=2).step(0)
    found = accumulate(model, batches, lm, world, Routers(tiny.MOE, world, micro=0.5))
    alone = []
    for batch in batches:
        out = model(batch.tokens, positions=batch.positions, documents=batch.documents)
        sums = out.routing.sums
        alone.append(balance(sums.counts, sums.probs, sums.tokens).item() * batch.real)
    mean = sum(alone) / sum(batch.real for batch in batches)
    assert float(found["micro_balance"]) == pytest.approx(0.1 * 0.5 * mean, rel=1e-5)
    assert "micro_balance" not in accumulate(model, batches, lm, world)
    (whole,) = tiny.loader(micro_rows=8).step(0)
    found = accumulate(model, [whole], lm, world, Routers(tiny.MOE, world, micro=1.0))
    torch.testing.assert_close(found["micro_balance"], found["balance"])


def test_the_balance_of_a_dense_model_is_nothing(tiny, world):
    found = accumulate(tiny.model(), tiny.loader(micro_rows=8).step(0), lm, world)
    assert not {"balance", "expert_violation"} & found.keys()


def test_loads_are_kept_by_step_and_cut_where_a_run_goes_on(tmp_path, world):
    counts = torch.tensor([[3.0, 1.0], [2.0, 2.0]])
    loads = Loads(tmp_path, 0, world)
    for step in (2, 4):
        loads.write(step, counts * step)
    again = Loads(tmp_path, 3, world)
    again.write(4, counts)
    again.write(6, None)  # of a dense model
    rows = [json.loads(line) for line in (tmp_path / EXPERTS).read_text().splitlines()]
    assert rows == [
        {"step": 2, "counts": [[6, 2], [4, 4]]},
        {"step": 4, "counts": [[3, 1], [2, 2]]},
    ]
    other = dataclasses.replace(world, rank=1)
    Loads(tmp_path / "absent", 0, other).write(1, counts)
    assert not (tmp_path / "absent").exists()
