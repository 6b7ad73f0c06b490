"""The records of a WARC file as pieces: from an unpacked stream, or from its gzip members.

As the standard wants it (ISO 28500, annex D) each record is packed as a gzip member of its own.
Then any stretch of the file can be read alone: a record belongs to the stretch in which its member
begins, and a damaged one costs only itself. A member is found by gzip's magic number and by what it
unpacks to, `WARC/`: compressed bytes do not hold that by chance.
"""

import re
import zlib
from collections.abc import Iterator
from typing import IO

from baiwen import files
from baiwen.data.read.span import CHUNK, SNIPPET, Piece, too_long

MAGIC, VERSION = b"\x1f\x8b\x08", b"WARC/"
HEAD = 1 << 10  # bytes of a member that hold its own header and the first of what is packed
BLOCK = 1 << 14  # bytes read at a time of a member
UNPACKED = 1 << 20  # bytes unpacked at a time
LINE = 1 << 16  # bytes that a line of a record's header may have, and sixteen that all may
BLANK = (b"\r\n", b"\n")
HEADER = re.compile(
    rb"WARC/1\.\d\r?\n(?:.*\n)*?content-length:[ \t]*(\d{1,18})[ \t]*\r?\n(?:.*\n)*?\r?\n\Z",
    re.IGNORECASE,
)


def records(stream: IO[bytes], most: int) -> Iterator[Piece]:
    """Each record with its header; where the stream is cut or damaged a flaw, the last piece.

    Of a record whose body has more than `most` bytes the header comes, with a flaw.
    """
    offset = 0
    try:
        while header := _header(stream):
            offset = stream.tell() - len(header)
            match = HEADER.match(header)
            if match is None:
                yield Piece(offset, header[:SNIPPET], "no WARC header: damaged from here on")
                return
            length = int(match[1])
            body = stream.read(min(length, most))
            if len(body) + _skip(stream, length - len(body)) < length:
                yield Piece(offset, header, "cut within this record")
                return
            flaw = too_long(length, most) if length > most else None
            yield Piece(offset, header if flaw else header + body, flaw)
            offset = stream.tell()
    except files.DAMAGE as error:
        yield Piece(offset, b"", f"cut or damaged from here on: {error}")


def by_member(file: IO[bytes]) -> bool:
    """Whether a second record is seen to begin a gzip member of its own."""
    return _next_member(file, 1, CHUNK) is not None


def members(file: IO[bytes], start: int, end: int, most: int) -> Iterator[Piece]:
    """The gzip members that begin within a stretch of a file, unpacked; the damaged as flaws."""
    at = _next_member(file, start, end) if start else 0
    while at is not None:
        file.seek(at)
        head = file.read(HEAD)
        if not head or (at >= end and _begins(head)):
            return
        if not _begins(head):
            yield Piece(at, b"", "no gzip member of a WARC record where one should begin")
            at = _next_member(file, at + 1, end)
            continue
        data, length, damage = _member(file, at, most)
        yield Piece(at, data, damage or (too_long(length, most) if length > most else None))
        at = _next_member(file, at + 1, end) if damage else file.tell()


def _member(file: IO[bytes], at: int, most: int) -> tuple[bytes, int, str | None]:
    """The beginning of what a member holds, its length, and what is wrong with it.

    Leaves the file where the member ends.
    """
    unpacker, data, length = zlib.decompressobj(wbits=31), bytearray(), 0
    file.seek(at)
    try:
        while not unpacker.eof and (block := file.read(BLOCK)):
            for part in _unpack(unpacker, block):
                data += part if length <= most else b""
                length += len(part)
    except zlib.error as error:
        return bytes(data[:SNIPPET]), length, f"damaged: {error}"
    if not unpacker.eof:
        return bytes(data[:SNIPPET]), length, "cut within this record"
    file.seek(file.tell() - len(unpacker.unused_data))
    return bytes(data if length <= most else data[:SNIPPET]), length, None


def _unpack(unpacker: "zlib._Decompress", block: bytes) -> Iterator[bytes]:
    """What a block holds, a bounded piece at a time."""
    while block and not unpacker.eof:
        yield unpacker.decompress(block, UNPACKED)
        block = unpacker.unconsumed_tail


def _next_member(file: IO[bytes], start: int, end: int) -> int | None:
    """Where the first member begins within a stretch."""
    if start >= end:
        return None
    file.seek(start)
    window, at = file.read(end - start + HEAD), -1
    while 0 <= (at := window.find(MAGIC, at + 1)) < end - start:
        if _begins(window[at : at + HEAD]):
            return start + at
    return None


def _begins(head: bytes) -> bool:
    """Whether a member that holds a record begins so."""
    try:
        return zlib.decompressobj(wbits=31).decompress(head, len(VERSION)) == VERSION
    except zlib.error:
        return False


def _header(stream: IO[bytes]) -> bytes:
    """The header of the next record with the empty line that ends it; nothing at the end."""
    line = stream.readline(LINE)
    while line in BLANK:
        line = stream.readline(LINE)
    header = line
    while line and line not in BLANK and len(header) < 16 * LINE:
        line = stream.readline(LINE)
        header += line
    return header


def _skip(stream: IO[bytes], count: int) -> int:
    """Pass over so many bytes; how many there were."""
    left = count
    while left and (block := stream.read(min(left, UNPACKED))):
        left -= len(block)
    return count - left
