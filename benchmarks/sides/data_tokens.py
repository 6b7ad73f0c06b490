"""A side: documents to shards, as the stage `shards` makes them: one file, one process.

settings: {"documents": [FILE.jsonl, ...], "tokenizer": FOLDER, "threads": 1}

A turn takes the next file: the pieces of text that it meets are not all known from the last turn.
"""

import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from baiwen.data.fim import Fim
from baiwen.data.tokenize import Job, tokenize
from benchmarks.turns import Turn


def main(settings: dict[str, Any]) -> None:
    """Read, tokenize and write a file's documents whenever it is told."""
    paths, turn = itertools.cycle(settings["documents"]), Turn()
    while True:
        turn.wait()
        with tempfile.TemporaryDirectory() as name:
            out = Path(name)
            documents, tokenizer = Path(next(paths)), Path(settings["tokenizer"])
            shard = tokenize(Job("all", 0, documents, tokenizer, Fim(), out, out / "state"))
        turn.figures = {
            "documents": shard.documents,
            "bytes": shard.bytes,
            "tokens": shard.tokens,
        }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
