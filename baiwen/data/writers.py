"""Documents files: what a run kept, by domain, what it held out, and what it dropped and why.

    documents-code-00003.jsonl.zst    {"id", "text", "meta"}
    heldout.jsonl.zst
    dropped-00000.jsonl.zst           {"id", "text", "meta", "verdict"}

    write_all(ended, counted, findings, work)       # counted: the census of every part
    by_source(folder)                 # {"code": [.../documents-code-00000.jsonl.zst, ...], ...}

A file is of a bounded size and written by one process, from the parts whose documents it holds: so
many are written side by side, and which document stands where depends on the parts alone.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from baiwen import files, log
from baiwen.data.pipeline.census import Census, Table
from baiwen.data.pipeline.ending import DROPPED, HELDOUT, KEPT, Ended, Ending
from baiwen.data.pipeline.engines import Work
from baiwen.data.pipeline.sidecar import PARTS
from baiwen.data.split import family_hashes
from baiwen.errors import UserError

FILE_BYTES = 1 << 26  # of text in a documents file: the work of one process in the shards stage
DOMAINS = 100  # domains that a corpus may have: each is a source of the mixture
HELDOUT_FILE = "heldout.jsonl.zst"
PLAN = "files.json"  # among the parts: which file holds what


@dataclass(frozen=True)
class Planned:
    """A file that is yet to be written: the documents of an outcome and some domains."""

    name: str
    outcome: str
    domains: tuple[str, ...]
    parts: tuple[int, ...]  # that have such documents

    def __str__(self) -> str:
        return self.name


def plan(counted: Sequence[Census]) -> list[Planned]:
    """The files of what is kept and dropped, given the census of every part."""
    by_source: dict[str, list[str]] = defaultdict(list)
    for domain in sorted({domain for one in counted for domain in one.kept}):
        by_source[source_name(domain)].append(domain)
    if len(by_source) > DOMAINS:
        raise UserError(
            f"the corpus has {len(by_source)} domains, more than {DOMAINS}: "
            f"{', '.join(list(by_source)[:5])}, .... Each becomes a source of the mixture: give "
            "the documents' `meta.domain` fewer values."
        )
    dropped = sorted({domain for one in counted for domain in one.dropped})
    return [
        *(
            planned
            for source, domains in by_source.items()
            for planned in _packed(
                f"documents-{source}", KEPT, domains, [one.kept for one in counted]
            )
        ),
        *_packed("dropped", DROPPED, dropped, [one.dropped for one in counted]),
    ]


def _packed(
    stem: str, outcome: str, domains: Sequence[str], tables: Sequence[Table]
) -> Iterator[Planned]:
    """Files of at most `FILE_BYTES` of text, but of one part at least."""
    parts: list[int] = []
    number = total = 0
    for part, table in enumerate(tables):
        sizes = [table[domain]["bytes"] for domain in domains if domain in table]
        if parts and total + sum(sizes) > FILE_BYTES:
            yield Planned(f"{stem}-{number:05}.jsonl.zst", outcome, tuple(domains), tuple(parts))
            parts, total, number = [], 0, number + 1
        if sizes:
            parts.append(part)
            total += sum(sizes)
    if parts:
        yield Planned(f"{stem}-{number:05}.jsonl.zst", outcome, tuple(domains), tuple(parts))


def write_all(ended: Ended, counted: Sequence[Census], findings: str, work: Work) -> None:
    """Write the documents files, but for those of the same findings that are there already.

    findings: a key of all that the steps found.
    """
    begun, folder = ended.folder / "state" / "written", ended.folder
    if not begun.is_file() or begun.read_text() != findings:
        for stale in (*folder.glob("documents-*"), *folder.glob("dropped-*")):
            stale.unlink()
        files.write(begun, findings)
    whole = plan(counted)
    told = {one.name: {n: v for n, v in asdict(one).items() if n != "name"} for one in whole}
    files.write_json(folder / PARTS / PLAN, told)
    left = [one for one in whole if not (folder / one.name).exists()]
    for _ in log.track(work(partial(write, ended=ended), left), "write", len(left), "files"):
        pass
    write_heldout(ended, counted)


def write(planned: Planned, ended: Ended) -> str:
    """Write a file from its parts; its name."""
    with files.jsonl_writer(ended.folder / planned.name) as put:
        for number in planned.parts:
            ending = Ending(ended, number)
            for row in ending.documents(ending.rows_of(planned.outcome, planned.domains)):
                put(row)
    return planned.name


def write_heldout(ended: Ended, counted: Sequence[Census]) -> None:
    """Write what is held out, in the order of its hashes, whatever that of the parts is."""
    held: list[tuple[tuple[int, str, str], dict[str, Any]]] = []
    for number in (number for number, one in enumerate(counted) if one.heldout):
        ending = Ending(ended, number)
        rows = ending.rows_of(HELDOUT)
        hashes = family_hashes(ending.column("family").filter(rows).to_pylist()).tolist()
        for key, row in zip(hashes, ending.documents(rows), strict=True):
            held.append(((key, row["meta"]["domain"], row["id"]), row))
    with files.jsonl_writer(ended.folder / HELDOUT_FILE) as put:
        for _, row in sorted(held, key=lambda one: one[0]):
            put({name: row[name] for name in ("id", "text", "meta")})


def source_name(domain: str) -> str:
    """A domain as a part of a file name: the name of its source in the mixture."""
    return re.sub(r"[^\w.]+", "_", domain).strip("_.") or "unnamed"


def by_source(*folders: Path | str) -> dict[str, list[Path]]:
    """The documents files of data folders, by source; those of the first folder come first."""
    found: dict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        named = [
            (match[1], path)
            for path in sorted(Path(folder).glob("documents-*.jsonl.zst"))
            if (match := re.fullmatch(r"documents-(.+)-\d{5}\.jsonl\.zst", path.name))
        ]
        for name, path in named:
            found[name].append(path)
        if not named:
            raise UserError(
                f"{folder}: holds no documents-NAME-00000.jsonl.zst. Give the folder of a data "
                "stage."
            )
    return dict(found)
