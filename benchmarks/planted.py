"""A corpus with planted duplicates, and a judge of what a side removed from it.

    python -m benchmarks.planted FOLDER web_en-00.jsonl.zst books_en-00.jsonl.zst [documents=9000]

Real documents are cut into pieces of about 4.7 KB; of some an exact copy is added, of some a near
one (some words replaced, a line added: similar enough), of some a decoy (more words replaced: not
similar enough). All are shuffled. The folder gets

    documents.jsonl, documents.parquet      id, text (bytes)
    planted.json                            [{"original", "copy", "kind", "similarity"}, ...]

    judge(Path("FOLDER"), ["d17", ...])     # ids that a side removed

Similarity is the Jaccard of runs of five words, a word being what `\\w+` finds in lower case. What
is removed falsely is found by brute force: a document that no kept one is similar to.
"""

import json
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from baiwen import files

SIZE = 4700  # bytes of a document, in the mean
DOCUMENTS = 12_000  # real ones
SHARES = {"exact": 0.04, "near": 0.07, "decoy": 0.03}  # of the real documents, that are copied
EDITS = {"near": (0.002, 0.015), "decoy": (0.05, 0.1)}  # share of the words that is replaced
BOUND, WORDS = 0.8, 5


def pieces(texts: Iterable[str], rng: random.Random) -> Iterator[str]:
    """Pieces of documents, cut at white space, each different from all others."""
    seen = set()
    for text in texts:
        at = 0
        while at < len(text):
            end = at + int(SIZE * rng.uniform(0.6, 1.7))
            end = text.find(" ", end) if " " in text[end:] else len(text)
            piece, at = text[at:end], end
            if len(piece) > SIZE // 5 and piece not in seen:
                seen.add(piece)
                yield piece


def edited(text: str, share: float, rng: random.Random) -> str:
    """The text with a share of its words replaced by words from elsewhere in it, reversed."""
    words = re.split(r"(\s+)", text)  # every second one is white space
    places = range(0, len(words), 2)
    for place in rng.sample(places, max(round(share * len(places)), 1)):
        words[place] = words[rng.choice(places)][::-1] + "q"
    return "".join(words)


def planted(texts: list[str], rng: random.Random) -> Iterator[tuple[int, str, str]]:
    """The place of an original, its copy, and which kind that is."""
    places = rng.sample(range(len(texts)), len(texts))
    for kind, share in SHARES.items():
        for _ in range(round(share * len(texts))):
            place = places.pop()
            copy = texts[place]
            if kind in EDITS:
                copy = edited(copy, rng.uniform(*EDITS[kind]), rng)
                copy += f"\nPage {rng.randrange(10**6)} of the archive."
            yield place, copy, kind


def shingles(text: str) -> set[int]:
    """The different runs of words, as Python's hashes of this process."""
    words = re.findall(r"\w+", text.lower())
    last = max(len(words) - WORDS + 1, 1)
    return {hash(tuple(words[at : at + WORDS])) for at in range(last)}


def similarity(left: set[int], right: set[int]) -> float:
    """Their Jaccard similarity."""
    return len(left & right) / len(left | right)


def make(folder: Path, texts: list[str], rng: random.Random) -> None:
    """Write the corpus of these pieces."""
    copies = list(planted(texts, rng))
    whole = texts + [copy for _, copy, _ in copies]
    ids = [f"d{number}" for number in rng.sample(range(len(whole)), len(whole))]
    told = [
        {
            "original": ids[place],
            "copy": ids[len(texts) + number],
            "kind": kind,
            "similarity": similarity(shingles(texts[place]), shingles(copy)),
        }
        for number, (place, copy, kind) in enumerate(copies)
    ]
    rows = sorted(zip(ids, whole, strict=True), key=lambda row: int(row[0][1:]))
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"id": id, "text": text}) + "\n" for id, text in rows)
    (folder / "documents.jsonl").write_text("".join(lines), encoding="utf-8")
    column = pa.array([text for _, text in rows], pa.large_string())
    columns = {"id": [id for id, _ in rows], "text": column, "bytes": pc.binary_length(column)}
    path = folder / "documents.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=2000, use_dictionary=False)
    (folder / "planted.json").write_text(json.dumps(told))


def judge(folder: Path, removed: Collection[str]) -> dict[str, Any]:
    """Shares of what was planted that a side found, and of what it removed that it should not have.

    Returns {"exact", "near": share found, "decoys": share removed, "removed": documents, "false":
    share of them to which no kept document is similar}.
    """
    gone = set(removed)
    found = defaultdict(list)
    for one in json.loads((folder / "planted.json").read_text()):
        kind = one["kind"]
        if kind == "near" and one["similarity"] < BOUND:
            continue
        found[kind].append(bool(gone & {one["original"], one["copy"]}))
    shares = {kind: sum(hits) / len(hits) for kind, hits in found.items()}
    false = sum(best < BOUND for best in nearest_kept(folder, gone).values())
    return {
        "exact": shares["exact"],
        "near": shares["near"],
        "decoys": shares["decoy"],
        "removed": len(gone),
        "false": false / max(len(gone), 1),
    }


def nearest_kept(folder: Path, gone: set[str]) -> dict[str, float]:
    """For each removed document its similarity to the kept one that is most like it."""
    rows = [json.loads(line) for line in (folder / "documents.jsonl").open(encoding="utf-8")]
    of = {row["id"]: shingles(row["text"]) for row in rows}
    wanted = set().union(*(of[id] for id in gone)) if gone else set()
    homes = defaultdict(list)
    for id, own in of.items():
        if id not in gone:
            for shingle in own & wanted:
                homes[shingle].append(id)
    best = {}
    for id in gone:
        shared = Counter(home for shingle in of[id] for home in homes[shingle])
        best[id] = max((similarity(of[id], of[other]) for other in shared), default=0.0)
    return best


def main() -> None:
    """Make a corpus of files of documents."""
    made, *named = sys.argv[1:]
    options = dict(name.split("=") for name in named if "=" in name)
    paths = [Path(name) for name in named if "=" not in name]
    rng = random.Random(0)
    every = list(pieces((row["text"] for path in paths for row in files.read_jsonl(path)), rng))
    count = min(int(options.get("documents", DOCUMENTS)), len(every))
    make(Path(made), rng.sample(every, count), rng)


if __name__ == "__main__":
    main()
