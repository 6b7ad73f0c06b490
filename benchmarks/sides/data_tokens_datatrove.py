"""A peer: datatrove's `DocumentTokenizer`, from JSONL to its token files; run by its own Python.

settings: {"documents": FILE.jsonl, "tokenizer": FOLDER, "threads": 1}
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens.tokenizer import DocumentTokenizer

from benchmarks.turns import Turn


def main(settings: dict[str, Any]) -> None:
    """Read, tokenize and write all documents whenever it is told."""
    path = Path(settings["documents"])
    reader = JsonlReader(str(path.parent), glob_pattern=path.name, compression=None)
    turn = Turn()
    while True:
        turn.wait()
        with tempfile.TemporaryDirectory() as out:
            writer = DocumentTokenizer(
                out,
                f"{settings['tokenizer']}/tokenizer.json",
                eos_token="<|endoftext|>",
                shuffle_documents=False,
            )
            writer.run(reader.run())
            (tokens,) = Path(out).glob("*.ds")
            (ends,) = Path(out).glob("*.ds.index")
            documents = ends.stat().st_size // 8
            turn.figures = {
                "documents": documents,
                "tokens": tokens.stat().st_size // writer.token_size,
            }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
