"""`torchrun ... -m baiwen doctor`: who is where, and how fast the ranks exchange.

    ok    ranks      2 on 1 machine: vm (2 x CPU)
    ok    versions   python 3.11.7, torch 2.13.0+cpu, baiwen 0.1.0 on all ranks
    ok    all-reduce 16 MiB in 20.1 ms: 0.8 GB/s of each rank's links; 16 bytes in 783 us
    ok    all-to-all 16 MiB in 12.6 ms: 0.7 GB/s of each rank's links; 16 bytes in 425 us

The rates are bus bandwidths, to be held against the data sheet: what a link carries, whatever the
number of ranks (nccl-tests, doc/PERFORMANCE.md: 2 (n-1) / n and (n-1) / n of the bytes).
"""

import platform
import time
from collections import Counter
from collections.abc import Callable
from importlib import metadata

import torch
import torch.distributed

from baiwen import dist
from baiwen.dist import World

Finding = tuple[str, str]  # ok, note or fault; what was found

BYTES = {"cpu": 16 * 2**20, "cuda": 128 * 2**20}  # of the large exchange
REPEATS = 5


def findings(world: World) -> dict[str, Finding]:
    """What all ranks together found, alike on each."""
    device = torch.cuda.get_device_name() if world.device.type == "cuda" else "CPU"
    here = {
        "host": platform.node(),
        "device": device,
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, "
        f"baiwen {metadata.version('baiwen')}",
    }
    places = dist.gather(world, here)
    return {
        "ranks": _ranks(places),
        "versions": _versions(places),
        "all-reduce": _rate(world, 2.0, torch.distributed.all_reduce),
        "all-to-all": _rate(world, 1.0, _all_to_all),
    }


def _ranks(places: list[dict[str, str]]) -> Finding:
    machines: dict[str, Counter[str]] = {}
    for place in places:
        machines.setdefault(place["host"], Counter())[place["device"]] += 1
    told = [
        f"{host} ({', '.join(f'{number} x {name}' for name, number in devices.items())})"
        for host, devices in machines.items()
    ]
    noun = "machine" if len(machines) == 1 else "machines"
    uneven = len({tuple(devices.items()) for devices in machines.values()}) > 1
    return "note" if uneven else "ok", f"{len(places)} on {len(machines)} {noun}: {', '.join(told)}"


def _versions(places: list[dict[str, str]]) -> Finding:
    found = Counter(place["versions"] for place in places)
    if len(found) == 1:
        return "ok", f"{places[0]['versions']} on all ranks"
    usual = found.most_common(1)[0][0]
    others = {place["host"]: place["versions"] for place in places if place["versions"] != usual}
    told = "; ".join(f"{host} has {versions}" for host, versions in others.items())
    return "fault", f"{usual}, but {told}"


def _all_to_all(tensor: torch.Tensor) -> None:
    torch.distributed.all_to_all_single(torch.empty_like(tensor), tensor)


def _rate(world: World, share: float, exchange: Callable[[torch.Tensor], object]) -> Finding:
    size = BYTES[world.device.type] // (4 * world.size) * world.size
    large = torch.ones(size, device=world.device)
    small = torch.ones(2 * world.size, device=world.device)
    slow, fast = (_seconds(world, exchange, tensor) for tensor in (large, small))
    carried = large.nbytes * share * (world.size - 1) / world.size
    return "ok", (
        f"{large.nbytes / 2**20:.0f} MiB in {1e3 * slow:,.1f} ms: {carried / slow / 1e9:,.1f} GB/s "
        f"of each rank's links; {small.nbytes} bytes in {1e6 * fast:,.0f} us"
    )


def _seconds(
    world: World, exchange: Callable[[torch.Tensor], object], tensor: torch.Tensor
) -> float:
    """The best of a few, of the slowest rank."""
    best = float("inf")
    for _ in range(REPEATS + 1):  # the first one connects
        torch.distributed.barrier()
        began = time.perf_counter()
        exchange(tensor)
        if world.device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, max(dist.gather(world, time.perf_counter() - began)))
    return best
