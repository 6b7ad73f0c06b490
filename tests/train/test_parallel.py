"""What is traded for memory or speed on one process; `test_layouts.py` has those of many."""

import functools

import pytest
import torch

from baiwen.errors import UserError
from baiwen.stages import pretrain
from baiwen.train.losses import head_loss
from baiwen.train.parallel import Parallel, shard


@pytest.mark.parametrize("shape", ["CONFIG", "MOE"])
def test_compiled_blocks_give_the_same_gradients(shape, tiny, world, monkeypatch):
    """Traced in earnest; run by the eager backend, since inductor's C++ takes a minute."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    batch = tiny.loader(micro_rows=8).step(0)[0]
    grads = []
    for knobs in (Parallel(), Parallel(compile=True, activation_checkpointing=True)):
        model = shard(tiny.model(getattr(tiny, shape)), knobs, world)
        outputs = model(batch.tokens, positions=batch.positions, documents=batch.documents)
        head_loss(outputs.hidden, outputs.head, batch.targets, batch.mask)[0].backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    plain, compiled = grads
    assert plain.keys() == compiled.keys()
    for name, grad in plain.items():
        torch.testing.assert_close(grad, compiled[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("knobs", [{"tensor": 4}, {"expert": 2}, {"context": 3}])
def test_a_model_that_ranks_cannot_divide_is_told_of_by_its_plan(knobs):
    config = pretrain.Config(
        out="a", shards="b", tokenizer="c", size="0.5b", tokens=2**30, parallel=knobs,
        sequence_length=6, tokens_per_step=96, micro_tokens=96,
    )  # fmt: skip
    with pytest.raises(UserError, match=rf"parallel\.{next(iter(knobs))} = "):
        pretrain.plan(config)
