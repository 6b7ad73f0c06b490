"""Where the documents of a packed batch begin and end.

A row of a packed batch holds several documents, which must not see each other. `Documents` says
where they lie, and prepares once a batch what the attention of every layer needs.

    documents = Documents.of([[3, 5], [8]])    # two rows of 8 tokens; the first holds two documents
    documents.ends                             # tensor([0, 3, 8, 16])

B batch, T tokens, n documents.
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

    @classmethod
    def of(cls, lengths: list[list[int]], padding: Sequence[int] = ()) -> "Documents":
        """The documents of each row, by length in tokens; rows must be equally long in total.

        The padding at the end of a row counts as a document of its own; `padding` says how much of
        it each row has, which keeps it out of the record of a router.
        """
        widths = {sum(row) for row in lengths}
        if len(widths) != 1 or any(length < 1 for row in lengths for length in row):
            raise UserError(
                f"the documents of each row must fill it, with at least a token each; got {lengths}"
            )
        flat = tuple(length for row in lengths for length in row)
        ends = torch.tensor((0, *flat)).cumsum(0).to(torch.int32)
        padded = tuple(padding) if any(padding) else ()
        return cls(ends, flat, rows=len(lengths), width=widths.pop(), padding=padded)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Documents":
        """The same documents with `ends` on `device`."""
        return replace(self, ends=self.ends.to(device, non_blocking=non_blocking))

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest document."""
        return max(self.lengths)

    @cached_property
    def whole_rows(self) -> bool:
        """Whether every row is one document, so that plain causal attention is enough."""
        return len(self.lengths) == self.rows

    @cached_property
    def positions(self) -> Tensor:
        """[B, T], the place of each token in its document."""
        starts = self.ends[:-1].long()
        flat = torch.arange(self.rows * self.width, device=self.ends.device)
        return (flat - starts[self.index.flatten()]).view(self.rows, self.width)

    @cached_property
    def index(self) -> Tensor:
        """[B, T], the number of each token's document in the batch."""
        flat = torch.arange(self.rows * self.width, device=self.ends.device, dtype=torch.int32)
        return torch.searchsorted(self.ends[1:], flat, right=True).view(self.rows, self.width)

    @cached_property
    def real(self) -> Tensor | None:
        """[B, T] bool, true where a token is not padding; None where all are real."""
        if not self.padding:
            return None
        first = self.width - torch.tensor(self.padding, device=self.ends.device)  # [B]
        return torch.arange(self.width, device=self.ends.device) < first[:, None]

    @cached_property
    def mask(self) -> Tensor:
        """[B, 1, T, T] bool, true where the query (third) may see the key (fourth)."""
        same = self.index[:, None, :, None] == self.index[:, None, None, :]
        return same.tril()

    @cached_property
    def block_mask(self) -> BlockMask:
        """The same mask as FlexAttention wants it, by blocks of tokens."""
        index = self.index

        def same_document(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (index[row, query] == index[row, key]) & (query >= key)

        width = self.width
        return create_block_mask(same_document, self.rows, None, width, width, index.device)

    @cached_property
    def spans(self) -> Tensor:
        """[n, 4] int32 on the host: row, first token, tokens, first token; the longest first."""
        spans = []
        for end, length in zip(accumulate(self.lengths), self.lengths, strict=True):
            row, first = divmod(end - length, self.width)
            spans.append((row, first, length, first))
        return torch.tensor(sorted(spans, key=lambda span: -span[2]), dtype=torch.int32)

    @cached_property
    def equal_lengths(self) -> dict[int, list[int]]:
        """Numbers of the documents of each length: they share one call of attention."""
        groups: dict[int, list[int]] = {}
        for number, length in enumerate(self.lengths):
            groups.setdefault(length, []).append(number)
        return groups
