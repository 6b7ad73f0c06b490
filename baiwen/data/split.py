"""The held-out split: which documents are never trained on.

A document is held out if the hash of its family lies in the lowest `share` of all hashes, whatever
else is in the corpus and in whatever order. A limit in bytes lowers that bar instead of stopping
early: of too many candidates those with the lowest hashes stay, again in any order.

    heldout = HeldOut(share=0.02, most=4 << 20)
    for document in documents:
        for returned in heldout.offer(document, family_hash(document)):
            write(returned)              # it, or others that lost their place to it
    heldout.documents()
"""

import heapq
from collections.abc import Iterator

import xxhash

from baiwen.data.document import Document


class HeldOut:
    """The documents held out so far, and the bar that a hash must lie below."""

    def __init__(self, share: float, most: int) -> None:
        """share: of the documents. most: bytes of text."""
        self.bar = int(share * 2**64)
        self.most = most
        self.size = 0
        self._kept: list[tuple[int, int, Document]] = []  # a heap, the highest hash on top
        self._offered = 0

    def offer(self, document: Document, key: int) -> Iterator[Document]:
        """Hold the document of family hash `key` out or not; yield what is trained on instead."""
        if key >= self.bar:
            yield document
            return
        self._offered += 1  # so that documents themselves are never compared
        heapq.heappush(self._kept, (-key, self._offered, document))
        self.size += document.size
        while self.size > self.most:
            self.bar = -self._kept[0][0]
            while self._kept and -self._kept[0][0] == self.bar:  # a family goes as a whole
                returned = heapq.heappop(self._kept)[2]
                self.size -= returned.size
                yield returned

    def documents(self) -> list[Document]:
        """What is held out, in the order of its hashes."""
        kept = sorted(self._kept, key=lambda entry: (-entry[0], entry[2].domain, entry[2].id))
        return [document for _, _, document in kept]


def family_hash(document: Document) -> int:
    """A number below 2^64 that all documents of a family share."""
    return xxhash.xxh3_64_intdigest(document.family.encode())
