"""What the rows of `benchmarks/data.py` share: pages of real text, peers, turns, what a row tells.

    bench = Bench(folder, texts, None, found_peers([sys.executable]), share=1, rounds=3)
    rows = in_turns(bench, {OURS: Player("data_heuristics", settings), "datatrove": Player(...)})
    Row([Claim("documents a CPU second", ">= 2,500", "2,983", "datatrove 83", True)], [])

Pages are pieces of documents of about 4.7 KB (`planted.pieces`), in an order drawn once, so that a
row that takes the first thousand has a sample of all.
"""

import json
import random
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from statistics import median

from baiwen import files
from baiwen.data import corpus, read
from benchmarks import page, planted
from benchmarks.turns import ROOT, Figures, Side, take_turns

OURS = "baiwen"
SHARED = ROOT.parent / "shared" / "data"  # where the shared data lies, if it does
PROSE = "pretrain/dev/*_en-*.jsonl.zst"  # of it: English, which the peers' rules are made for
STDLIB = "stdlib"
PACKAGES = ("datatrove", "spacy", "daft", "ray", "fasttext-numpy2-wheel")
PROBE = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""
HOURS = 3600.0  # more than any row takes


@dataclass(frozen=True)
class Peer:
    """A package that a side needs, in the Python that has it."""

    python: str
    version: str


@dataclass(frozen=True)
class Bench:
    """What all rows are given."""

    folder: Path  # for their files
    texts: list[str]  # the pages
    shared: Path | None  # the shared data
    peers: dict[str, Peer]
    share: float  # of the documents, and of what else is counted, of a full run
    rounds: int  # turns of each side that count

    def size(self, full: int) -> int:
        """How many there are in this run of what a full one has so many of."""
        return max(round(full * self.share), 10)

    def pages(self, full: int) -> list[str]:
        """As many pages, or all there are."""
        return self.texts[: self.size(full)]

    def file(self, full: int) -> Path:
        """Those in a file of JSON lines."""
        return self.files(full, 1)[0]

    def files(self, full: int, count: int) -> list[Path]:
        """Those in so many files, about as many in each."""
        texts = self.pages(full)
        bounds = [number * len(texts) // count for number in range(count + 1)]
        folder = self.folder / f"{len(texts)}-in-{count}"
        return [
            write(folder / f"{number}.jsonl", texts[start:end], start)
            for number, (start, end) in enumerate(pairwise(bounds))
        ]


@dataclass(frozen=True)
class Claim:
    """A row of the page's table."""

    what: str
    target: str
    measured: str
    beside: str = ""  # what the peers did
    holds: bool | None = None  # None: nothing was asked

    def line(self) -> list[str]:
        """Its cells."""
        holds = {True: "yes", False: "**no**", None: ""}[self.holds]
        return [self.what, self.target, self.measured, self.beside, holds]


@dataclass(frozen=True)
class Row:
    """What a measurement says: its claims, and lines of Markdown that show what they rest on."""

    claims: list[Claim]
    body: list[str]


@dataclass(frozen=True)
class Player:
    """A side that is yet to be started: its module of `benchmarks/sides`, and what it needs."""

    module: str
    settings: Figures
    package: str | None = None  # of a peer


def write(path: Path, texts: Iterable[str], first: int = 0) -> Path:
    """Documents in a file of JSON lines."""
    with files.jsonl_writer(path) as put:
        for number, text in enumerate(texts, start=first):
            put({"id": f"d{number}", "text": text})
    return path


def found_pages(documents: str | None, most: int) -> tuple[str, list[str]]:
    """At most so many pages of a folder or glob, of the shared data, or of the standard library.

    Returns what they are of, and the pages.
    """
    there = sorted(str(path) for path in SHARED.glob(PROSE))
    rng = random.Random(0)
    if documents:
        texts = read.texts_of(read.find([documents]))
    elif there:
        texts = read.texts_of(read.find(there))
    else:
        texts = (one.text for chunk in corpus.chunks() for one in chunk.documents())
    name = Path(documents).name if documents else PROSE if there else STDLIB
    every = list(planted.pieces(texts, rng))
    return name, list(islice(rng.sample(every, len(every)), most))


def found_peers(pythons: Iterable[str]) -> dict[str, Peer]:
    """Each package of a peer that one of the Pythons has; the first that has it counts."""
    peers: dict[str, Peer] = {}
    for python in pythons:
        command = [python, "-c", PROBE, *PACKAGES]
        told = subprocess.run(command, capture_output=True, text=True, check=True)
        for name, version in json.loads(told.stdout).items():
            peers.setdefault(name, Peer(python, version))
    return peers


def in_turns(
    bench: Bench, players: Mapping[str, Player], once: Collection[str] = ()
) -> dict[str, list[Figures]]:
    """The figures of each side's turns, of those whose package is there.

    Sides named in `once` are so slow that they have a single turn, in the midst of the others'.
    """
    with ExitStack() as stack:
        sides = {
            name: stack.enter_context(side(bench, player))
            for name, player in players.items()
            if player.package is None or player.package in bench.peers
        }
        often = {name: one for name, one in sides.items() if name not in once}
        seldom = {name: one for name, one in sides.items() if name in once}
        half = bench.rounds // 2 or 1
        rows = take_turns(often, half, HOURS, warm=1)
        rows |= take_turns(seldom, 1, HOURS, warm=0)
        if bench.rounds > half:
            for name, more in take_turns(often, bench.rounds - half, HOURS, warm=0).items():
                rows[name] += more
    return rows


def side(bench: Bench, player: Player) -> Side:
    """A side, in its Python."""
    module, settings = f"benchmarks.sides.{player.module}", player.settings | {"threads": 1}
    if player.package is None:
        return Side(module, settings)
    return Side(module, settings, bench.peers[player.package].python)


def rate(rows: Sequence[Figures], work: str = "documents", clock: str = "cpu") -> float:
    """Its work a second: the median over the turns."""
    return median(row[work] / row[clock] for row in rows)


def pace(
    what: str, least: int, rows: Mapping[str, list[Figures]], work: str = "documents"
) -> Claim:
    """The claim that ours does so much work a CPU second."""
    ours = rate(rows[OURS], work)
    peers = [f"{name} {rate(found, work):,.0f}" for name, found in rows.items() if name != OURS]
    unit = f"{what}: {work} a CPU second"
    return Claim(unit, f">= {least:,}", f"{ours:,.0f}", ", ".join(peers), ours >= least)


def table(rows: Mapping[str, list[Figures]], work: str = "documents") -> list[str]:
    """The sides' paces and memory."""
    ours = rate(rows[OURS], work)
    lines = [
        [
            name,
            f"{rate(found, work):,.0f}",
            f"{ours / rate(found, work):.1f}x",
            f"{rate(found, work, 'wall'):,.0f}",
            f"{max(row['memory'] for row in found) / page.GIB:.2f} GiB",
            len(found),
        ]
        for name, found in rows.items()
    ]
    head = ["side", f"{work} / CPU s", "ours is", f"{work} / s", "peak memory", "turns"]
    return page.table(head, lines)
