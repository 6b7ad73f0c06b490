"""Processes, devices, precision and seeds."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from baiwen import dist
from baiwen.errors import UserError

CPUINFO = Path("/proc/cpuinfo")
TWO_RANKS = """
import json, sys, time
import torch
from baiwen import dist
with dist.session(device="cpu", dtype="float32", seed=5, threads=1, timeout=60) as world:
    mine = torch.tensor([world.rank + 1.0, 10.0])
    total = dist.sum_over(world, mine)
    time.sleep(0.5 * world.rank)
    before = time.time()
    dist.barrier(world)
    seen = {
        "rank": world.rank, "size": world.size, "main": world.main,
        "meshes": [list(world.meshes.weights.mesh.shape), list(world.meshes.rows.mesh.shape)],
        "sum": total.tolist(), "mine": mine.tolist(), "draw": torch.rand(1).item(),
        "waited": time.time() - before, "backend": torch.distributed.get_backend(),
    }
for again in range(3):
    with dist.session(device="cpu", threads=1, timeout=60) as world:
        seen["sum again"] = dist.sum_over(world, torch.ones(1)).item()
with dist.session(device="cpu", threads=1, timeout=60, layout=dist.Layout(context=2)) as world:
    seen["shared"] = [world.share, world.shares, world.context.size(), world.context.rank()]
with dist.session(device="cpu", threads=1, timeout=4) as world:
    time.sleep(6 * world.main)  # rank 0 writes for longer than a collective would wait
seen["left"] = not torch.distributed.is_initialized()
open(f"{sys.argv[1]}/{world.rank}.json", "w").write(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def ranks(forks, tmp_path_factory):
    """What each of two gloo processes saw."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "two_ranks.py").write_text(TWO_RANKS)
    done = forks.run(folder / "two_ranks.py", folder, ranks=2)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def test_two_processes_find_their_places(ranks):
    assert [(seen["rank"], seen["size"]) for seen in ranks] == [(0, 2), (1, 2)]
    assert [seen["main"] for seen in ranks] == [True, False]
    assert all(
        seen["meshes"] == [[1, 2, 1], [2, 1, 1]] and seen["backend"] == "gloo" for seen in ranks
    )
    assert all(seen["left"] for seen in ranks)


def test_a_sum_over_ranks_is_the_same_everywhere_and_leaves_its_argument(ranks):
    assert [seen["sum"] for seen in ranks] == [[3.0, 20.0], [3.0, 20.0]]
    assert [seen["mine"] for seen in ranks] == [[1.0, 10.0], [2.0, 10.0]]


def test_ranks_that_share_rows_read_one_share(ranks):
    assert [seen["shared"] for seen in ranks] == [[0, 1, 2, 0], [0, 1, 2, 1]]


def test_sessions_follow_one_another_in_the_same_processes(ranks):
    assert [seen["sum again"] for seen in ranks] == [2.0, 2.0]


def test_a_barrier_waits_for_the_slowest(ranks):
    assert ranks[0]["waited"] > 0.2 > ranks[1]["waited"]


def test_a_barrier_has_more_patience_than_a_collective(ranks):
    assert all(seen["left"] for seen in ranks)


def test_every_rank_draws_alike(ranks):
    assert ranks[0]["draw"] == ranks[1]["draw"]


def test_one_process_is_its_own_world():
    tensor = torch.ones(2)
    with dist.session(device="cpu") as world:
        assert (world.rank, world.size, world.meshes) == (0, 1, None)
        assert world.main
        assert dist.sum_over(world, tensor) is tensor
        dist.barrier(world)


def test_a_process_under_torchrun_has_a_place_of_its_own(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert dist.place("cpu", "bfloat16") == (torch.device("cpu"), torch.bfloat16)
    assert not torch.distributed.is_initialized()


def test_the_seed_sets_every_generator():
    draws = []
    for seed in (3, 3, 4):
        with dist.session(device="cpu", seed=seed):
            draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]
    assert all(one != other for one, other in zip(draws[1], draws[2], strict=True))


def test_threads_bound_those_of_torch():
    before = torch.get_num_threads()
    try:
        with dist.session(device="cpu", threads=before + 1):
            assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("name", "dtype"), [("bfloat16", torch.bfloat16), ("float32", torch.float32)]
)
def test_autocast_multiplies_in_the_dtype_and_leaves_the_weights(name, dtype):
    layer = torch.nn.Linear(4, 4)
    with dist.session(device="cpu", dtype=name) as world, world.autocast():
        assert layer(torch.ones(1, 4)).dtype == dtype
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("flag", "fast"),
    [("_is_avx512_bf16_supported", True), ("_is_amx_tile_supported", True), ("none", False)],
)
def test_bf16_is_chosen_where_the_cpu_has_it(monkeypatch, no_gpu, flag, fast):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda answer=name == flag: answer)
    with dist.session() as world:
        assert world.device == torch.device("cpu")
        assert world.dtype == (torch.bfloat16 if fast else torch.float32)


def test_the_probe_names_flags_that_torch_has():
    assert hasattr(torch.cpu, "_is_avx512_bf16_supported")
    assert hasattr(torch.cpu, "_is_amx_tile_supported")


@pytest.mark.skipif(not CPUINFO.exists(), reason="needs /proc/cpuinfo")
def test_the_probe_agrees_with_the_kernel():
    flags = CPUINFO.read_text().split()
    assert dist.fast_bf16() == ("avx512_bf16" in flags or "amx_tile" in flags)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"device": "tpu"}, "device = 'tpu' is unknown; it is one of auto, cpu, cuda, cuda:N"),
        ({"device": "cuda:x"}, "device = 'cuda:x' is unknown"),
        ({"device": "cuda"}, "device = 'cuda': there is no GPU 0 here (0 found); use 'cpu'"),
        ({"device": "cuda:3"}, "there is no GPU 3 here"),
        (
            {"dtype": "float16"},
            "dtype = 'float16' is unknown; it is one of auto, bfloat16, float32",
        ),
    ],
)
def test_an_unknown_device_or_dtype_is_refused_beside_those_there_are(no_gpu, knobs, words):
    with pytest.raises(UserError) as error, dist.session(**knobs):
        pytest.fail("opened")
    assert words in str(error.value)
