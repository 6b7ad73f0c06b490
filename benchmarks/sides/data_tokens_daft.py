"""A peer: Daft's `tokenize_encode`, from JSONL to Parquet with a list of ids; by its own Python.

    settings: {"documents": [FILE.jsonl, ...], "tokenizer": FOLDER, "threads": 1}

A turn takes the next file. Daft does not normalise, and ends no document: its tokens are fewer by
one for each.
"""

import base64
import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import daft
from daft.functions import tokenize_encode

from benchmarks.turns import Turn

PRINTABLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}  # stand for themselves


def main(settings: dict[str, Any]) -> None:
    """Read, tokenize and write a file's documents whenever it is told."""
    daft.set_runner_native(num_threads=settings["threads"])
    paths, turn = itertools.cycle(settings["documents"]), Turn()
    with tempfile.TemporaryDirectory() as folder:
        vocabulary, pattern = ranks(Path(settings["tokenizer"]), Path(folder))
        while True:
            turn.wait()
            with tempfile.TemporaryDirectory() as out:
                table = daft.read_json(next(paths))
                ids = tokenize_encode(
                    table["text"], str(vocabulary), pattern=pattern, special_tokens="llama3"
                )
                table.select(ids.alias("ids")).write_parquet(out)
                written = daft.read_parquet(f"{out}/*.parquet")
                counts = written.select(written["ids"].list_count().alias("n")).to_pydict()["n"]
            turn.figures = {"documents": len(counts), "tokens": sum(counts)}


def ranks(tokenizer: Path, folder: Path) -> tuple[Path, str]:
    """The vocabulary in tiktoken's form, and the pattern that cuts text."""
    others = (byte for byte in range(256) if byte not in PRINTABLE)
    moved = {byte: 256 + place for place, byte in enumerate(others)}
    bytes_of = {chr(moved.get(byte, byte)): byte for byte in range(256)}
    vocabulary = json.loads((tokenizer / "vocab.json").read_text(encoding="utf-8"))
    path = folder / "qwen.tiktoken"
    with path.open("w") as file:
        for token, rank in sorted(vocabulary.items(), key=lambda item: item[1]):
            spelled = base64.b64encode(bytes(bytes_of[symbol] for symbol in token)).decode()
            file.write(f"{spelled} {rank}\n")
    settings = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    return path, settings["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
