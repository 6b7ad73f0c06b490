"""A peer: datatrove's `DocumentTokenizer`, from JSONL to its token files; run by its own Python.

settings: {"documents": [FILE.jsonl, ...], "tokenizer": FOLDER, "threads": 1}

A turn takes the next file.
"""

import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens.tokenizer import DocumentTokenizer

from benchmarks.turns import Turn


def main(settings: dict[str, Any]) -> None:
    """Read, tokenize and write a file's documents whenever it is told."""
    path = f"{settings['tokenizer']}/tokenizer.json"
    options: dict[str, Any] = {"eos_token": "<|endoftext|>", "shuffle_documents": False}
    tokenizer = DocumentTokenizer(tempfile.gettempdir(), path, **options).tokenizer  # loaded once
    paths, turn = itertools.cycle(map(Path, settings["documents"])), Turn()
    while True:
        turn.wait()
        documents = next(paths)
        reader = JsonlReader(str(documents.parent), glob_pattern=documents.name, compression=None)
        with tempfile.TemporaryDirectory() as out:
            writer = DocumentTokenizer(out, path, **options)
            writer.tokenizer = tokenizer
            writer.run(reader.run())
            (tokens,) = Path(out).glob("*.ds")
            (ends,) = Path(out).glob("*.ds.index")
            turn.figures = {
                "documents": ends.stat().st_size // 8,
                "tokens": tokens.stat().st_size // writer.token_size,
            }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
