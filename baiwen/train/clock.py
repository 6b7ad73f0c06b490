"""Seconds of a training step on a cluster, by what they go to (no torch).

    Clock(SIZES["7b"], 4096, Spread(shard=8), 1, False, 8192, DEVICES["h100"], 0.5).step(4)
    # {"compute": 2.97, "weights": 0.09, "tensor": 0.0, "context": 0.0, "expert": 0.0, ...}

The rules are told in docs/cluster.md; `tests/train/test_simulated.py` counts what is exchanged.
"""

from dataclasses import dataclass

from baiwen.model.config import ModelConfig
from baiwen.train.devices import Device
from baiwen.train.spread import Spread, Unit, units

# Assumptions, until a run on the cluster measures them.
LINKS = 0.8  # share of a link's peak that large collectives reach


@dataclass(frozen=True)
class Clock:
    """What the seconds of a micro-batch depend on."""

    shape: ModelConfig
    length: int  # tokens that see each other
    spread: Spread
    replicate: int
    recompute: bool
    micro_tokens: int  # of the ranks that share rows
    device: Device
    share: float  # of the peak while computing
    itemsize: int = 2  # bytes of a number that is computed with: bf16

    def step(self, micro_batches: int) -> dict[str, float]:
        """Of a whole step."""
        root, *blocks = units(self.shape)
        compute, waits = (
            self._head(),
            dict.fromkeys(("weights", "tensor", "context", "expert"), 0.0),
        )
        for unit in blocks:
            busy, gather, scatter = self._compute(unit), self._gather(unit), self._scatter(unit)
            exchanges = self._exchanges(unit)
            again = 2 if self.recompute else 1
            first, second = (sum(exchanges.values()) * times for times in (1, again))
            forward, backward = busy + first, (1 + again) * busy + second
            late = self._late(gather, forward) + self._late(gather + scatter, backward)
            compute += unit.copies * (2 + again) * busy
            waits["weights"] += unit.copies * (late + self._copies(unit, self.itemsize, 2))
            for name, seconds in exchanges.items():
                waits[name] += unit.copies * (1 + again) * seconds
        waits["weights"] += self._gather(root, 4) + self._scatter(root)
        waits["weights"] += self._copies(root, 4, 1)
        waits["tensor"] += 2 * self._ends()
        parts = {"compute": compute} | waits
        spent = {name: micro_batches * seconds for name, seconds in parts.items()}
        return spent | {"optimizer": self._optimizer()}

    def read(self) -> float:
        """Of the forward pass of a micro-batch, as a reference makes it."""
        root, *blocks = units(self.shape)
        spent = self._gather(root, 4) + self._moved(root, 2 * 4) + self._head() / 3 + self._ends()
        for unit in blocks:
            forward = self._compute(unit) + sum(self._exchanges(unit).values())
            forward += self._moved(unit, 2 * self.itemsize)
            spent += unit.copies * (forward + self._late(self._gather(unit), forward))
        return spent

    def gathered(self, size: float) -> float:
        """Of `size` bytes that each rank of a replica gathers from all of them."""
        return self._ring(size, self.spread.ranks, 1)

    @property
    def rate(self) -> float:
        """FLOP/s while computing."""
        return self.share * self.device.flops

    @property
    def _tokens(self) -> float:
        """Of a micro-batch, a rank's."""
        return self.micro_tokens / (self.spread.context * self.spread.tensor)

    def _late(self, exchanged: float, computed: float) -> float:
        """Seconds that are waited for what is exchanged while something is computed."""
        return max(0.0, exchanged - self.device.overlap * computed)

    def _compute(self, unit: Unit) -> float:
        """Of a unit's forward pass."""
        chosen, experts = self.shape.num_experts_per_tok, self.shape.num_experts
        if unit.name == "experts":
            return 2 * unit.total * chosen / experts * self._tokens / self.rate
        attention = 2 * self.shape.hidden_size * self.length
        return (2 * unit.total + attention) * self._tokens / self.rate

    def _head(self) -> float:
        """Of the loss, forward and backward; a reward model's is of a token an answer."""
        if self.shape.reward:
            return 0.0
        return 6 * self.shape.vocab_size * self.shape.hidden_size * self._tokens / self.rate

    def _optimizer(self) -> float:
        """The norm reads gradients, clipping writes them; all four are read, three written."""
        own = sum(unit.copies * unit.numbers(self.spread) for unit in units(self.shape))
        return 40 * own / (1e9 * self.device.hbm)

    def _gather(self, unit: Unit, itemsize: int | None = None) -> float:
        size = (itemsize or self.itemsize) * unit.gathered(self.spread)
        return self._ring(size, *self._group(unit))

    def _scatter(self, unit: Unit) -> float:
        """Of fp32 gradients, and their sum over replicas."""
        ranks, stride = self._group(unit)
        sent = 4 * unit.gathered(self.spread)
        copies = self._ring(2 * sent / ranks, self.replicate, self.spread.ranks)
        return self._ring(sent, ranks, stride, self.device.sums) + copies

    def _copies(self, unit: Unit, itemsize: int, gathers: int) -> float:
        """Of what FSDP2 copies while nothing computes: what it has gathered, into place, and
        gradients into the buffer that is sent.
        """
        return self._moved(unit, gathers * 2 * itemsize + itemsize + 4)

    def _moved(self, unit: Unit, each: int) -> float:
        """Of so many bytes read or written for each of a unit's weights, where it is gathered."""
        if self.spread.ranks * self.replicate == 1:
            return 0.0
        return each * unit.gathered(self.spread) / (1e9 * self.device.hbm)

    def _group(self, unit: Unit) -> tuple[int, int]:
        """How many ranks divide a unit's weights, and how far apart they are."""
        if unit.name == "experts":
            return self.spread.alike, self.spread.expert
        return self.spread.rows, self.spread.tensor

    def _exchanges(self, unit: Unit) -> dict[str, float]:
        """What a unit's forward pass waits for."""
        hidden, layout = self.shape.hidden_size, self.spread
        if unit.name == "experts":
            sent = self.itemsize * self._tokens * self.shape.num_experts_per_tok * hidden
            return {"expert": self._all_to_all(2 * sent, layout.expert, 1)}
        keys = self.shape.num_key_value_heads * self.shape.head_dim
        copies = max(1, layout.context * layout.tensor // self.shape.num_key_value_heads)
        heads = self.itemsize * self._tokens * (2 * hidden + 2 * keys * copies)
        rows = self.itemsize * hidden * self._tokens * layout.tensor  # bytes of hidden states
        sums = self.device.sums
        times = 4 if unit.name == "dense" else 2  # gathers and scatters around two parts, or one
        return {
            "context": self._all_to_all(heads, layout.context, layout.tensor),
            "tensor": times / 2 * sum(self._ring(rows, layout.tensor, 1, how) for how in (1, sums)),
        }

    def _ends(self) -> float:
        """Of what tensor ranks exchange around the layers, each way: fp32 embeddings are summed and
        scattered, the last states gathered; backward the same, transposed.
        """
        rows, ranks = self.shape.hidden_size * self._tokens * self.spread.tensor, self.spread.tensor
        scattered = self._ring(4 * rows, ranks, 1, self.device.sums)
        return scattered + self._ring(self.itemsize * rows, ranks, 1)

    def _ring(self, size: float, ranks: int, stride: int, how: float = 1.0) -> float:
        """Of a gather or a scatter of `size` bytes in all, among ranks that are `stride` apart.

        how: as fast as a gather.
        """
        if ranks == 1:
            return 0.0
        near = max(1, min(ranks, self.device.node // stride))  # in a node
        rate = self.device.link
        if near < ranks:  # all groups of the node share its adapters
            rate = min(rate, near * self.device.network)
        sent = size * (ranks - 1) / ranks
        return sent / (how * LINKS * 1e9 * rate) + self.device.hop * (ranks - 1)

    def _all_to_all(self, size: float, ranks: int, stride: int) -> float:
        """Of `size` bytes that a rank has, an equal part for each."""
        if ranks == 1:
            return 0.0
        near = max(1, min(ranks, self.device.node // stride))
        each = size / ranks / (self.device.swaps * LINKS * 1e9)
        return self.device.hop * (ranks - 1) + max(
            each * (near - 1) / self.device.link, each * (ranks - near) / self.device.network
        )
