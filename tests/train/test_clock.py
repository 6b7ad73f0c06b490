"""The terms of a step's seconds, each where the others are nothing."""

from dataclasses import replace

import pytest

from baiwen.model.sizes import SIZES
from baiwen.train.clock import LINKS, Clock
from baiwen.train.devices import Device
from baiwen.train.spread import Spread, units

SHAPE = SIZES["3b"]
AT_ONCE = Device(memory=1.0, flops=1e30, hbm=1e30, link=1e30, network=1e30, hop=0.0, overlap=False)


def parts(spread, **knobs):
    device = replace(AT_ONCE, **knobs)
    return Clock(SHAPE, 4096, spread, 1, False, 8192, device, 1.0).step(1)


def gathered(spread):
    root, *blocks = units(SHAPE)
    return root.gathered(spread), sum(unit.copies * unit.gathered(spread) for unit in blocks)


def test_what_is_gathered_and_sent_is_copied_at_the_rate_of_the_memory():
    """Blocks in bf16 twice, their gradients into fp32 once; of the root all in fp32."""
    root, blocks = gathered(Spread(shard=8))
    copied = blocks * (2 * (2 + 2) + 2 + 4) + root * (4 + 4 + 4 + 4)
    found = parts(Spread(shard=8), hbm=1000.0)
    assert found["weights"] == pytest.approx(copied / 1e12)
    assert parts(Spread(), hbm=1000.0)["weights"] == 0.0  # one process gathers nothing
    assert found["optimizer"] == pytest.approx(
        parts(Spread(), hbm=1000.0)["optimizer"] / 8, rel=0.01
    )


def test_collectives_that_sum_take_a_rate_of_their_own():
    root, blocks = gathered(Spread(shard=8))
    link = 7 / 8 / (LINKS * 100e9)
    gathers, scatters = (2 * 2 * blocks + 4 * root) * link, 4 * (blocks + root) * link
    assert parts(Spread(shard=8), link=100.0)["weights"] == pytest.approx(gathers + scatters)
    slow = parts(Spread(shard=8), link=100.0, sums=0.5)["weights"]
    assert slow == pytest.approx(gathers + 2 * scatters)


def test_tensor_ranks_exchange_states_around_and_between_the_layers():
    """Per pass a gather and a scatter twice a layer in bf16; at the ends one of each, one fp32."""
    states = 8192 * SHAPE.hidden_size
    link = 1 / 2 / (LINKS * 100e9)
    layers = 2 * SHAPE.num_hidden_layers * 4 * 2 * states
    found = parts(Spread(tensor=2), link=100.0)["tensor"]
    assert found == pytest.approx((layers + 2 * (4 + 2) * states) * link)


def test_every_collective_takes_its_steps_however_little_it_carries():
    layers = SHAPE.num_hidden_layers
    assert parts(Spread(shard=8), hop=1e-3)["weights"] == pytest.approx((3 * layers + 2) * 7e-3)
