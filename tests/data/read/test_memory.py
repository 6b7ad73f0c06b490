"""Memory stays bounded whatever a file holds: the peak of a process that reads it."""

import gzip
import subprocess
import sys

import pytest
import zstandard

pytestmark = pytest.mark.slow

SCRIPT = """
import resource, sys
import pyarrow.parquet, resiliparse.extract.html2text
from baiwen.data.read import Reading, chunks, find
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
for path in find(sys.argv[2:]):
    before = peak()
    found = [(d.flaw or d.text)[:9] for c in chunks([path], reading=Reading(document_bytes=1 << 20))
             for d in c.documents()]
    print(peak() - before, len(found), found[0], found[-1], sep="|")
"""
LONG = 1 << 28  # bytes of a line, far more than a document may have


def told(folder):
    """(MiB of memory, documents, first text, last text) of each file, and which it is."""
    files = sorted(folder.iterdir())
    command = [sys.executable, "-c", SCRIPT, "-", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    rows = [line.split("|") for line in done.stdout.splitlines()]
    return [(int(memory), *rest, path) for (memory, *rest), path in zip(rows, files, strict=True)]


def test_a_line_of_any_length_takes_bounded_memory(tmp_path, made):
    first, last = (made[".jsonl"]([word]) for word in "ab")
    with (tmp_path / "a.jsonl").open("wb") as file:
        _write_around(file, first, b"\n" + last)
    with gzip.open(tmp_path / "a.jsonl.gz", "wb", 1) as file:
        _write_around(file, first, b"\n" + last)
    with zstandard.open(tmp_path / "a.jsonl.zst", "wb") as file:
        _write_around(file, first, b"\n" + last)
    header = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: %d\r\n\r\n" % LONG
    with (tmp_path / "a.warc").open("wb") as file:
        _write_around(file, made[".warc"](["a"]) + header, b"\r\n\r\n" + made[".warc"](["b"]))
    for memory, count, one, other, path in told(tmp_path):
        assert (count, one, other) == ("3", "a", "b"), path
        assert memory < LONG >> 22, path


def _write_around(file, first, last):
    """Bytes with very many zeros between them."""
    file.write(first)
    for _ in range(LONG >> 20):
        file.write(bytes(1 << 20))
    file.write(last)


def test_a_large_file_is_never_in_memory_as_a_whole(tmp_path, made):
    text = "".join(f"{number} one two three " for number in range(5000))
    for ending in (".jsonl", ".jsonl.zst", ".warc.gz", ".parquet"):
        few = made[ending]([text] * 50)
        whole = made[ending]([text] * 800) if ending == ".parquet" else few * 16
        (tmp_path / f"a{ending}").write_bytes(whole)
    for memory, count, _, _, path in told(tmp_path):
        assert count == "800", path
        assert memory < 35, path  # of 75 MiB of text
