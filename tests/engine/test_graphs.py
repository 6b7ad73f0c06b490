"""Steps of fixed shapes against the engine without them; what a GPU would record, on a tape."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from baiwen.engine import graphs
from baiwen.engine.engine import Engine
from baiwen.engine.reach import Extend
from baiwen.engine.sampler import Sampling
from baiwen.model import paged_cpu
from baiwen.model.native import build
from baiwen.model.transformer import Transformer

GREEDY = Sampling(max_tokens=40, stop_ids=(), logprobs=2)
DRAWN = Sampling(max_tokens=20, temperature=0.9, top_p=0.95, seed=3, n=2, repetition_penalty=1.1)
PROMPTS = ["hello", "hello world, this is a much longer prompt than the others", "你好", "1 + 1 ="]
SHORT = replace(DRAWN, n=1, max_tokens=9)
ATEN = torch.ops.aten
# The host waits for what these give, or for how much of it there is; `tolist` resolves.
WAITS = {ATEN._local_scalar_dense.default, ATEN.nonzero.default, ATEN.masked_select.default,
         ATEN.equal.default, ATEN._unique2.default, ATEN.repeat_interleave.Tensor,
         ATEN.item.default, ATEN.resolve_neg.default}  # fmt: skip


def assert_alike(found, expected):
    assert [done.ids for done in found] == [done.ids for done in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


@pytest.fixture
def _plain(monkeypatch):
    """The operations that a GPU runs, none of the kernels for a CPU."""
    monkeypatch.setattr(build, "library", lambda _: None)
    monkeypatch.setattr(paged_cpu, "fits", lambda *_: False)


@pytest.fixture
def pair(model, tokenizer):
    """Two engines that differ in the shapes of their steps alone."""

    def built(model=model, **knobs):
        room = {"context": 128, "cache_tokens": 1024, "sequences": 8} | knobs
        return [Engine(model, tokenizer, graphs=graphs, **room) for graphs in (False, True)]

    return built


def initialised(config):
    model = Transformer(config).requires_grad_(False)
    model.init_weights(0)
    return model


@pytest.mark.parametrize(
    ("knobs", "sampling"),
    [
        ({}, GREEDY),
        ({"sequences": 3, "prefix_cache": False}, DRAWN),
        ({"cache_tokens": 128, "step_tokens": 12}, DRAWN),
        ({"lookup": 2}, GREEDY),
    ],
    ids=["plain", "in turns", "preempted", "with guesses"],
)
def test_steps_of_fixed_shapes_answer_as_any(pair, monkeypatch, knobs, sampling):
    monkeypatch.setattr(graphs, "LEAST", 32)  # answers grow out of a shape
    dynamic, fixed = pair(**knobs)
    assert_alike(fixed.generate(PROMPTS, sampling), dynamic.generate(PROMPTS, sampling))
    assert fixed.stats() == dynamic.stats()
    assert fixed.runner.graphs.recorded > 1
    assert (fixed.stats()["preemptions"] > 0) == (fixed.pool.total == 8)


def test_a_draft_guesses_by_fixed_shapes_as_by_any(pair, config):
    dynamic, fixed = pair(draft=initialised(replace(config, num_hidden_layers=1)))
    assert_alike(fixed.generate(PROMPTS, SHORT), dynamic.generate(PROMPTS, SHORT))
    assert fixed.stats() == dynamic.stats()
    assert fixed.runner.graphs.recorded


class Tape(TorchDispatchMode):
    """What a CUDA graph is, on a CPU: operations on tensors where they lie, done again in order.

    What a graph could not hold is refused: a host that waits, and tensors from elsewhere, which
    would be copied to a GPU.
    """

    def __init__(self, known):
        super().__init__()
        self.calls, self.places = [], {x.untyped_storage().data_ptr() for x in known}

    def __torch_dispatch__(self, function, _types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in WAITS:
            raise RuntimeError(f"the host waits for {function}")
        for x in tensors((args, kwargs)):
            if x.untyped_storage().data_ptr() not in self.places:
                raise RuntimeError(f"{function} reads what is not on the device")
        out = function(*args, **kwargs)
        self.places.update(x.untyped_storage().data_ptr() for x in tensors(out))
        self.calls.append((function, args, kwargs, out))  # which keeps the tensors where they lie
        return out

    def repeat(self):
        for function, args, kwargs, out in self.calls:
            for old, new in zip(tensors(out), tensors(function(*args, **kwargs)), strict=True):
                if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)  # neither a view nor in place


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def taped(engine):
    """The engine, whose steps are recorded on tapes."""
    runner = engine.runner
    caches = [x for cache in runner.caches for x in (cache.slabs, cache.scales) if x is not None]
    weights = [weight for model in runner.models for weight in model.parameters()]
    routes = [] if runner.routes is None else [runner.routes.kept]

    def record(run):
        run()
        tape = Tape([*caches, *weights, *routes, run.args[1]])
        with tape:
            out = run()

        def repeat():
            tape.repeat()
            return out

        return repeat

    runner.graphs.record = record
    return engine


LONG = {"context": 256, "extend": Extend(local=8)}


@pytest.mark.usefixtures("_plain")
@pytest.mark.parametrize(
    "knobs",
    [{}, {"kv": "int8"}, LONG, LONG | {"extend": Extend(dca=False)}],
    ids=["plain", "int8", "dca", "yarn"],
)
def test_a_recorded_step_holds_all_that_depends_on_its_input(pair, config, monkeypatch, knobs):
    monkeypatch.setattr(graphs, "LEAST", 64)
    model = initialised(replace(config, max_position_embeddings=64 if "extend" in knobs else 128))
    dynamic, fixed = pair(model, sequences=4, **knobs)
    prompts = [[5, 6, 7], [8] * 60, [9] * (fixed.context - 20)]
    taped(fixed)
    for asked in (prompts[:2], prompts):
        assert_alike(fixed.generate(asked, SHORT), dynamic.generate(asked, SHORT))
    assert fixed.runner.graphs.recorded > 2


@pytest.mark.usefixtures("_plain")
def test_a_recorded_mixture_tells_the_experts_of_any(pair, config):
    shape = replace(config, num_experts=6, num_experts_per_tok=2,
                    moe_intermediate_size=24, shared_expert_intermediate_size=24)  # fmt: skip
    dynamic, fixed = pair(initialised(shape), sequences=6, routes=True)
    found, expected = taped(fixed).generate(PROMPTS, SHORT), dynamic.generate(PROMPTS, SHORT)
    assert_alike(found, expected)
    assert [done.routes for done in found] == [done.routes for done in expected]
    assert fixed.runner.graphs.recorded == 1


@pytest.mark.usefixtures("_plain")
def test_under_autocast_a_recording_casts_the_weights_as_they_are(pair, config):
    ours = initialised(config)
    dynamic, fixed = pair(ours)
    taped(fixed)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            found, expected = (
                engine.generate(PROMPTS[:1], replace(SHORT, max_tokens=3))[0].logprobs
                for engine in (fixed, dynamic)
            )
        assert found == pytest.approx(expected, abs=0.03)
        with torch.no_grad():
            ours.model.embed_tokens.weight *= -1
        fixed.reset_cache(), dynamic.reset_cache()
    assert fixed.runner.graphs.recorded == 1


def test_what_cannot_be_recorded_is_told_once_and_goes_the_other_way(pair, monkeypatch, capsys):
    dynamic, fixed = pair()
    tried = []

    def record(run):
        tried.append(run())
        raise RuntimeError("the host waits")

    monkeypatch.setattr(fixed.runner.graphs, "record", record)
    assert_alike(fixed.generate(PROMPTS, SHORT), dynamic.generate(PROMPTS, SHORT))
    assert len(tried) == 1
    assert capsys.readouterr().err.count("without CUDA graphs: the host waits") == 1


def test_a_step_of_fixed_shape_writes_its_own_slots_and_the_scratch_block(pair):
    _, fixed = pair(sequences=4, prefix_cache=False)
    runner, kept = fixed.runner, []
    inner = runner._repeated
    for prompt in PROMPTS[:3]:
        fixed.add(prompt, SHORT)
    fixed.step()  # the prompts

    def repeated(model, shape, samples, done, ids):
        before = runner.caches[0].slabs.clone()
        out = inner(model, shape, samples, done, ids)
        changed = (runner.caches[0].slabs != before).any(-1).any(-1).any(0).any(0).nonzero()
        own = [[one.table[at // 16], at % 16] for one, at in zip(samples, done, strict=True)]
        kept.append((changed.tolist(), sorted([*own, [fixed.pool.total, 0]])))
        return out

    runner._repeated = repeated
    fixed.step()
    assert [kept[0][0]] == [kept[0][1]]


@pytest.mark.parametrize("moved", [False, True])
def test_weights_that_change_in_place_keep_the_recordings_and_others_end_them(pair, model, moved):
    ours = initialised(model.config)
    _, fixed = pair(ours)
    before = fixed.generate(PROMPTS, SHORT)
    recorded = fixed.runner.graphs.recorded
    with torch.no_grad():
        for weight in ours.parameters():
            if moved:
                weight.data = weight * -1.5
            else:
                weight *= -1.5
    fixed.reset_cache()
    assert fixed.runner.graphs.recorded == (0 if moved else recorded) != recorded * moved
    after = fixed.generate(PROMPTS, SHORT)
    assert_alike(after, pair(ours)[0].generate(PROMPTS, SHORT))
    assert [done.ids for done in after] != [done.ids for done in before]


def test_shapes_are_powers_of_two_up_to_what_may_be_asked(pair, monkeypatch):
    monkeypatch.setattr(graphs, "LEAST", 32)
    found = pair(sequences=6)[1].runner.graphs
    assert found.shape([5]) == (1, 2)
    assert found.shape([33, 5, 5]) == (4, 4)
    assert found.shape([128] * 5) == (6, 8)
    assert set(found.shapes()) == {(n, m) for n in (1, 2, 4, 6) for m in (2, 4, 8)}
    assert found.shapes()[0] == (6, 8)


def test_a_step_that_would_mostly_be_filled_up_goes_the_other_way(pair, monkeypatch):
    monkeypatch.setattr(graphs, "LEAST", 32)
    token = 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, size, bytes
    monkeypatch.setattr(graphs, "FILLED", 100 * token)
    found = pair(cache_tokens=256)[1].runner.graphs
    assert found.shape([128, 30]) == (2, 8)  # 98 tokens too many
    assert found.shape([128, 20]) is None
    assert found.shape([30, 20, 20]) == (4, 2)
    assert (2, 8) in found.shapes() and (8, 8) not in found.shapes()
