"""The one loop: what a step's gradient is, and which steps are applied."""

import math
from dataclasses import replace

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from baiwen import files
from baiwen.errors import UserError
from baiwen.train.balance import Routers
from baiwen.train.guard import Guard
from baiwen.train.loop import Loop, accumulate, advance, evaluate, train
from baiwen.train.losses import lm
from baiwen.train.optim import Optim, build
from baiwen.train.schedule import Schedule

KNOBS = {"optim": Optim(lr=1e-2), "schedule": Schedule()}


def gradient(tiny, world, micro_rows, config=None):
    model = tiny.model(config or tiny.CONFIG)
    metrics = accumulate(model, tiny.loader(micro_rows=micro_rows).step(0), lm, world)
    return metrics, {name: p.grad for name, p in model.named_parameters()}


def test_eight_micro_batches_of_a_row_equal_one_of_eight(tiny, world):
    whole, expected = gradient(tiny, world, micro_rows=8)
    for micro_rows in (1, 2, 4):
        parts, found = gradient(tiny, world, micro_rows)
        assert float(parts["loss"]) == pytest.approx(float(whole["loss"]), rel=1e-6)
        for name, grad in expected.items():
            torch.testing.assert_close(found[name], grad, rtol=1e-5, atol=1e-6)


def test_loss_and_gradient_equal_those_of_transformers(tiny, world):
    model = tiny.model()
    hf = Qwen2ForCausalLM(Qwen2Config(**model.config.to_dict(), attn_implementation="sdpa"))
    hf.load_state_dict(model.state_dict(), strict=False)
    hf.tie_weights()
    tokens = torch.randint(0, tiny.CONFIG.vocab_size, (8, tiny.LENGTH))
    batch = tiny.loader(micro_rows=8).step(0)[0]
    documents = type(batch.documents).of([[tiny.LENGTH]] * 8)
    targets, mask = tokens.roll(-1, 1), torch.ones(tokens.shape)
    mask[:, -1] = 0
    batch = replace(
        batch, tokens=tokens, targets=targets, mask=mask, positions=documents.positions,
        documents=documents, count=float(mask.sum()),
    )  # fmt: skip
    metrics = accumulate(model, [batch], lm, world)
    loss = hf(input_ids=tokens, labels=tokens).loss
    loss.backward()
    assert float(metrics["loss"]) == pytest.approx(loss.item(), rel=1e-6)
    theirs = dict(hf.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-4, atol=1e-6)


def test_the_mean_is_over_the_weights_of_the_targets(tiny, world):
    batches = tiny.loader(micro_rows=8).step(0)
    model = tiny.model()
    doubled = [replace(b, mask=2 * b.mask, count=2 * b.count) for b in batches]
    one, other = (float(accumulate(model, b, lm, world)["loss"]) for b in (batches, doubled))
    assert one == pytest.approx(other, rel=1e-6)


def test_the_balance_of_one_micro_batch_is_that_of_the_global_batch(tiny, world):
    """E * sum_e (assignments / tokens) * (mean probability), a layer, without padding."""
    model = tiny.model(tiny.MOE)
    batch = tiny.loader(micro_rows=8).step(0)[0]
    found = accumulate(model, [batch], lm, world)["balance"]
    out = model(batch.tokens, positions=batch.positions, documents=batch.documents)
    sums = out.routing.sums
    shares, means = sums.counts / sums.tokens, sums.probs / sums.tokens
    layers = tiny.MOE.num_experts * (shares * means).sum(1)
    expected = tiny.MOE.router_aux_loss_coef * layers.mean()
    torch.testing.assert_close(found, expected.detach())
    assert int(sums.tokens) == batch.real


def test_the_router_z_loss_is_the_mean_square_of_the_routers_normaliser(tiny, world):
    """Over the real tokens of all layers and micro-batches, with its gradient (ST-MoE, eq. 5)."""
    model = tiny.model(tiny.MOE)
    gates = [block.mlp.gate for block in model.model.layers]
    step = tiny.loader(micro_rows=4).step(0)
    assert "router_z" not in accumulate(model, step, lm, world)
    without = [gate.weight.grad.clone() for gate in gates]
    model.zero_grad()
    found = accumulate(model, step, lm, world, Routers(tiny.MOE, world, z_loss=0.5))["router_z"]
    of_z = [gate.weight.grad - grad for gate, grad in zip(gates, without, strict=True)]

    logits, squares = [], []
    for gate in gates:
        gate.register_forward_hook(lambda _, __, out: logits.append(out))
    for batch in step:
        model(batch.tokens, positions=batch.positions, documents=batch.documents)
        real = torch.as_tensor(batch.documents.real).flatten()
        squares += [out[real].logsumexp(-1).square() for out in logits]
        logits.clear()
    expected = 0.5 * torch.cat(squares).mean()
    torch.testing.assert_close(found, expected.detach())
    grads = torch.autograd.grad(expected, [gate.weight for gate in gates])
    for grad, wanted in zip(of_z, grads, strict=True):
        torch.testing.assert_close(grad, wanted, rtol=1e-3, atol=1e-6)


def test_the_balance_of_many_micro_batches_is_near_that_of_one(tiny, world):
    whole, parts = (gradient(tiny, world, m, tiny.MOE)[0]["balance"] for m in (8, 2))
    torch.testing.assert_close(parts, whole, rtol=0.02, atol=0)


def test_activation_checkpointing_changes_no_bit(tiny, world):
    _, expected = gradient(tiny, world, 4)
    model = tiny.model()
    model.checkpoint_blocks = True
    accumulate(model, tiny.loader(micro_rows=4).step(0), lm, world)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, expected[name])


def poisoned(tiny, at):
    """Batches of which those of some steps give a loss that is not finite."""

    def batches(step):
        found = tiny.loader().step(step)
        return [replace(b, mask=b.mask * math.inf) for b in found] if step in at else found

    return batches


def test_a_loss_that_is_not_finite_changes_neither_weights_nor_moments(tiny, world):
    model, guard = tiny.model(), Guard(max_skipped=10, skip_spikes=False)
    optimizers = build(model, Optim())
    knobs = (lm, optimizers, guard, world, Optim())
    advance(model, poisoned(tiny, {1})(0), *knobs)
    before = [p.detach().clone() for p in model.parameters()]
    moments = [s.clone() for state in optimizers[0].state.values() for s in state.values()]
    metrics = advance(model, poisoned(tiny, {1})(1), *knobs)
    assert not math.isfinite(metrics["loss"]) and metrics["skipped"] == 1
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    after = [s for state in optimizers[0].state.values() for s in state.values()]
    assert all(torch.equal(a, b) for a, b in zip(moments, after, strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_skipped_steps_in_a_row_stop_the_run_and_name_the_last_checkpoint(tiny, world, tmp_path):
    loop = Loop(max_skipped=3, save_every=2)
    batches = poisoned(tiny, set(range(4, 20)))
    with pytest.raises(UserError, match=r"step 7: .*(?s:.)*one of step 4"):
        train(
            tiny.model(), batches, lm, steps=20, loop=loop, world=world, out=tmp_path, **KNOBS
        )  # fmt: skip
    assert [row["skipped"] for row in tiny.metrics(tmp_path)] == [0, 0, 0, 0, 1, 2, 3]
    assert [row["loss"] for row in tiny.metrics(tmp_path)][4:] == [None] * 3


def test_a_short_run_that_skips_half_of_its_steps_is_not_done(tiny, world, tmp_path):
    batches = poisoned(tiny, {1, 2})
    with pytest.raises(UserError, match=r"step 3: .* 2 steps in a row"):
        train(
            tiny.model(), batches, lm, steps=4, loop=Loop(), world=world, out=tmp_path, **KNOBS
        )  # fmt: skip


def test_held_out_loss_is_the_mean_over_all_held_out_targets(tiny, world):
    model = tiny.model()
    batches = tiny.loader(micro_rows=2).step(3)
    whole = tiny.loader(micro_rows=8).step(3)
    expected = float(accumulate(model, whole, lm, world)["loss"])
    found = evaluate(model, batches, lm, world)
    assert found == {"heldout_loss": pytest.approx(expected, rel=1e-6)}


def test_metrics_tell_of_every_step(tiny, world, tmp_path):
    held = tiny.loader().step(9)
    train(
        tiny.model(), tiny.loader().step, lm, steps=6, loop=Loop(eval_every=4), world=world,
        out=tmp_path, heldout=held, **KNOBS,
    )  # fmt: skip
    rows = list(files.read_jsonl(tmp_path / "metrics.jsonl"))
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if "heldout_loss" in row] == [4, 6]
    wanted = {"loss", "lr", "grad_norm", "tokens", "tokens_per_second", "mfu", "memory", "seconds"}
    assert wanted <= rows[0].keys()
    assert rows[0]["tokens"] == sum(batch.real for batch in tiny.loader().step(0))
    assert rows[-1]["loss"] < rows[0]["loss"]


@pytest.mark.parametrize(("minutes", "saved"), [(1e-9, [1, 2, 3]), (60.0, [3])])
def test_a_checkpoint_is_written_once_the_minutes_are_over(tiny, world, tmp_path, minutes, saved):
    loop = Loop(save_every=1000, save_minutes=minutes, keep=9)
    train(
        tiny.model(), tiny.loader().step, lm, steps=3, loop=loop, world=world, out=tmp_path, **KNOBS
    )
    written = [path.name for path in sorted((tmp_path / "state").iterdir())]
    assert written == [f"step-{step:08d}" for step in saved]


@pytest.mark.parametrize("muon", [False, True])
def test_the_model_learns_to_count(tiny, tmp_path, muon):
    tiny.run(tmp_path, steps=40, muon=muon)
    losses = [row["heldout_loss"] for row in tiny.metrics(tmp_path) if "heldout_loss" in row]
    assert losses[-1] < 0.5 * losses[0]


def test_bf16_keeps_weights_and_gradients_in_fp32_and_comes_near_them(tiny, world):
    _, expected = gradient(tiny, world, 4)
    _, found = gradient(tiny, replace(world, dtype=torch.bfloat16), 4)
    for name, grad in found.items():
        assert grad.dtype == torch.float32
        assert (grad - expected[name]).norm() < 0.05 * expected[name].norm() + 1e-4, name
