"""Shards: documents as token ids on disk, read by memory-map.

One folder a source. Every document ends with `<|endoftext|>` (Qwen2.5's own format), and a document
never lies in two shards:

    web/index.json          {"tokenizer": "3f1c...", "dtype": "uint16", "tokens": 1048576, ...}
    web/tokens-00000.bin    the ids, little-endian uint16 (uint32 above 65,536 tokens of vocabulary)
    web/ends-00000.bin      uint64: where each document ends, in tokens from the shard's beginning

    shards = Shards.open("runs/tiny/shards/web", tokenizer.fingerprint)
    shards.read(0, 5)                                # array([ 464, 3797,  318,  257,    0])
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from baiwen import files
from baiwen.errors import UserError
from baiwen.tokenizer.chat import Piece
from baiwen.tokenizer.control import END_OF_TEXT
from baiwen.tokenizer.tokenizer import Tokenizer

INDEX = "index.json"
ENDS = np.dtype("<u8")
BATCH_CHARACTERS = 1 << 22  # of text that is encoded at once


@dataclass(frozen=True)
class Shard:
    """What one shard holds."""

    documents: int
    tokens: int
    bytes: int  # of the text, as UTF-8
    repeated: int = 0  # documents beyond the first copy of each


class Laid(NamedTuple):
    """A document as it is written: words with control tokens between and after them."""

    pieces: Sequence[Piece]
    repeated: bool = False  # whether it was written before


@dataclass(frozen=True)
class Shards:
    """An open source: all its shards as one stream of tokens."""

    folder: Path
    tokens: Sequence[np.ndarray]  # a memory-map for each shard
    starts: np.ndarray  # int64 [shards + 1]: the first token of each in the stream, and the end
    ends: np.ndarray  # int64 [documents]: where each document ends in the stream
    bytes: int  # of the text, as UTF-8

    @classmethod
    def open(cls, folder: Path | str, fingerprint: str | None = None) -> "Shards":
        """Open a source; a `UserError` for a missing or cut file, or another tokenizer's ids.

        fingerprint: of the tokenizer that the ids must be of.
        """
        folder = Path(folder)
        index = _index(folder)
        if fingerprint is not None and index["tokenizer"] != fingerprint:
            raise UserError(
                f"{folder}: its ids are of another tokenizer (fingerprint "
                f"{index['tokenizer'][:12]}..., not {fingerprint[:12]}...). Write the shards again "
                "with the tokenizer of this run, or use that one."
            )
        shards = [Shard(**entry) for entry in index["shards"]]
        dtype = np.dtype(index["dtype"]).newbyteorder("<")
        tokens = [
            _mapped(folder / token_file(i), dtype, shard.tokens) for i, shard in enumerate(shards)
        ]
        starts = np.cumsum([0, *(shard.tokens for shard in shards)])
        ends = [_ends(folder / end_file(i), shard) for i, shard in enumerate(shards)]
        shifted = [part + start for part, start in zip(ends, starts[:-1], strict=True)]
        return cls(folder, tokens, starts, np.concatenate(shifted), index["bytes"])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document, int64 [documents]."""
        return np.diff(self.ends, prepend=0)

    def read(self, start: int, stop: int) -> np.ndarray:
        """The ids from `start` to `stop`, which must lie in one shard (as a document does)."""
        shard = int(np.searchsorted(self.starts, start, side="right")) - 1
        first = int(self.starts[shard])
        return self.tokens[shard][start - first : stop - first]

    def weights(self, start: int, stop: int) -> float:
        """Every token counts in full as a target."""
        return 1.0


def write_shard(
    folder: Path, number: int, documents: Iterable[str | Laid], tokenizer: Tokenizer
) -> Shard:
    """Tokenize documents into shard `number` of a source, durably, a few MB in memory at a time.

    A text ends with `<|endoftext|>`; what is laid out in pieces ends as it says.
    """
    dtype = id_type(len(tokenizer))
    written = Shard(0, 0, 0)
    with (
        files.writing(folder / token_file(number)) as tokens,
        files.writing(folder / end_file(number)) as ends,
    ):
        for batch in _batches(documents):
            ids, borders = _encoded(batch, tokenizer, dtype)
            tokens.write(ids)
            ends.write((borders + written.tokens).astype(ENDS))
            written = Shard(
                written.documents + len(batch),
                written.tokens + len(ids),
                written.bytes + sum(_bytes(laid) for laid in batch),
                written.repeated + sum(laid.repeated for laid in batch),
            )
    return written


def write_index(folder: Path, shards: Sequence[Shard], tokenizer: Tokenizer) -> None:
    """Write a source's `index.json`, last of all its files."""
    total = {
        name: sum(getattr(shard, name) for shard in shards)
        for name in ("documents", "tokens", "bytes", "repeated")
    }
    files.write_json(
        folder / INDEX,
        {
            "tokenizer": tokenizer.fingerprint,
            "dtype": id_type(len(tokenizer)).name,
            **total,
            "shards": [asdict(shard) for shard in shards],
        },
    )


def sweep(folder: Path, sources: Mapping[str, int]) -> None:
    """Delete what an earlier session left below `folder` beyond `sources` (name: its shards)."""
    kept = {
        folder / source / name
        for source, shards in sources.items()
        for number in range(shards)
        for name in (INDEX, token_file(number), end_file(number))
    }
    for name in (INDEX, "tokens-*.bin", "ends-*.bin"):
        for path in folder.glob(f"*/{name}"):
            if path not in kept:
                path.unlink()


def is_whole(folder: Path, number: int, shard: Shard, vocabulary: int) -> bool:
    """Whether both files of a shard are there in the size that `shard` tells."""
    wanted = {
        folder / token_file(number): shard.tokens * id_type(vocabulary).itemsize,
        folder / end_file(number): shard.documents * ENDS.itemsize,
    }
    return all(path.is_file() and path.stat().st_size == size for path, size in wanted.items())


def names(folder: Path | str) -> list[str]:
    """The sources below `folder`, each a folder with an index, in alphabetical order."""
    found = sorted(path.parent.name for path in Path(folder).glob(f"*/{INDEX}"))
    if not found:
        raise UserError(f"{folder}: holds no shards (NAME/{INDEX}). Run the shards stage first.")
    return found


def id_type(vocabulary: int) -> np.dtype:
    """The smallest type that holds every id of a vocabulary."""
    return np.dtype("<u2" if vocabulary <= 1 << 16 else "<u4")


def token_file(number: int) -> str:
    """The file of a shard's ids."""
    return f"tokens-{number:05}.bin"


def end_file(number: int) -> str:
    """The file of a shard's document ends."""
    return f"ends-{number:05}.bin"


def _batches(documents: Iterable[str | Laid]) -> Iterator[list[Laid]]:
    end = Piece(END_OF_TEXT, control=True)
    batch: list[Laid] = []
    characters = 0
    for document in documents:
        laid = Laid([Piece(document), end]) if isinstance(document, str) else document
        batch.append(laid)
        characters += sum(len(piece.text) for piece in laid.pieces)
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _encoded(
    batch: Sequence[Laid], tokenizer: Tokenizer, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """The ids of all documents, end to end, and where each ends."""
    pieces = [piece for laid in batch for piece in laid.pieces]
    texts = list(dict.fromkeys(piece.text for piece in pieces if not piece.control))
    known = dict(zip(texts, tokenizer.encode_many(texts, threads=1), strict=True))
    marks = {piece.text: np.array([tokenizer.id(piece.text)]) for piece in pieces if piece.control}
    parts = [(marks if piece.control else known)[piece.text] for piece in pieces]
    ends = np.cumsum([len(part) for part in parts])
    last = np.cumsum([len(laid.pieces) for laid in batch]) - 1
    return np.concatenate(parts, dtype=dtype, casting="unsafe"), ends[last]


def _bytes(laid: Laid) -> int:
    return sum(len(piece.text.encode()) for piece in laid.pieces if not piece.control)


def _index(folder: Path) -> dict[str, Any]:
    if not (folder / INDEX).is_file():
        raise UserError(f"{folder}: holds no {INDEX}, so it is no finished source of shards.")
    return files.read_json(folder / INDEX)


def _mapped(path: Path, dtype: np.dtype, count: int) -> np.ndarray:
    """A memory-map of exactly `count` numbers."""
    there = path.stat().st_size if path.is_file() else -1
    if there != count * dtype.itemsize:
        state = f"has {there:,} bytes" if there >= 0 else "is missing"
        raise UserError(
            f"{path}: {state}, but {INDEX} tells of {count * dtype.itemsize:,}. The shard was cut "
            "or replaced: delete the run folder and run the shards stage again."
        )
    return np.memmap(path, dtype, mode="r") if count else np.empty(0, dtype)


def _ends(path: Path, shard: Shard) -> np.ndarray:
    ends = _mapped(path, ENDS, shard.documents).astype(np.int64)
    if np.any(np.diff(ends, prepend=0) <= 0) or (ends[-1] if len(ends) else 0) != shard.tokens:
        raise UserError(
            f"{path}: the document ends do not rise to the shard's {shard.tokens:,} tokens. The "
            "file is damaged: delete the run folder and run the shards stage again."
        )
    return ends
