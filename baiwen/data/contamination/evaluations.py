"""Evaluation files as sequences of words: what no document to train on may hold.

    tests = read([Path("eval/gsm8k/test.jsonl.gz"), Path("eval/mmlu")], fields=("question",))
    tests.places[17]                    # "eval/gsm8k/test.jsonl.gz:18 question"

Every string of a row of JSONL, JSON or Parquet is a sequence, however deep it lies in lists and
objects (choices, few-shot examples, messages), or those of the named fields alone; a text file is
one. A question of a few words and its short choices say little each, but together they are a test:
strings of fewer than `least` words are joined, in their order, to one sequence of the row.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from baiwen import files
from baiwen.data.words import Words, words
from baiwen.errors import UserError

ROWS = (".jsonl", ".json", ".parquet", ".txt")
PACKED = ("", ".gz", ".zst")
SPEAKER = "role"  # of a message: who speaks is no text


@dataclass(frozen=True)
class Evaluations:
    """Sequences of words, each with the place it is from."""

    words: Words  # `bounds` part the sequences; `starts` and `ends` are of no use
    places: list[str]  # of each: "FILE:ROW FIELD", or "FILE:ROW" of short strings joined

    @property
    def lengths(self) -> np.ndarray:
        """Words of each sequence, int64."""
        return np.diff(self.words.bounds)

    def sequence(self, number: int) -> np.ndarray:
        """The words of one, uint64."""
        return self.words.hashes[self.words.bounds[number] : self.words.bounds[number + 1]]


def read(paths: Sequence[Path], fields: Sequence[str] = (), least: int = 13) -> Evaluations:
    """The sequences of files and folders; a `UserError` where one of them holds none.

    fields: of a row whose strings count; none named: all. least: see above.
    """
    strings: dict[str, str] = {}  # by place
    for path in found(paths):
        before = len(strings)
        for place, text in _strings(path, fields):
            strings[place] = text
        if len(strings) == before:
            wanted = f" in {', '.join(fields)}" if fields else ""
            raise UserError(f"{path}: holds no text{wanted}, so nothing to keep documents free of")
    return _sequences(strings, least)


def found(paths: Sequence[Path]) -> list[Path]:
    """The evaluation files of paths and folders, sorted within each."""
    endings = tuple(kind + packed for kind in ROWS for packed in PACKED)
    listed: list[Path] = []
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        chosen = [file for file in inside if file.name.endswith(endings) and file.is_file()]
        if not chosen:
            raise UserError(
                f"{path}: is or holds no evaluation file; those end in {' '.join(ROWS)}, all but "
                "Parquet also packed (.gz, .zst)"
            )
        listed += chosen
    return list(dict.fromkeys(listed))


def strings(value: Any, name: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON
    """Every string in a value of JSON, with the path to it: ("choices.2", "Paris")."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in pairs:
            if key != SPEAKER:
                yield from strings(item, f"{name}.{key}" if name else str(key))


def _strings(path: Path, fields: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The strings of a file by their places, each different: "FILE:ROW FIELD"."""
    for number, row in enumerate(_rows(path), start=1):
        chosen = {name: row[name] for name in fields if name in row} if fields else row
        for name, text in strings(chosen):
            yield f"{path}:{number} {name}", text


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    kind = Path(path.name.removesuffix(".gz").removesuffix(".zst")).suffix
    match kind:
        case ".parquet":
            yield from files.read_parquet(path)
        case ".jsonl":
            yield from files.read_jsonl(path)
        case ".txt":
            yield {"text": files.read_text(path)}
        case _:
            try:
                value = json.loads(files.read_text(path))
            except ValueError as error:
                raise UserError(f"{path}: this is not JSON: {error}") from error
            yield from ({"": row} if not isinstance(row, dict) else row for row in _list(value))


def _list(value: Any) -> list[Any]:  # noqa: ANN401
    return value if isinstance(value, list) else [value]


def _sequences(strings: dict[str, str], least: int) -> Evaluations:
    """One sequence for each long string, the same string once, and one for a row's short ones."""
    every = words(pa.array(list(strings.values()), pa.large_string()))
    counts = np.diff(every.bounds)
    groups: dict[str, list[int]] = defaultdict(list)  # strings of each sequence, by its place
    known: set[str] = set()
    for number, (place, text) in enumerate(strings.items()):
        if counts[number] < least:
            groups[place.rpartition(" ")[0]].append(number)
        elif text not in known:
            known.add(text)
            groups[place].append(number)
    order = np.array([number for group in groups.values() for number in group], np.int64)
    begins = np.repeat(every.bounds[order], counts[order])
    within = np.arange(counts[order].sum()) - np.repeat(
        np.cumsum(counts[order]) - counts[order], counts[order]
    )
    sizes = [int(counts[group].sum()) for group in groups.values()]
    bounds = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
    return Evaluations(
        replace(every, hashes=every.hashes[begins + within], bounds=bounds), list(groups)
    )
