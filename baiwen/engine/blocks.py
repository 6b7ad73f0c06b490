"""The books of a paged cache: who holds which block, and which blocks hold known tokens.

A block that a sequence has filled is known by the hash of its tokens and all before them, so that
another sequence that begins alike shares it. A block that nobody holds any longer keeps its
content until a new one is needed: the one that was given back the longest ago goes first.

    pool = Blocks(8)
    block = pool.take()
    pool.publish(block, name)          # its content is complete
    pool.give(block)                   # nobody holds it; its content stays
    pool.find(name) == block           # and is found, until the block is taken for something else

SHA-256 of ids and parent names a block (vLLM's GHSA-rm76 was a weaker hash, with collisions).
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence


class Blocks:
    """`total` blocks: blank, held by `holders[block]` sequences, or idle with known content."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.holders = [0] * total
        self._blank = list(range(total - 1, -1, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()  # held by nobody, oldest first
        self._names: dict[int, bytes] = {}  # of blocks whose content is known
        self._found: dict[bytes, int] = {}

    @property
    def available(self) -> int:
        """Blocks that `take` can give."""
        return len(self._blank) + len(self._idle)

    @property
    def cached(self) -> int:
        """Blocks that nobody holds and whose content is known."""
        return len(self._idle)

    def take(self) -> int:
        """A block for one holder; there must be one."""
        if self._blank:
            block = self._blank.pop()
        else:
            block, _ = self._idle.popitem(last=False)
            self._forget(block)
        self.holders[block] = 1
        return block

    def share(self, block: int) -> None:
        """One more holder of `block`, which may have none."""
        self._idle.pop(block, None)
        self.holders[block] += 1

    def give(self, block: int) -> None:
        """One holder less."""
        self.holders[block] -= 1
        assert self.holders[block] >= 0
        if self.holders[block] == 0:
            if block in self._names:
                self._idle[block] = None
            else:
                self._blank.append(block)

    def publish(self, block: int, name: bytes) -> None:
        """The content of `block` is complete; if another has the same, that one stays known."""
        if name not in self._found:
            self._found[name], self._names[block] = block, name

    def find(self, name: bytes) -> int | None:
        """The block that has this content; `share` it before anything is taken."""
        return self._found.get(name)

    def reset(self) -> None:
        """Forget all content: what is in the cache is no longer what the weights would give."""
        self._blank += self._idle
        self._idle.clear()
        self._names.clear()
        self._found.clear()

    def _forget(self, block: int) -> None:
        del self._found[self._names.pop(block)]


def name(parent: bytes, ids: Sequence[int]) -> bytes:
    """The name of a block that holds `ids` after the block `parent` (the cache's tag, if first)."""
    return hashlib.sha256(parent + array("q", ids).tobytes()).digest()
