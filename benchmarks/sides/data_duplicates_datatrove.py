"""A peer: datatrove's four stages of MinHash, over a corpus of `benchmarks.planted`.

    settings: {"documents": FOLDER, "threads": 1}

Its own defaults: 14 bands of 8 hashes of 64 bits, 5 words of spaCy's English tokenizer, clusters by
union-find, of which one document stays. Candidates are not verified. Run by a Python that has it:
`pip install datatrove[processing,io] spacy`.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig

from benchmarks.turns import Turn

CONFIG = MinhashConfig(hash_config=HashConfig(precision=64))


def removed(source: Path) -> list[str]:
    """The ids of the documents that go."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        signatures, pairs, gone, dropped = (
            str(folder / stage) for stage in ("signatures", "pairs", "gone", "dropped")
        )
        reader = JsonlReader(str(source), glob_pattern="documents.jsonl")
        writer = JsonlWriter(dropped, compression=None)
        stages = [
            ([reader, MinhashDedupSignature(signatures, config=CONFIG)], 1),
            ([MinhashDedupBuckets(signatures, pairs, config=CONFIG)], CONFIG.num_buckets),
            ([MinhashDedupCluster(pairs, gone, config=CONFIG)], 1),
            ([reader, MinhashDedupFilter(gone, exclusion_writer=writer)], 1),
        ]
        for number, (pipeline, tasks) in enumerate(stages):
            logs = str(folder / f"logs{number}")
            LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=logs).run()
        lines = [line for path in Path(dropped).rglob("*.jsonl") for line in path.open()]
        return [json.loads(line)["id"] for line in lines]


def main(settings: dict[str, Any]) -> None:
    """All documents whenever it is told."""
    folder = Path(settings["documents"])
    with (folder / "documents.jsonl").open(encoding="utf-8") as file:
        documents = sum(1 for _ in file)
    turn = Turn()
    while True:
        turn.wait()
        turn.figures = {"documents": documents, "removed": removed(folder)}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
