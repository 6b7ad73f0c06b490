"""What a folder of safetensors files claims to hold, checked before a byte of it is used.

A file is 8 bytes (little-endian length of the header), a JSON header, and the tensors' bytes:

    {"model.norm.weight": {"dtype": "BF16", "shape": [896], "data_offsets": [0, 1792]}, ...}

A model is one `model.safetensors`, or several files that `model.safetensors.index.json` names.
Nothing in a folder is trusted: names that leave it, doubled names, overlapping or missing bytes and
foreign types are UserErrors that say what and where.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from baiwen.errors import UserError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
KINDS = {dtype: name for name, dtype in DTYPES.items()}
SHOWN = 5  # names in an error message
LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library


@dataclass(frozen=True)
class Entry:
    """One tensor of a file."""

    file: Path
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


def entries(folder: Path) -> dict[str, Entry]:
    """Every tensor of the model in `folder`, by name."""
    if (folder / SINGLE).exists():
        return read_header(_inside(folder, SINGLE))
    if not (folder / INDEX).exists():
        raise UserError(
            f"{folder} holds neither {SINGLE} nor {INDEX}, so there is no model to load; "
            "weights in other formats (pytorch_model.bin, GGUF) are not read"
        )
    listed = _index(folder)
    found: dict[str, Entry] = {}
    for file in sorted(set(listed.values())):
        for name, entry in read_header(_inside(folder, file)).items():
            if listed.get(name) != file:
                place = f"places in {listed[name]}" if name in listed else "does not list"
                raise UserError(f"{folder / file} holds {name}, which {INDEX} {place}")
            found[name] = entry
    for name in listed.keys() - found.keys():
        raise UserError(f"{folder / listed[name]} lacks {name}, which {INDEX} places there")
    return found


def check_shapes(
    found: Mapping[str, Entry], shapes: Mapping[str, tuple[int, ...]], folder: Path
) -> None:
    """UserError unless the tensors of a folder are these, each in its shape, and no other."""
    for what, names in (
        ("lacks", shapes.keys() - found.keys()),
        ("holds, beyond what config.json asks for,", found.keys() - shapes.keys()),
    ):
        if names:
            rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise UserError(f"{folder} {what} {', '.join(sorted(names)[:SHOWN])}{rest}")
    for name, shape in shapes.items():
        if found[name].shape != shape:
            raise UserError(
                f"{found[name].file}: {name} has the shape {list(found[name].shape)}, "
                f"but config.json asks for {list(shape)}"
            )


def read_header(file: Path) -> dict[str, Entry]:
    """The tensors of one file; UserError where the file does not keep to the format."""
    with file.open("rb") as stream:
        size = file.stat().st_size
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            raise UserError(f"{file} is truncated, or not a safetensors file; download it again")
        header = parse_json(stream.read(length), file)
    spans = []
    found = {}
    notes = header.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise UserError(f"{file} is damaged: its __metadata__ is not a table of texts")
    for name, raw in header.items():
        entry, span = _entry(file, name, raw)
        found[name] = entry
        spans.append((span, name))
    _check_spans(sorted(spans), size - 8 - length, file)
    return found


def write_shard(file: IO[bytes], tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Write one file, its tensors in `dtype`; no more than one of them is copied at a time."""
    # The library would do, but it writes to a file of its own that only its owner may read.
    file.write(header(tensors, dtype))
    for tensor in tensors.values():
        plain = tensor.detach().to("cpu", dtype).contiguous()
        file.write(plain.view(torch.uint8).numpy().data)


def header(tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> bytes:
    """What a file of these tensors begins with, if they follow in `dtype` (None: their own)."""
    told: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, tensor in tensors.items():
        kind = dtype or tensor.dtype
        end = place + tensor.numel() * kind.itemsize
        shape = list(tensor.shape)
        told[name] = {"dtype": KINDS[kind], "shape": shape, "data_offsets": [place, end]}
        place = end
    text = json.dumps(told).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text


def finite(tensor: Tensor) -> bool:
    """Whether no number of a tensor is a NaN or an infinity."""
    # The extremes of a tensor with a NaN are NaN; this makes no second tensor, as isfinite would.
    return not tensor.numel() or all(extreme.isfinite() for extreme in tensor.aminmax())


def parse_json(text: bytes, file: Path) -> dict[str, Any]:
    """A JSON object; UserError where it is something else or has a key twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for name in _twice(name for name, _ in pairs):
            raise UserError(f"{file} names {name!r} twice; one of them would be lost")
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{file} is damaged: its JSON cannot be read ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{file} is damaged: its JSON is no object")
    return value


def _twice(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]


def _entry(file: Path, name: str, raw: Any) -> tuple[Entry, tuple[int, int]]:  # noqa: ANN401
    """One tensor of the header, and the bytes from and to which it lies."""
    try:
        dtype, shape, (start, end) = raw["dtype"], tuple(raw["shape"]), raw["data_offsets"]
        sound = isinstance(dtype, str) and all(
            type(number) is int and number >= 0 for number in (*shape, start, end)
        )
    except (TypeError, KeyError, ValueError):
        sound = False
    if not sound:
        raise UserError(f"{file} is damaged: the header's entry {name!r} is not a tensor's")
    if dtype not in DTYPES:
        raise UserError(
            f"{file}: {name} is stored as {dtype}; Baiwen reads {', '.join(DTYPES)} "
            "(for a quantized model, start from its bf16 release)"
        )
    entry = Entry(file, name, DTYPES[dtype], shape)
    if end - start != math.prod(shape) * entry.dtype.itemsize:
        raise UserError(
            f"{file} is damaged: {name} has {end - start} bytes, not those of {dtype} {list(shape)}"
        )
    return entry, (start, end)


def _check_spans(spans: list[tuple[tuple[int, int], str]], size: int, file: Path) -> None:
    """The tensors must fill the file: from the header to the end, without gap or overlap."""
    place = 0
    for (start, end), name in spans:
        if start != place:
            what = "overlaps another tensor" if start < place else "leaves a gap before it"
            raise UserError(f"{file} is damaged: {name} {what}")
        place = end
    if place > size:
        raise UserError(
            f"{file} is truncated: {place - size:,} of {place:,} bytes are missing; "
            "download it again"
        )
    if place < size:
        raise UserError(f"{file} is damaged: {size - place:,} bytes belong to no tensor")


def _index(folder: Path) -> dict[str, str]:
    """Which file holds each tensor, as the index says."""
    index = folder / INDEX
    listed = parse_json(index.read_bytes(), index).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(file, str) for file in listed.values()):
        raise UserError(f"{index} has no weight_map from tensor names to files")
    return listed


def _inside(folder: Path, file: str) -> Path:
    """The path of `file`; UserError where it would leave `folder`.

    The one exception is the Hugging Face cache, whose snapshots are links into `blobs` beside them.
    """
    path, home = folder / file, folder.resolve()
    homes = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    if Path(file).name != file or "\0" in file or path.resolve().parent not in homes:
        raise UserError(
            f"{folder}: the file name {file!r} leaves the folder, which a model may not ask for"
        )
    if not path.is_file():
        raise UserError(f"{folder} lacks {file}; download it again")
    return path
