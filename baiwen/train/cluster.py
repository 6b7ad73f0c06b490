"""The layouts of a training run on a cluster: what fits, how fast, the cheapest first (no torch).

    work = Work(SIZES["72b"], sequence_length=4096, tokens_per_step=2**22, tokens=18 * 10**12)
    for plan in plans(work, Cluster(64, DEVICES["h200"])):
        print(plan.layout, plan.tokens_per_second, sum(plan.memory.values()))

A step is the sum of what cannot be hidden (docs/cluster.md states each term and what it rests on):

    micro-batches x (forward + backward + the root's gather and scatter) + optimizer + beside
    forward of a unit  = max(compute + exchanges, gather)
    backward of a unit = max(compute + exchanges, gather + scatter)

compute: FLOPs over a share of the peak. Gathers and scatters: bytes of FSDP2 over the slowest link
of the ring. Exchanges are those that the layer waits for: of tensor, context and expert ranks.
Beside the model that trains there may be others, and rollouts: `beside.py`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from baiwen.model import count
from baiwen.train import beside, memory
from baiwen.train.clock import Clock
from baiwen.train.devices import Device
from baiwen.train.spread import Spread, divides
from baiwen.train.work import Work

# Assumptions, until a run on the cluster measures them (its log has `mfu`).
DENSE, MIXTURE = 0.5, 0.35  # shares of the peak that a dense model and a mixture compute at
FULL = 0.94  # share of the memory that may be planned: the rest is fragments
PROGRAM = 2 * 2**30  # bytes of the CUDA context and NCCL's buffers
MOST_TOKENS = 2**18  # of a micro-batch
KNOBS = ("replicate", "context", "tensor", "expert", "activation_checkpointing", "micro_tokens")


@dataclass(frozen=True)
class Cluster:
    """So many of a device."""

    gpus: int
    device: Device
    share: float | None = None  # of the peak while computing; None: DENSE or MIXTURE

    @property
    def room(self) -> float:
        """Bytes of a GPU that may be planned."""
        return FULL * 2**30 * self.device.memory


@dataclass(frozen=True)
class Layout:
    """The knobs that decide memory and speed, as a recipe has them, and what they leave over."""

    shard: int = 1  # what the ranks leave
    replicate: int = 1
    context: int = 1
    tensor: int = 1
    expert: int = 1
    activation_checkpointing: bool = False
    micro_tokens: int = 8192

    @property
    def spread(self) -> Spread:
        """How the weights lie."""
        return Spread(self.shard, self.context, self.tensor, self.expert)

    @property
    def shares(self) -> int:
        """Into how many parts the rows of a step are divided."""
        return self.replicate * self.shard

    def differs(self, other: "Layout") -> set[str]:
        """The knobs that are not those of the other."""
        return {knob for knob in KNOBS if getattr(self, knob) != getattr(other, knob)}


@dataclass(frozen=True)
class Plan:
    """A layout and what it takes on a device."""

    work: Work
    cluster: Cluster
    layout: Layout

    @property
    def share(self) -> float:
        """Of the peak while computing."""
        return self.cluster.share or (MIXTURE if self.work.shape.is_moe else DENSE)

    @cached_property
    def memory(self) -> dict[str, int]:
        """Bytes of the fullest GPU, by what holds them."""
        trees, tokens = self.work.trees, self.layout.micro_tokens
        if trees is not None:
            tokens = min(tokens, max(self.filled, trees.longest))
        spread = self.layout.spread
        held = memory.peak(
            self.work.shape,
            spread,
            tokens,
            recompute=self.layout.activation_checkpointing,
            accumulate=self.micro_batches > 1,
        )
        held |= beside.held(self.work, spread, self.cluster.gpus)
        return held | {"the program itself": PROGRAM}

    @property
    def fits(self) -> bool:
        """Whether the GPU has as much."""
        return sum(self.memory.values()) <= self.cluster.room

    @property
    def host(self) -> int:
        """Bytes of a node's memory while a checkpoint is written: fp32 weights and moments."""
        own = self.memory["weights"] + self.memory["moments"]
        return own * min(self.cluster.device.node, self.cluster.gpus)

    @property
    def micro_batches(self) -> int:
        """Of a step, on each rank."""
        at_once = self.layout.micro_tokens * self.layout.shares
        return -(-self.work.tokens_per_step // at_once)

    @property
    def filled(self) -> int:
        """Tokens of a micro-batch: trees are dealt out evenly, but not cut."""
        if self.work.trees is None:
            return self.layout.micro_tokens
        step, shares = self.work.tokens_per_step, self.micro_batches * self.layout.shares
        return math.ceil(max(step / shares, step / self.work.trees.number))

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Of a step, by what they go to; communication only as far as it is not hidden."""
        layout, work = self.layout, self.work
        clock = Clock(
            work.shape,
            work.sequence_length,
            layout.spread,
            layout.replicate,
            layout.activation_checkpointing,
            self.filled,
            self.cluster.device,
            self.share,
        )
        found = clock.step(self.micro_batches)
        return found | beside.seconds(work, clock, self.micro_batches, self.cluster.gpus)

    @property
    def tokens_per_second(self) -> float:
        """Of all GPUs."""
        return self.work.tokens_per_step / sum(self.seconds.values())

    @property
    def mfu(self) -> float:
        """The model's own FLOPs over the peak of all GPUs."""
        flops = count.flops_per_token(self.work.shape, self.work.sequence_length)
        return self.tokens_per_second * flops / (self.cluster.gpus * self.cluster.device.flops)

    @property
    def days(self) -> float | None:
        """Of the whole run; None where its tokens are not known."""
        tokens = self.work.tokens
        return None if tokens is None else tokens / self.tokens_per_second / 86_400


def plans(work: Work, cluster: Cluster) -> list[Plan]:
    """All layouts: those that fit first, of these the fastest first; of the rest the smallest."""
    work = work.on(cluster.gpus)
    found = [Plan(work, cluster, layout) for layout in layouts(work, cluster)]
    fitting = sorted(
        (plan for plan in found if plan.fits), key=lambda plan: -plan.tokens_per_second
    )
    rest = (plan for plan in found if not plan.fits)
    return fitting + sorted(rest, key=lambda plan: sum(plan.memory.values()))


def layouts(work: Work, cluster: Cluster) -> Iterator[Layout]:
    """Those that the program takes; tensor ranks are of one node."""
    gpus = cluster.gpus
    for tensor in _divisors(min(gpus, cluster.device.node)):
        shared = _divisors(gpus // tensor) if work.context else [1]
        for context in shared if gpus % tensor == 0 else ():
            for replicate in _divisors(gpus // tensor // context):
                shard = gpus // tensor // context // replicate
                layout = Layout(shard, replicate, context, tensor)
                if not refused(work, layout):
                    yield from _variants(work, layout)


def refused(work: Work, layout: Layout) -> str | None:
    """Why the program would refuse a layout of these parts; None where it takes it."""
    if work.alone and layout.replicate * layout.spread.ranks > 1:
        return work.alone
    shape, spread = work.shape, layout.spread
    experts, rows = shape.num_experts or 1, work.sequence_length * layout.shares
    rows = 1 if work.trees else rows  # a share may find no tree left
    for number, parts, why in (
        (shape.num_key_value_heads, layout.tensor, "key heads do not divide by tensor"),
        (shape.intermediate_size, layout.tensor, "the feed-forward does not divide by tensor"),
        (shape.vocab_size, layout.tensor, "the vocabulary does not divide by tensor"),
        (shape.num_attention_heads, layout.tensor * layout.context, "heads do not divide"),
        (work.sequence_length, layout.context, "rows do not divide by context"),
        (work.tokens_per_step, rows, "a step has too few rows, or they do not divide"),
        (experts, layout.expert, "experts do not divide by expert"),
        (spread.ranks, layout.expert, "the ranks of a replica do not divide by expert"),
    ):
        if number % parts:
            return why
    return None if divides(shape, spread) else "an expert does not divide by the ranks that have it"


def _variants(work: Work, layout: Layout) -> Iterator[Layout]:
    """With experts spread, more rows at once, and recomputation."""
    experts = _divisors(work.shape.num_experts) if work.shape.is_moe else [1]
    sizes = _sizes(work, layout.shares)
    for expert in experts:
        spread = replace(layout, expert=expert)
        if refused(work, spread):
            continue
        for tokens in sizes:
            for recompute in (False, True):
                yield replace(spread, micro_tokens=tokens, activation_checkpointing=recompute)


def _sizes(work: Work, shares: int) -> list[int]:
    """Tokens of micro-batches: as many rows as divide a share, or the longest tree and doublings.

    The smallest whatever its size, and those up to MOST_TOKENS.
    """
    mine = work.tokens_per_step // shares
    if work.trees is None:
        least = work.sequence_length
        sizes = [least * rows for rows in _divisors(mine // least)]
    else:
        least = work.trees.longest
        doublings = math.ceil(math.log2(max(1, mine / least)))
        sizes = [least * 2**n for n in range(doublings + 1)]
    return [size for size in sizes if size == least or size <= MOST_TOKENS]


def _divisors(number: int) -> list[int]:
    return [part for part in range(1, number + 1) if number % part == 0]
