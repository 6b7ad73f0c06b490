"""The data pipeline, claim by claim, beside datatrove, Daft and fastText.

    python -m benchmarks.data                                   # the rows whose peers are here
    python -m benchmarks.data --peer-python peers-data/bin/python --write
    python -m benchmarks.data heuristics tokens --documents texts --share 0.2

The sides take turns on the same files: pages of about 4.7 KB of English text of the shared data, if
it lies beside the checkout, else of the standard library's documentation and code, or of files of
your own. A CPU second is one of all threads of a side, which has one thread. A row is printed
without the peers that are missing, and says so. The peers need an environment of their own:

    python -m venv peers-data
    peers-data/bin/pip install "datatrove[processing,io]==0.10.1" spacy==3.8.18 fasteners \\
        fasttext-numpy2-wheel==0.9.2 daft==0.7.26

Daft's engines are those of this environment: `pip install baiwen[daft]`.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks import page
from benchmarks.data_disturbed import engines, kills
from benchmarks.data_found import labels, recall
from benchmarks.data_pace import classifier, contamination, duplicates, heuristics, tokens
from benchmarks.data_pages import (
    SHARED,
    Bench,
    Claim,
    Peer,
    Row,
    found_pages,
    found_peers,
)

ROWS: dict[str, tuple[Callable[[Bench], Row], tuple[str, ...]]] = {  # and the peers of each
    "heuristics": (heuristics, ("datatrove", "spacy")),
    "duplicates": (duplicates, ("datatrove", "daft")),
    "classifier": (classifier, ("fasttext-numpy2-wheel", "datatrove")),
    "labels": (labels, ("fasttext-numpy2-wheel",)),
    "tokens": (tokens, ("datatrove", "daft")),
    "contamination": (contamination, ()),
    "recall": (recall, ()),
    "engines": (engines, ()),
    "kills": (kills, ()),
}
MOST = 6000  # pages that a row takes at most, with --share 1
HEAD = ("claim", "target", "baiwen", "beside it", "holds")


def main() -> None:
    """Measure, print, and write the page when asked."""
    options = arguments()
    pythons = [options.peer_python] if options.peer_python else []
    peers = found_peers([*(str(Path(one).absolute()) for one in pythons), sys.executable])
    name, texts = found_pages(options.documents, round(MOST * options.share))
    shared = SHARED if SHARED.is_dir() else None
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), texts, shared, peers, options.share, options.rounds)
        claims, body = measured(options.rows or list(ROWS), bench)
    size = sum(len(text.encode()) for text in texts) / len(texts)
    told = (
        f"Up to {len(texts):,} pages of {size / 1000:.1f} KB of `{name}`; medians of "
        f"{options.rounds} turns of each side, but for sides so slow that they have one."
    )
    versions = {name: peer.version for name, peer in peers.items()}
    lines = [told, "", *page.table(HEAD, [claim.line() for claim in claims]), *body]
    page.publish("data", "The data pipeline beside its peers", lines, options.write, versions)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; none: all")
    parser.add_argument("--documents", help="file, folder or glob of documents to make pages of")
    parser.add_argument("--peer-python", help="of an environment with the peers; default: this one")
    parser.add_argument("--share", type=float, default=1.0, help="of the full size of each row")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side that count")
    options = parser.parse_args()
    if wrong := set(options.rows) - set(ROWS):
        parser.error(f"there is no row {', '.join(sorted(wrong))}; there are: {', '.join(ROWS)}")
    return options


def measured(names: Iterable[str], bench: Bench) -> tuple[list[Claim], list[str]]:
    """The claims of these rows, and a section of each."""
    claims, body = [], []
    for name in names:
        began = time.monotonic()
        measure, needed = ROWS[name]
        row = measure(bench)
        claims += row.claims
        missing = lacking(needed, bench.peers)
        body += ["", f"## {name.capitalize()}", "", *missing, *row.body]
        told = [" | ".join(claim.line()) for claim in row.claims]
        seconds = f"{name}: {time.monotonic() - began:.0f} s"
        print(seconds, *told, sep="\n", file=sys.stderr, flush=True)
    return claims, body


def lacking(needed: Iterable[str], peers: dict[str, Peer]) -> list[str]:
    """What to say of peers that are not there."""
    names = [name for name in needed if name not in peers]
    return [f"Without {', '.join(names)}: not installed (--peer-python).", ""] if names else []


if __name__ == "__main__":
    main()
