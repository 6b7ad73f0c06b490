"""Documents to token ids, which training reads by memory-map (format: `data/shards.py`).

Reads the folders of data stages and a tokenizer. Writes, for every source (domain) of documents,

    NAME/index.json    NAME/tokens-00000.bin    NAME/ends-00000.bin    ...

Every document ends with `<|endoftext|>`, and stands as often as its `meta.copies` says. With
`[fim]` code gets holes to fill, and the files of a repository become one document (`data/fim.py`).
One process a core tokenizes; a killed run redoes only the shards that were not finished.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from baiwen import files, log
from baiwen.config import Input, Inputs, Knobs
from baiwen.data.executor import cores, ordered
from baiwen.data.fim import Fim
from baiwen.data.shards import id_type, sweep, write_index
from baiwen.data.tokenize import jobs, tokenize
from baiwen.data.writers import by_source, source_name
from baiwen.errors import UserError
from baiwen.files.runs import NAMES
from baiwen.tokenizer.tokenizer import Tokenizer

SAMPLE = 200  # documents of each source that a plan encodes


class Config(Knobs):
    """What to tokenize, and with what."""

    out: Path  # the run folder
    documents: Inputs  # folder of a data or synthesize stage, or several
    tokenizer: Input  # folder with tokenizer.json
    fim: Fim = Fim()  # holes in documents of code, repositories as documents
    workers: Annotated[int, Field(ge=0)] = 0  # processes; 0: one a core


def run(config: Config, folder: files.RunFolder) -> None:
    """Write the shards of every source and its index."""
    sources, tokenizer = by_source(*config.documents), Tokenizer.load(config.tokenizer)
    _refuse_reserved(sources)
    sweep(folder.path, {source: len(paths) for source, paths in sources.items()})
    work = list(jobs(sources, config.tokenizer, config.fim, folder.path, folder.path / "state"))
    done = ordered(tokenize, work, min(config.workers or cores(), len(work)))
    shards = list(log.track(done, "tokenize", total=len(work), unit="shards"))
    for source in sources:
        own = [shard for job, shard in zip(work, shards, strict=True) if job.source == source]
        write_index(folder.path / source, own, tokenizer)
        tokens, size = sum(shard.tokens for shard in own), sum(shard.bytes for shard in own)
        again = sum(shard.repeated for shard in own)
        said = f", {again:,} of its documents are repetitions" if again else ""
        log.say(f"{source}: {tokens:,} tokens, {size / max(tokens, 1):.2f} bytes a token{said}")


def check(config: Config, to_come: Sequence[Path]) -> None:
    """Stop where a source has a name that the run folder needs, if the documents are there."""
    for documents in config.documents:
        later = any(documents.is_relative_to(folder) for folder in to_come)
        if documents.is_dir() and not later:
            _refuse_reserved(by_source(documents))


def plan(config: Config) -> dict[str, str | int]:
    """How many tokens there will be: the kept bytes, divided as the first documents encode."""
    if not all(path.is_dir() for path in (*config.documents, config.tokenizer)):
        return {}
    tokenizer = Tokenizer.load(config.tokenizer)
    size: Counter[str] = Counter()  # several domains may share a source's name
    for documents in config.documents:
        for domain, count in files.read_json(documents / "data.json")["kept"].items():
            size[source_name(domain)] += count["bytes"]
    tokens = 0
    for source, paths in by_source(*config.documents).items():
        rows = list(itertools.islice(files.read_jsonl(paths[0]), SAMPLE))
        encoded = tokenizer.encode_many([row["text"] for row in rows])
        copies = [row["meta"].get("copies", 1) for row in rows]
        ids = sum((len(ids) + 1) * times for ids, times in zip(encoded, copies, strict=True))
        read = sum(len(row["text"].encode()) for row in rows)
        tokens += round(size[source] * ids / max(read, 1))
    width = id_type(len(tokenizer)).itemsize
    return {"tokens (estimate)": tokens, "bytes on disk (estimate)": tokens * width}


def _refuse_reserved(sources: Mapping[str, Sequence[Path]]) -> None:
    for source, paths in sources.items():
        if source.lower() in NAMES:
            raise UserError(
                f"{paths[0].parent} holds documents of the domain {source!r}, but that is the name "
                "of a part of every run folder. Give these documents another `meta.domain`, or "
                "another name in [[extra]], and run the data stage again."
            )
