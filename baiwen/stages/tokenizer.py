"""Train a tokenizer: documents in, a tokenizer folder out (report, section 2).

    stage = "tokenizer"
    out = "runs/tiny/tokenizer"
    documents = "runs/tiny/data"
    vocab_size = 4096

`documents` is what the data stage wrote, or any file or folder that `data/read/` reads.
Every hundredth document, a thousand at most, is held out of training, to count in
`tokenizer_stats.json` how many bytes of unseen text a token stands for.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from baiwen import files, log
from baiwen.config import Input, Knobs
from baiwen.data import read
from baiwen.tokenizer import Tokenizer, train

_HELD_OUT_EVERY, _HELD_OUT = 100, 1_000  # documents


class Config(Knobs):
    """What to train on, and how many tokens to make of it."""

    out: Path  # the run folder, which is the tokenizer folder
    documents: Input  # folder of a data stage, or a file or folder of documents
    vocab_size: Annotated[int, Field(ge=256)] = 151_643  # regular tokens; report: 151,643


def run(config: Config, folder: files.RunFolder) -> None:
    """Train on the documents and write the tokenizer."""
    held_out: list[str] = []
    documents = log.track(read.texts_of(read.find([config.documents])), "read", unit="documents")
    tokenizer = train(_without(documents, held_out), config.vocab_size)
    tokenizer.save(folder.path)
    stats = _stats(tokenizer, held_out)
    files.write_json(folder.path / "tokenizer_stats.json", stats)
    log.say(_summary(stats))


def _without(documents: Iterable[str], held_out: list[str]) -> Iterator[str]:
    """The documents to train on; the others go into `held_out`."""
    for number, document in enumerate(documents, start=1):
        if number % _HELD_OUT_EVERY == 0 and len(held_out) < _HELD_OUT:
            held_out.append(document)
        else:
            yield document


def _stats(tokenizer: Tokenizer, held_out: list[str]) -> dict[str, int]:
    """What the tokenizer makes of the held-out documents; bytes are those of UTF-8."""
    size = sum(len(document.encode()) for document in held_out)
    tokens = sum(map(len, tokenizer.encode_many(held_out)))
    return {
        "vocab_size": len(tokenizer),
        "documents": len(held_out),
        "bytes": size,
        "tokens": tokens,
    }


def _summary(stats: dict[str, int]) -> str:
    if not stats["tokens"]:
        return f"{stats['vocab_size']:,} tokens; too few documents to hold some out and measure"
    return (
        f"{stats['vocab_size']:,} tokens; one stands for {stats['bytes'] / stats['tokens']:.3f} "
        f"bytes of {stats['documents']:,} held-out documents"
    )
