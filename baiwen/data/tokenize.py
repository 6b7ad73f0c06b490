"""Documents files to shards, one shard a file, in processes; a killed run redoes unfinished shards.

    work = jobs(by_source("runs/tiny/data"), tokenizer, fim, out, state)
    for shard in ordered(tokenize, work): ...

What a finished shard holds and what it was made of lies in `state/NAME-00000.json`. The shard is
made again unless its files are whole and its documents file, the tokenizer and the form of code are
the same.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from baiwen import files
from baiwen.data import read
from baiwen.data.fim import Fim, arranged
from baiwen.data.shards import Shard, is_whole, write_shard
from baiwen.tokenizer.tokenizer import Tokenizer

_tokenizer = cache(Tokenizer.load)  # once a process


@dataclass(frozen=True)
class Job:
    """One documents file to turn into one shard."""

    source: str
    number: int  # of the shard within its source
    documents: Path
    tokenizer: Path
    fim: Fim
    out: Path  # folder of all sources
    state: Path  # folder of notes about finished shards


def jobs(
    sources: Mapping[str, Sequence[Path]], tokenizer: Path, fim: Fim, out: Path, state: Path
) -> Iterator[Job]:
    """A job for every documents file of every source."""
    for source, paths in sources.items():
        for number, path in enumerate(paths):
            yield Job(source, number, path, tokenizer, fim, out, state)


def tokenize(job: Job) -> Shard:
    """Write the shard of a job, or find it finished."""
    tokenizer, folder = _tokenizer(job.tokenizer), job.out / job.source
    note = job.state / f"{job.source}-{job.number:05}.json"
    with job.documents.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    origin = {
        "documents": digest,
        "tokenizer": tokenizer.fingerprint,
        "fim": job.fim.model_dump(mode="json"),
    }
    if note.is_file():
        noted = files.read_json(note)
        shard = Shard(**noted["shard"])
        if noted["origin"] == origin and is_whole(folder, job.number, shard, len(tokenizer)):
            return shard
    documents = arranged(read.documents([job.documents]), job.fim)
    shard = write_shard(folder, job.number, documents, tokenizer)
    files.write_json(note, {"origin": origin, "shard": asdict(shard)})
    return shard
