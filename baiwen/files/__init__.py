"""Files: everything Baiwen reads and writes (design, section 3).

durable    write, writing, remove_folder: all or nothing, also under kill -9 and power loss
ledger     Ledger: rows under a key that are on the disk as soon as they are added
manifest   writing_folder, seal, check, complete: SHA-256 and size of every file of a folder
formats    JSON, JSONL (plain, .gz, .zst), text, Parquet
inputs     fingerprint: what tells one content of an input from another
runs       run_folder: a folder that belongs to its recipe: fresh, resumable, done or refused

files.write("out/scores.json", data)
for row in files.read_jsonl("documents.jsonl.zst"): ...
"""

from baiwen.files.durable import remove_folder, write, writing
from baiwen.files.formats import (
    BOM,
    DAMAGE,
    jsonl_writer,
    parse_row,
    read_json,
    read_jsonl,
    read_lines,
    read_parquet,
    read_text,
    unpacked,
    write_json,
)
from baiwen.files.inputs import fingerprint
from baiwen.files.ledger import Ledger
from baiwen.files.manifest import check, complete, seal, writing_folder
from baiwen.files.runs import OtherRunError, RunFolder, changed, look, run_folder

__all__ = [
    "BOM",
    "DAMAGE",
    "Ledger",
    "OtherRunError",
    "RunFolder",
    "changed",
    "check",
    "complete",
    "fingerprint",
    "jsonl_writer",
    "look",
    "parse_row",
    "read_json",
    "read_jsonl",
    "read_lines",
    "read_parquet",
    "read_text",
    "remove_folder",
    "run_folder",
    "seal",
    "unpacked",
    "write",
    "write_json",
    "writing",
    "writing_folder",
]
