"""A side: documents to shards, as the stage `shards` makes them: one file, one process.

settings: {"documents": FILE.jsonl, "tokenizer": FOLDER, "threads": 1}
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from baiwen.data.fim import Fim
from baiwen.data.tokenize import Job, tokenize
from benchmarks.turns import Turn


def main(settings: dict[str, Any]) -> None:
    """Read, tokenize and write all documents whenever it is told."""
    turn = Turn()
    while True:
        turn.wait()
        with tempfile.TemporaryDirectory() as name:
            out = Path(name)
            documents, tokenizer = Path(settings["documents"]), Path(settings["tokenizer"])
            shard = tokenize(Job("all", 0, documents, tokenizer, Fim(), out, out / "state"))
        turn.figures = {
            "documents": shard.documents,
            "bytes": shard.bytes,
            "tokens": shard.tokens,
        }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
