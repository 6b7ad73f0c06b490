"""What no machine here can run, simulated: every size under layouts, by the program's own rules."""

import json
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from baiwen.model import count
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.train import losses, memory
from baiwen.train.cluster import Cluster, Layout, layouts, plans, refused
from baiwen.train.devices import DEVICES
from baiwen.train.memory import Kernels
from baiwen.train.parallel import ContextParallel
from baiwen.train.spread import Spread, units
from baiwen.train.work import Work

RANKS = 64
CASES = [
    ("0.5b", {"tensor": 2, "replicate": 4}),
    ("1.5b", {"replicate": 8}),
    ("3b", {"tensor": 2, "context": 2}),
    ("7b", {}),
    ("14b", {"context": 4}),
    ("32b", {"replicate": 2}),
    ("72b", {"tensor": 8}),
    ("a2.7b", {"expert": 4, "replicate": 2}),
    ("57b-a14b", {"expert": 16, "tensor": 4}),
]

MOVED = [
    ("tiny", {}),
    ("tiny", {"replicate": 4}),
    ("micro", {"context": 2}),
    ("micro", {"tensor": 2}),
]


def spread(knobs):
    layout = ContextParallel(**knobs).layout
    return Spread(layout.shard(RANKS), layout.context, layout.tensor, layout.expert)


@pytest.fixture(scope="module")
def simulated(made_by):
    """Numbers that rank 0 of 64 holds, and bytes that it moves, of every case."""
    folder = made_by("simulated", RANKS, json.dumps(CASES), json.dumps(MOVED))
    held, moved = json.loads((folder / "found.json").read_text())
    return dict(zip(map(str, CASES), held, strict=True)), dict(
        zip(map(str, MOVED), moved, strict=True)
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_rank_holds_what_is_planned(case, simulated):
    size, knobs = case
    planned = sum(unit.copies * unit.numbers(spread(knobs)) for unit in units(SIZES[size]))
    assert planned == simulated[0][str(case)]


@pytest.mark.parametrize("case", MOVED, ids=str)
def test_ranks_exchange_what_the_model_of_cost_takes_them_to(case, simulated):
    """Weights of a block twice, of the root once, gradients once; tensor ranks gather and scatter
    the rows of a layer twice a pass, and once more at both ends; context ranks all heads, each way.
    """
    size, knobs = case
    shape, parts = SIZES[size], spread(knobs)
    rows = 4 * 64 * shape.hidden_size  # bytes of all tokens' hidden states
    ends = (4 * shape.num_hidden_layers + 2) * rows if parts.tensor > 1 else 0
    gathered = [4 * unit.copies * unit.gathered(parts) for unit in units(shape)]
    planned = {
        "_allgather_base_": 2 * sum(gathered) - gathered[0] + ends,
        "_reduce_scatter_base_": sum(gathered) + ends,
    }
    if "replicate" in knobs:
        planned["allreduce_"] = sum(gathered) // parts.rows
    if parts.context > 1:  # as many key heads as query heads
        planned["alltoall_base_"] = 2 * shape.num_hidden_layers * 4 * rows
    found = simulated[1][str(case)]
    assert {name: found[name] for name in planned} == pytest.approx(planned, rel=0.02)  # padding


@pytest.mark.parametrize("size", SIZES)
def test_units_hold_all_weights_once(size):
    assert sum(unit.copies * unit.total for unit in units(SIZES[size])) == (
        count.parameters(SIZES[size]).total
    )


@pytest.mark.parametrize("size", ["72b", "57b-a14b"])
def test_the_program_takes_the_layouts_that_are_planned(size):
    work = Work(SIZES[size], 4096, 2**22)
    for layout in layouts(work, Cluster(RANKS, DEVICES["h100"])):
        knobs = {name: getattr(layout, name) for name in ("replicate", "context", "tensor")}
        taken = ContextParallel(**knobs, expert=layout.expert).layout
        taken.check(RANKS)
        assert taken.shard(RANKS) == layout.shard


def test_layouts_that_the_program_would_refuse_are_left_out():
    work = Work(SIZES["7b"], 4096, 2**22)
    assert refused(work, Layout(tensor=4)) is None
    assert "key heads" in refused(work, Layout(tensor=8))
    assert "few rows" in refused(work, Layout(shard=2048))
    assert "experts" in refused(Work(SIZES["a2.7b"], 4096, 2**22), Layout(shard=64, expert=8))


def grouped(left, right, *_, **__):
    """FLOPs of a grouped matmul, which torch does not count, by shapes: [M, K] with [E, K, N] or
    [K, N], of which each row of M meets one [K, N].
    """
    return 2 * left[0] * left[1] * right[-1]


@pytest.mark.parametrize("size", ["tiny", "tiny-moe", "micro"])
def test_the_flops_of_a_step_are_those_of_the_formula(size):
    """Whole sequences: the counter takes attention as all pairs, the formula as half of them."""
    config, length = replace(SIZES[size], vocab_size=512), 64
    with torch.device("meta"):
        model = Transformer(config).to(torch.bfloat16)  # as grouped matmuls want it
        tokens = torch.zeros(2, length, dtype=torch.int64)
    with FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten._grouped_mm: grouped}
    ) as counter:
        model.logits(tokens).sum().backward()
    pairs = 6 * config.num_hidden_layers * config.hidden_size * length
    planned = tokens.numel() * (count.flops_per_token(config, length) + pairs)
    assert counter.get_total_flops() == pytest.approx(planned, rel=1e-3)


def saved(config, tokens):
    """Bytes that autograd keeps of a forward pass on the CPU without C++, beside the weights."""
    model, seen = Transformer(config), {}
    weights = {parameter.data_ptr() for parameter in model.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes(), tensor  # kept, so that none is reused
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = model(torch.zeros(1, tokens, dtype=torch.int64)).hidden
    assert hidden.requires_grad
    return sum(size for size, _ in seen.values())


def test_layers_keep_what_is_planned():
    config = replace(SIZES["tiny"], vocab_size=256, num_hidden_layers=4)
    deeper = replace(config, num_hidden_layers=8)
    planned = [
        memory.activations(shape, Spread(), 512, Kernels(itemsize=4, width=2, passing=0))
        for shape in (config, deeper)
    ]
    measured = [saved(shape, 512) for shape in (config, deeper)]
    assert planned[1] - planned[0] == pytest.approx(measured[1] - measured[0], rel=0.02)


def test_the_chunk_of_logits_is_that_of_the_loss():
    for size in SIZES:
        rows = SIZES[size].vocab_size
        if rows > 4096 * 2:
            assert losses.chunk_tokens(rows, torch.device("cuda")) == memory.CUDA.chunk


def test_what_fits_comes_first_and_the_fastest_of_it():
    found = plans(Work(SIZES["32b"], 4096, 2**22), Cluster(8, DEVICES["h100"]))
    fitting = [plan for plan in found if plan.fits]
    assert found[: len(fitting)] == fitting
    rates = [plan.tokens_per_second for plan in fitting]
    assert rates == sorted(rates, reverse=True)
    assert len(fitting) < len(found)


def test_more_of_anything_costs_no_less_memory():
    shape = SIZES["7b"]

    def total(*parts, **knobs):
        return sum(memory.peak(shape, *parts, **knobs).values())

    least = total(Spread(shard=64, tensor=4), 4096, recompute=True)
    assert least < total(Spread(shard=64), 4096, recompute=True) < total(Spread(shard=64), 4096)
    assert total(Spread(shard=64), 4096) < total(Spread(shard=8), 4096) < total(Spread(), 4096)
    assert total(Spread(shard=8), 4096) < total(Spread(shard=8), 8192)


def test_one_gpu_that_computes_all_the_time_takes_the_flops_over_the_rate():
    work = Work(SIZES["0.5b"], 4096, 2**20, tokens=10**9)
    plan = next(p for p in plans(work, Cluster(1, DEVICES["h200"], share=0.4)) if p.fits)
    assert plan.mfu == pytest.approx(0.4, rel=0.01)
    flops = count.flops_per_token(work.shape, 4096) * work.tokens
    assert plan.days * 86_400 == pytest.approx(flops / (0.4 * 989e12), rel=0.01)
