"""One pass over a corpus: read, filter, drop what came before, hold some out, write the rest.

Reading and filtering run in processes, a chunk at a time; the rest depends on the order and runs
here. The same corpus gives the same bytes, however many processes there are.

    documents-DOMAIN-00000.jsonl.zst     kept
    heldout.jsonl.zst                    held out
    dropped.jsonl.zst                    {"id", "text", "meta", "reason"}
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import xxhash

from baiwen import files
from baiwen.data import filters
from baiwen.data.document import Document
from baiwen.data.executor import ordered
from baiwen.data.filters import Settings
from baiwen.data.read import Chunk
from baiwen.data.split import HeldOut, family_hash
from baiwen.data.writers import Writers
from baiwen.errors import UserError

CORPUS = "the corpus"
KEPT, HELDOUT = "kept", "heldout"  # outcomes beside the reasons to go
DUPLICATE, UNREADABLE = "duplicate", "unreadable"  # reasons beside the filters' own
FLAWS_SHOWN = 3  # unreadable documents that an error names


@dataclass(frozen=True)
class Judged:
    """What a process finds out about a document."""

    document: Document
    source: str  # CORPUS, or the name of extra documents
    reason: str | None  # why it goes; None: it stays, unless it is a duplicate
    digest: bytes  # the same for all its duplicates
    family: int  # the hash that decides whether it is held out


@dataclass
class Counts:
    """What became of the documents: by outcome and domain, how many and how many bytes of text."""

    documents: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes: Counter[tuple[str, str]] = field(default_factory=Counter)
    flaws: list[str] = field(default_factory=list)  # the first few, with their places
    fates: dict[str, Counter[str]] = field(default_factory=dict)  # outcomes, by source

    def meet(self, entry: Judged, reason: str | None) -> None:
        """Count a document of a source as one that goes for this reason, or stays."""
        self.fates.setdefault(entry.source, Counter())[reason or KEPT] += 1

    def add(self, outcome: str, document: Document) -> None:
        """Count what became of a document."""
        self.documents[outcome, document.domain] += 1
        self.bytes[outcome, document.domain] += document.size
        if document.flaw and len(self.flaws) < FLAWS_SHOWN:
            self.flaws.append(f"{document.meta['place']}: {document.flaw}")

    def table(self) -> dict[str, dict[str, dict[str, int]]]:
        """{outcome: {domain: {"documents", "bytes"}}}, in alphabetical order."""
        found: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
        for outcome, domain in sorted(self.documents):
            key = outcome, domain
            found[outcome][domain] = {"documents": self.documents[key], "bytes": self.bytes[key]}
        return dict(found)

    def check_unreadable(self, most: float) -> None:
        """Stop with a `UserError` if more than the share `most` could not be read."""
        count = sum(n for (outcome, _), n in self.documents.items() if outcome == UNREADABLE)
        if count > most * self.documents.total():
            raise UserError(
                f"{count:,} of {self.documents.total():,} documents cannot be read, more than "
                f"max_unreadable = {most}:\n    " + "\n    ".join(self.flaws) + "\n"
                "Mend or leave out these files, or raise max_unreadable to drop them."
            )

    def check_kept(self, sources: Iterable[str]) -> None:
        """Stop with a `UserError` if nothing is left of one of the sources, or to train on."""
        for source in sources:
            fates = self.fates.get(source, Counter())
            if not fates[KEPT]:
                told = ", ".join(f"{reason} {n:,}" for reason, n in fates.most_common() if n)
                raise UserError(
                    f"not one document of {source} is left: {told or 'there were none'}. Loosen "
                    "these filters ([filters] NAME = false) or give other text."
                )
        if not any(outcome == KEPT for outcome, _ in self.documents):
            held = sum(n for (outcome, _), n in self.documents.items() if outcome == HELDOUT)
            raise UserError(
                f"not one document is left to train on: {held:,} held out. Give more text, or "
                "lower heldout_share."
            )


def judge(chunk: Chunk, settings: Settings) -> list[Judged]:
    """Read and filter a chunk: the part of the work that needs no other document."""
    found = []
    for document in chunk.documents():
        if document.flaw:
            reason: str | None = UNREADABLE
        else:
            reason = _objection(document, settings) if chunk.filtered else None
        digest = xxhash.xxh3_128_digest(document.squeezed.encode())
        bare = replace(document)  # without its cached words
        found.append(Judged(bare, chunk.domain or CORPUS, reason, digest, family_hash(document)))
    return found


def _objection(document: Document, settings: Settings) -> str | None:
    columns = {"domain": document.domain, "language": document.meta.get("language")}
    found = filters.verdict(document.text, settings, **columns)
    return found.rule if found else None


def judged(chunks: Iterable[Chunk], settings: Settings, workers: int = 0) -> Iterator[Judged]:
    """Every document of the chunks, judged in processes, in the order of the chunks."""
    answers = ordered(partial(judge, settings=settings), chunks, workers)
    return itertools.chain.from_iterable(answers)


def limited(documents: Iterable[Judged], most: int | None) -> Iterator[Judged]:
    """The documents until `most` bytes of text have passed the filters."""
    size = 0
    for entry in documents:
        yield entry
        size += 0 if entry.reason else entry.document.size
        if most is not None and size >= most:
            return


def write(documents: Iterable[Judged], folder: Path, heldout: HeldOut) -> Counts:
    """Drop duplicates, split, and write the three kinds of files into `folder`, durably."""
    counts, seen = Counts(), set[bytes]()
    with files.jsonl_writer(folder / "dropped.jsonl.zst") as drop, Writers(folder) as keep:
        for entry in documents:
            document = entry.document
            reason = entry.reason or (DUPLICATE if entry.digest in seen else None)
            counts.meet(entry, reason)
            if reason:
                flaw = {"flaw": document.flaw} if document.flaw else {}
                drop({**document.row(), "reason": reason, **flaw})
                counts.add(reason, document)
                continue
            seen.add(entry.digest)
            for trained in heldout.offer(document, entry.family):
                keep.put(trained)
                counts.add(KEPT, trained)
    with files.jsonl_writer(folder / "heldout.jsonl.zst") as hold:
        for document in heldout.documents():
            hold(document.row())
            counts.add(HELDOUT, document)
    return counts
