"""What accelerators can do, by their vendors' data sheets: rows of a table for `baiwen plan`.

    DEVICES["h200"].flops                             # 9.89e14
    device("h100")
    device("memory=96,flops=148e12,hbm=4000,link=450,network=50,node=8")     # or one's own

Rates of links and networks are those of one direction, of one GPU; all are peaks, of which a run
reaches a share (`cluster.py`).
"""

import math
from dataclasses import MISSING, dataclass, fields

from baiwen.errors import UserError
from baiwen.mistakes import nearest


@dataclass(frozen=True)
class Device:
    """One accelerator and its surroundings."""

    memory: float  # GiB that a program may use
    flops: float  # FLOP/s of dense bf16 matmuls with fp32 sums, without sparsity
    hbm: float  # GB/s of its memory
    link: float  # GB/s to the other GPUs of its node
    network: float  # GB/s to other nodes
    node: int = 8  # GPUs of a node
    overlap: bool = True  # whether it computes while it sends and receives
    # Of collectives, with NCCL, all three assumed: seconds that a step of one takes however little
    # it carries; and how fast those are that sum, and those that swap parts, to those that gather.
    hop: float = 5e-6
    sums: float = 1.0
    swaps: float = 1.0


# Memory is what the driver reports (nvidia-smi, memory.total), which is below the number on the
# box. Networks are those of the vendor's own servers (DGX: one adapter a GPU), else as said.
DEVICES = {
    # A100 80GB SXM data sheet: 312 TFLOPS, 2,039 GB/s, NVLink 600 GB/s in both directions.
    # DGX A100 data sheet: 8 x 200 Gb/s.
    "a100": Device(memory=80.0, flops=312e12, hbm=2039, link=300, network=25),
    # H100 SXM data sheet: 1,979 TFLOPS with sparsity, 3.35 TB/s, NVLink 900 GB/s in both
    # directions. DGX H100 data sheet: 8 x 400 Gb/s.
    "h100": Device(memory=79.6, flops=989e12, hbm=3350, link=450, network=50),
    # H200 SXM data sheet: as the H100, with 141 GB at 4.8 TB/s.
    "h200": Device(memory=140.4, flops=989e12, hbm=4800, link=450, network=50),
    # HGX H20 data sheet: 148 TFLOPS, 96 GB at 4.0 TB/s, NVLink 900 GB/s in both directions;
    # networks as those of HGX H100.
    "h20": Device(memory=95.6, flops=148e12, hbm=4000, link=450, network=50),
    # HGX B200 data sheet: 36 PFLOPS with sparsity of 8 GPUs, NVLink 1.8 TB/s in both directions;
    # DGX B200 data sheet: 1,440 GB at 64 TB/s of 8 GPUs, 8 x 400 Gb/s.
    "b200": Device(memory=179.0, flops=2250e12, hbm=8000, link=900, network=50),
    # L40S data sheet: 362.05 TFLOPS, 48 GB at 864 GB/s, PCIe 4.0 x16 with 64 GB/s in both
    # directions; a network of 100 Gb/s a GPU is ours.
    "l40s": Device(memory=45.0, flops=362e12, hbm=864, link=32, network=12.5),
    # Ada architecture white paper, appendix A: 165.2 TFLOPS, 24 GB at 1,008 GB/s; PCIe 4.0 x16,
    # through the host's memory (no peer to peer): half; a network of 10 Gb/s a GPU is ours.
    "4090": Device(memory=24.0, flops=165.2e12, hbm=1008, link=16, network=1.25),
}


def device(text: str) -> Device:
    """The row of that name, or one's own as `memory=80,flops=3e14,...`, in the units above."""
    if "=" not in text:
        if text not in DEVICES:
            raise UserError(
                f"--gpu {text}: is none of {', '.join(DEVICES)}.{nearest(text, list(DEVICES))}\n"
                f"    Your own: --gpu {_example()}"
            )
        return DEVICES[text]
    given = {name: value for name, _, value in (part.partition("=") for part in text.split(","))}
    needed = [field.name for field in fields(Device) if field.default is MISSING]
    wrong = [name for name in given if name not in (*needed, "node")]
    wrong += [name for name in needed if name not in given]
    if wrong:
        raise UserError(f"--gpu {text}: {wrong[0]} unknown or missing, as in --gpu {_example()}")
    memory, flops, hbm, link, network = (_number(text, name, given[name]) for name in needed)
    node = _number(text, "node", given.get("node", "8"))
    if node % 1:
        raise UserError(f"--gpu {text}: node = {node:g} is not a number of GPUs")
    return Device(memory, flops, hbm, link, network, int(node))


def _number(text: str, name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise UserError(f"--gpu {text}: {name} = {value!r} is not a number above 0")
    return number


def _example() -> str:
    return "memory=80,flops=989e12,hbm=3350,link=450,network=50,node=8 (GiB, FLOP/s, GB/s)"
