"""A peer: Daft's own MinHash as a data frame, over a corpus of `benchmarks.planted`.

    settings: {"documents": FOLDER, "threads": 1}

As Daft's guide to deduplication does it: texts are normalised, signatures of 14 bands of 8 hashes
over 5 words are exploded into bands, a document goes that is not the first of one of its bands,
and an anti-join leaves the others. Candidates are not verified. Run by a Python that has Daft.
"""

import json
import sys
from pathlib import Path
from typing import Any

import daft
from daft import col
from daft.functions import chunk, hash, minhash, monotonically_increasing_id, normalize

from benchmarks.turns import Turn

BANDS, ROWS, WORDS = 14, 8, 5


def removed(path: Path) -> list[str]:
    """The ids of the documents that go."""
    frame = daft.read_parquet(str(path)).select("id", "text")
    plain = normalize(col("text"), remove_punct=True, lowercase=True, white_space=True)
    signature = minhash(plain, num_hashes=BANDS * ROWS, ngram_size=WORDS, hash_function="xxhash")
    signed = frame.select(col("id"), chunk(signature, ROWS).alias("band"))
    signed = signed.with_column("row", monotonically_increasing_id())
    numbered = signed.with_column("place", daft.lit(list(range(BANDS))))
    exploded = numbered.explode("band", "place")
    bands = exploded.select("id", "row", hash(col("band")).alias("key"), "place").collect()
    first = bands.groupby("place", "key").agg(col("row").min().alias("first"))
    later = bands.join(first, on=["place", "key"]).where(col("row") != col("first"))
    gone = later.select("id").distinct()
    left = frame.join(gone, on="id", how="anti").select("id").to_pydict()["id"]
    return sorted(set(frame.select("id").to_pydict()["id"]) - set(left))


def main(settings: dict[str, Any]) -> None:
    """All documents whenever it is told."""
    path = Path(settings["documents"]) / "documents.parquet"
    documents = daft.read_parquet(str(path)).count_rows()
    turn = Turn()
    while True:
        turn.wait()
        turn.figures = {"documents": documents, "removed": removed(path)}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
