"""Where the documents of a packed batch begin and end, and which of them share a beginning.

A row of a packed batch holds several documents, which must not see each other. `Documents` says
where they lie, and prepares once a batch what the attention of every layer needs.

    documents = Documents.of([[3, 5], [8]])    # two rows of 8 tokens; the first holds two documents
    documents.ends                             # tensor([0, 3, 8, 16])

Several continuations of one text need it only once: a *branch* is a document that sees a *trunk*, a
document before it in its row, and then itself, as if it stood right behind it.

    Documents.of([[4, 2, 2]], trunks=[[-1, 0, 0]]).positions     # [[0, 1, 2, 3, 4, 5, 4, 5]]

B batch, T tokens, S keys, n documents.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from baiwen.errors import UserError


@dataclass(frozen=True)
class Documents:
    """Documents in reading order over the B*T flattened tokens; a border of rows is a border."""

    ends: Tensor  # int32 [n + 1], cumulative lengths, begins with 0
    lengths: tuple[int, ...]  # of the n documents, the same on the host
    rows: int  # B
    width: int  # T
    padding: tuple[int, ...] = ()  # tokens at the end of each row that mean nothing; (): none
    trunks: tuple[int, ...] = ()  # number of each document's trunk, or -1; (): none has one

    @classmethod
    def of(
        cls,
        lengths: Sequence[Sequence[int]],
        padding: Sequence[int] = (),
        trunks: Sequence[Sequence[int]] = (),
    ) -> "Documents":
        """The documents of each row, by length in tokens; rows must be equally long in total.

        The padding at the end of a row counts as a document of its own; `padding` says how much of
        it each row has, which keeps it out of the record of a router. `trunks` says for each
        document which one of its row is its trunk, or -1.
        """
        widths = {sum(row) for row in lengths}
        if len(widths) != 1 or any(length < 1 for row in lengths for length in row):
            raise UserError(
                f"the documents of each row must fill it, with at least a token each; got {lengths}"
            )
        flat = tuple(length for row in lengths for length in row)
        ends = torch.tensor((0, *flat)).cumsum(0).to(torch.int32)
        padded = tuple(padding) if any(padding) else ()
        numbers = _numbered(lengths, trunks)
        return cls(ends, flat, len(lengths), widths.pop(), padded, numbers)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Documents":
        """The same documents with `ends` on `device`."""
        return replace(self, ends=self.ends.to(device, non_blocking=non_blocking))

    @cached_property
    def runs(self) -> tuple[tuple[int, int, int, int], ...]:
        """Of each document, over the flattened tokens: first token and tokens of its trunk (0, 0
        where it has none), and of itself.
        """
        firsts = tuple(accumulate(self.lengths, initial=0))
        own = list(zip(firsts, self.lengths, strict=False))
        before = [own[trunk] if trunk >= 0 else (0, 0) for trunk in self.trunks or [-1] * len(own)]
        return tuple((*trunk, *document) for trunk, document in zip(before, own, strict=True))

    @cached_property
    def seen(self) -> tuple[int, ...]:
        """Tokens that the last token of each document sees."""
        return tuple(shared + length for _, shared, _, length in self.runs)

    @cached_property
    def longest(self) -> int:
        """The most tokens that any token sees."""
        return max(self.seen)

    @cached_property
    def together(self) -> tuple[int, ...]:
        """Of each document the most tokens that it or one with which it shares a trunk sees."""
        trunks = self.trunks or [-1] * len(self.lengths)
        roots = [trunk if trunk >= 0 else number for number, trunk in enumerate(trunks)]
        most = list(self.seen)
        for root, seen in zip(roots, self.seen, strict=True):
            most[root] = max(most[root], seen)
        return tuple(most[root] for root in roots)

    @cached_property
    def whole_rows(self) -> bool:
        """Whether every row is one document, so that plain causal attention is enough."""
        return len(self.lengths) == self.rows

    @cached_property
    def positions(self) -> Tensor:
        """[B, T], the place of each token in its document, counted on from its trunk."""
        starts = self.ends[:-1].long()
        if self.trunks:
            starts = starts - self._on_device([shared for _, shared, _, _ in self.runs])
        flat = torch.arange(self.rows * self.width, device=self.ends.device)
        return (flat - starts[self.index.flatten()]).view(self.rows, self.width)

    @cached_property
    def index(self) -> Tensor:
        """[B, T], the number of each token's document in the batch."""
        flat = torch.arange(self.rows * self.width, device=self.ends.device, dtype=torch.int32)
        return torch.searchsorted(self.ends[1:], flat, right=True).view(self.rows, self.width)

    @cached_property
    def trunk(self) -> Tensor:
        """[B, T], the number of the trunk of each token's document, or -1."""
        if not self.trunks:
            return torch.full_like(self.index, -1)
        return self._on_device(self.trunks)[self.index]

    @cached_property
    def real(self) -> Tensor | None:
        """[B, T] bool, true where a token is not padding; None where all are real."""
        if not self.padding:
            return None
        first = self.width - self._on_device(self.padding)  # [B]
        return torch.arange(self.width, device=self.ends.device) < first[:, None]

    @cached_property
    def mask(self) -> Tensor:
        """[B, 1, T, T] bool, true where the query (third) may see the key (fourth)."""
        keys = self.index[:, None, None, :]
        seen = self.index[:, None, :, None] == keys
        if self.trunks:
            seen |= self.trunk[:, None, :, None] == keys
        return seen.tril()

    @cached_property
    def block_mask(self) -> BlockMask:
        """The same mask as FlexAttention wants it, by blocks of tokens."""
        index, trunk = self.index, self.trunk

        def seen(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            document = index[row, key]
            mine = (index[row, query] == document) | (trunk[row, query] == document)
            return mine & (query >= key)

        return create_block_mask(seen, self.rows, None, self.width, self.width, index.device)

    @cached_property
    def keys(self) -> Tensor:
        """[S], what the documents see, one after the other: places of flattened tokens."""
        runs = self._on_device(self.runs)  # [n, 4]
        starts, lengths = runs[:, ::2].flatten(), runs[:, 1::2].flatten()  # [2n]
        before = lengths.cumsum(0) - lengths
        total = sum(self.seen)
        shift = (starts - before).repeat_interleave(lengths, output_size=total)
        return torch.arange(total, device=shift.device) + shift

    @cached_property
    def key_ends(self) -> Tensor:
        """int32 [n + 1], where what each document sees ends in `keys`; begins with 0."""
        return self._on_device((0, *self.seen)).cumsum(0).to(torch.int32)

    @cached_property
    def spans(self) -> Tensor:
        """[n, 6] int32 on the host: row, first token, tokens, first token, then the first token and
        the tokens of the trunk; branches follow their trunk, and what costs most comes first.
        """
        trees: dict[int, list[tuple[int, ...]]] = {}
        for number, (before, shared, first, length) in enumerate(self.runs):
            row, token = divmod(first, self.width)
            root = self.trunks[number] if shared else number
            before -= row * self.width if shared else 0
            trees.setdefault(root, []).append((row, token, length, token, before, shared))
        ordered = sorted(trees.values(), key=_pairs, reverse=True)
        spans = [span for tree in ordered for span in tree]
        return torch.tensor(spans, dtype=torch.int32, device="cpu")

    @cached_property
    def alike(self) -> dict[tuple[int, int], list[int]]:
        """Numbers of the documents of each length and length of trunk: they share one call."""
        groups: dict[tuple[int, int], list[int]] = {}
        for number, (_, shared, _, length) in enumerate(self.runs):
            groups.setdefault((length, shared), []).append(number)
        return groups

    def _on_device(self, numbers: Sequence[object]) -> Tensor:
        return torch.tensor(numbers, device=self.ends.device)


def _numbered(lengths: Sequence[Sequence[int]], trunks: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Trunks by their number in the batch instead of that in their row."""
    if not any(trunk >= 0 for row in trunks for trunk in row):
        return ()
    numbers: list[int] = []
    for row, documents in zip(trunks, lengths, strict=True):
        first = len(numbers)
        for place, (trunk, _) in enumerate(zip(row, documents, strict=True)):
            if trunk >= place or (trunk >= 0 and row[trunk] >= 0):
                raise UserError(
                    "a trunk must stand before its branches and have no trunk of its own; "
                    f"got {list(row)} for document {place} of a row"
                )
            numbers.append(first + trunk if trunk >= 0 else -1)
    return tuple(numbers)


def _pairs(tree: list[tuple[int, ...]]) -> int:
    """Queries times keys, about twice what the attention of a tree computes."""
    return sum(length * (length + 2 * shared) for _, _, length, _, _, shared in tree)
