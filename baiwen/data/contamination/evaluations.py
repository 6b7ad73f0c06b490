"""Evaluation files as sequences of words: what no document to train on may hold.

    paths = [Path("eval/gsm8k/test.jsonl.gz"), Path("eval/mmlu")]
    tests = read(paths, ("question",), whole=10, least=13)
    tests.places[17]                    # "eval/gsm8k/test.jsonl.gz:18 question"

Every string of a row of JSONL, JSON or Parquet counts, however deep it lies in lists and objects
(choices, few-shot examples, messages), or those of the named fields alone; a text file is a row of
one string. Of a row the sequences are

    FILE:ROW FIELD          each string of at least `whole` words: a question, a solution
    FILE:ROW short          those of fewer than `least` in their order: a question and its choices
    FILE:ROW                all its strings, where there are more than those
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from baiwen import files
from baiwen.data.words import Words, words
from baiwen.errors import UserError

ROWS = (".jsonl", ".json", ".parquet", ".txt")
PACKED = ("", ".gz", ".zst")
SPEAKER = "role"  # of a message: who speaks is no text


class String(NamedTuple):
    """A string of a row."""

    row: str  # its place
    field: str  # the path to the string within it
    text: str


@dataclass(frozen=True)
class Evaluations:
    """Sequences of words, each with the place it is from."""

    words: Words  # `bounds` part the sequences; `starts` and `ends` are of no use
    places: list[str]  # of each, as above

    @property
    def lengths(self) -> np.ndarray:
        """Words of each sequence, int64."""
        return np.diff(self.words.bounds)

    def sequence(self, number: int) -> np.ndarray:
        """The words of one, uint64."""
        return self.words.hashes[self.words.bounds[number] : self.words.bounds[number + 1]]


def read(paths: Sequence[Path], fields: Sequence[str], whole: int, least: int) -> Evaluations:
    """The sequences of files and folders; a `UserError` where one of them holds none.

    fields: of a row whose strings count; none named: all. whole, least: words, see above.
    """
    strings: list[String] = []
    for path in found(paths):
        own = list(_strings(path, fields))
        if not own:
            wanted = f" in {', '.join(fields)}" if fields else ""
            raise UserError(f"{path}: holds no text{wanted}, so nothing to keep documents free of")
        strings += own
    return _sequences(strings, whole, least)


def counted(
    paths: Sequence[Path], fields: Sequence[str], whole: int
) -> Iterator[tuple[Path, int, int]]:
    """Each file with its rows that hold text, and those of at least `whole` words."""
    for path in found(paths):
        own = list(_strings(path, fields))
        sizes = np.diff(words(pa.array([one.text for one in own], pa.large_string())).bounds)
        rows = Counter[str]()
        for string, size in zip(own, sizes.tolist(), strict=True):
            rows[string.row] += size
        yield path, len(rows), sum(size >= whole for size in rows.values())


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


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON
    """Every string in a value of JSON, with the path to it: ("choices.2", "Paris")."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in pairs:
            if key != SPEAKER:
                yield from leaves(item, f"{name}.{key}" if name else str(key))


def _strings(path: Path, fields: Sequence[str]) -> Iterator[String]:
    for number, row in enumerate(_rows(path), start=1):
        chosen = {name: row[name] for name in fields if name in row} if fields else row
        for name, text in leaves(chosen):
            yield String(f"{path}:{number}", name, text)


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


def _sequences(strings: Sequence[String], whole: int, least: int) -> Evaluations:
    every = words(pa.array([string.text for string in strings], pa.large_string()))
    counts = np.diff(every.bounds)
    groups = _groups(strings, counts >= whole, counts < least)
    order = np.array([number for group in groups.values() for number in group], np.int64)
    ends = np.cumsum(counts[order])
    chosen = np.repeat(every.bounds[order] - ends + counts[order], counts[order])
    chosen += np.arange(len(chosen))
    sizes = [int(counts[group].sum()) for group in groups.values()]
    bounds = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
    return Evaluations(replace(every, hashes=every.hashes[chosen], bounds=bounds), list(groups))


def _groups(
    strings: Sequence[String], alone: np.ndarray, short: np.ndarray
) -> dict[str, list[int]]:
    """The strings of each sequence, by its place; one that many rows have is alone but once."""
    groups: dict[str, list[int]] = {}
    known: set[str] = set()
    for row, group in itertools.groupby(range(len(strings)), key=lambda i: strings[i].row):
        numbers = list(group)
        for number in numbers:
            text = strings[number].text
            if alone[number] and text not in known:
                known.add(text)
                groups[f"{row} {strings[number].field}"] = [number]
        joined = [number for number in numbers if short[number]]
        if len(joined) > 1:
            groups[f"{row} short"] = joined
        if 0 < len(joined) < len(numbers):
            groups[row] = numbers
    return groups
