"""Formats: JSON, JSONL (plain, `.gz`, `.zst`), text and Parquet, streamed.

    for row in read_jsonl("documents.jsonl.zst"):      # {"id": "a1", "text": "...", "meta": {...}}
        ...
    with jsonl_writer("kept.jsonl.zst") as put:        # appears only when it is whole
        put({"id": "a1", "text": "..."})

What cannot be read is a `UserError` that says where: the file, and the line where there are lines.
"""

import gzip
import importlib
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, Protocol

import zstandard

from baiwen.errors import UserError
from baiwen.files.durable import write, writing

BLOCK = 1 << 18  # bytes read at a time
PACKED = 1 << 11  # compressed bytes unpacked at a time: one block of zstd's may be 32,000 times it
DAMAGE = (EOFError, zlib.error, zstandard.ZstdError)  # what a cut or broken archive raises
BOM = b"\xef\xbb\xbf"
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_json(path: Path | str) -> Any:  # noqa: ANN401 - JSON is any of its types
    """Read one JSON value (UTF-8)."""
    with _readable(path):
        data = Path(path).read_bytes()
    try:
        return json.loads(data.removeprefix(BOM).decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: this is not JSON: {error}") from error


def write_json(path: Path | str, value: Any) -> None:  # noqa: ANN401
    """Write one JSON value durably, indented; NaN and infinity are refused, JSON has none."""
    write(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_jsonl(path: Path | str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSONL file, plain or compressed by its ending; skip blank lines.

    A broken line is a UserError with file:line and its beginning; a cut archive names the file.
    """
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            yield parse_row(line, f"{path}:{number}")


def read_lines(path: Path | str) -> Iterator[bytes]:
    """Yield the raw lines of a file, decompressed, without their ends; only `\\n` ends a line."""
    with _readable(path), Path(path).open("rb") as file:
        for number, line in enumerate(unpacked(file, Path(path).suffix)):
            yield (line if number else line.removeprefix(BOM)).removesuffix(b"\n")


def parse_row(line: bytes, place: str) -> dict[str, Any]:
    """Parse a line of a JSONL file; a UserError that names `place` where it is no JSON object."""
    try:
        row = json.loads(line.decode())
        if SURROGATE.search(line):  # half a pair is no text and could never be written again
            json.dumps(row, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        snippet = line[:60].decode(errors="replace").strip()
        raise UserError(f"{place}: this line is not JSON: {error}\n  {snippet}") from error
    if not isinstance(row, dict):
        raise UserError(f"{place}: expected an object {{...}}, not {line[:60].decode().strip()}")
    return row


@contextmanager
def jsonl_writer(path: Path | str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Write a JSONL file durably, compressed by its ending; yields the function that adds a row.

    The same rows give the same bytes: gzip's time stamp is 0.
    """
    with writing(path) as file, _packed(file, Path(path).suffix) as packed:

        def put(row: dict[str, Any]) -> None:
            packed.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")

        yield put


def read_text(path: Path | str) -> str:
    """Read a whole text file (UTF-8, plain or compressed by its ending), line ends as they are."""
    with _readable(path), Path(path).open("rb") as file:
        data = unpacked(file, Path(path).suffix).read().removeprefix(BOM)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: byte {error.start:,} is not UTF-8; convert the file, for example with iconv"
        ) from error


def read_parquet(
    path: Path | str, columns: Sequence[str] | None = None, optional: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file, one batch in memory at a time.

    Of its columns only `columns` are read, if given, and those of `optional` that it has.
    """
    # Half a second of import, paid only by who reads Parquet.
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    with _readable(path), Path(path).open("rb") as file:
        try:
            table = parquet.ParquetFile(file)
            there = table.schema_arrow.names
            _require_columns(path, columns or (), there)
            wanted = columns and [*columns, *(name for name in optional if name in there)]
            for batch in table.iter_batches(columns=wanted):
                yield from batch.to_pylist()
        except arrow.ArrowException as error:
            raise UserError(f"{path}: this is no whole Parquet file: {error}") from error


def _require_columns(path: Path | str, wanted: Sequence[str], there: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in there]
    if missing:
        raise UserError(f"{path}: has no column {missing[0]!r}; its columns are {', '.join(there)}")


def unpacked(file: IO[bytes], suffix: str) -> IO[bytes]:
    """What a file holds, decompressed as its suffix says, in bounded memory.

    Reading a cut or broken archive gives all that comes before the damage and then raises one of
    `DAMAGE`.
    """
    match suffix:
        case ".gz":
            blocks = _unpack(file, lambda: zlib.decompressobj(wbits=31))
        case ".zst":
            blocks = _unpack(file, zstandard.ZstdDecompressor().decompressobj)
        case _:
            return file
    return io.BufferedReader(_Blocks(blocks), BLOCK)


class _Unpacker(Protocol):
    """Of one gzip member or one zstd frame."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


class _Blocks(io.RawIOBase):
    """Blocks of bytes as a file."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest, self._read = blocks, memoryview(b""), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        self._read += size
        return size

    def tell(self) -> int:
        return self._read


def _unpack(file: IO[bytes], new: Callable[[], _Unpacker]) -> Iterator[bytes]:
    """Yield what the members or frames of a file hold, one after another.

    zstandard's own `stream_reader` ends without an error on a cut file.
    """
    unpacker, begin = None, 0
    while data := file.read(PACKED):
        while data := data if unpacker else data.lstrip(b"\0"):  # gzip may be padded with zeros
            if unpacker is None:
                unpacker, begin = new(), file.tell() - len(data)
            try:
                yield unpacker.decompress(data)
            except DAMAGE:
                yield from _to_the_damage(file, new(), begin, file.tell() - len(data))
                raise
            data = unpacker.unused_data
            if unpacker.eof:
                unpacker = None
    if unpacker is not None:
        raise EOFError("it ends too early")


def _to_the_damage(file: IO[bytes], unpacker: _Unpacker, begin: int, end: int) -> Iterator[bytes]:
    """Yield what stands between `end` and the damage in what begins at `begin`, then raise it.

    An unpacker that fails keeps to itself what it unpacked in that call: so byte by byte.
    """
    file.seek(begin)
    for at in range(begin, end, PACKED):
        unpacker.decompress(file.read(min(PACKED, end - at)))
    while byte := file.read(1):
        yield unpacker.decompress(byte)


@contextmanager
def _readable(path: Path | str) -> Iterator[None]:
    """Turn a file that is not there, not readable or not whole into a UserError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file") from error
    except (IsADirectoryError, PermissionError) as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except DAMAGE as error:
        raise UserError(
            f"{path}: the archive is cut or damaged ({error}); fetch it again"
        ) from error


def _packed(file: IO[bytes], suffix: str) -> AbstractContextManager[Any]:
    """Return what compresses into `file` as the suffix says, and ends the archive on exit."""
    match suffix:
        case ".gz":
            return gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
        case ".zst":
            compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
            return compressor.stream_writer(file, closefd=False)
        case _:
            return nullcontext(file)
