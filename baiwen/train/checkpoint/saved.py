"""The index of a checkpoint: which file holds which box of each tensor; reading any part of them.

    tensors.json    {"model.norm.weight": {"dtype": "F32", "shape": [896], "pieces": [
                        {"file": "model-00000.safetensors", "key": "model.norm.weight",
                         "offsets": [0], "shape": [448]}, ...]}, ...}

    with Saved(folder) as saved:
        saved.read("model.norm.weight", into=parameter)

The boxes of a tensor fill it and do not overlap, so whoever reads takes of each what falls into
its own part, whatever layout wrote them and whatever layout reads.
"""

import itertools
import math
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import safe_open
from torch import Tensor

from baiwen import files
from baiwen.errors import UserError
from baiwen.model.shards import DTYPES, KINDS
from baiwen.train.checkpoint.pieces import Piece, pieces, placed
from baiwen.train.dtensor import local

INDEX = "tensors.json"
Index = dict[str, dict[str, Any]]


def described(named: Iterable[tuple[str, Tensor]], file: str) -> tuple[dict[str, Tensor], Index]:
    """This rank's part of tensors, by their keys in `file`, and what the index says of them."""
    parts: dict[str, Tensor] = {}
    index: Index = {}
    for name, tensor in named:
        here = local(tensor)
        boxes: list[dict[str, Any]] = []
        for number, piece in enumerate(pieces(tensor)):
            key = f"{name}#{number}" if number else name
            parts[key] = here[piece.here]
            place = {"offsets": list(piece.offsets), "shape": list(piece.shape)}
            boxes.append({"file": file, "key": key, **place})
        assert here.numel() == sum(math.prod(box["shape"]) for box in boxes)
        index[name] = {"dtype": KINDS[here.dtype], "shape": list(tensor.shape), "pieces": boxes}
    return parts, index


def merged(indices: Iterable[Index]) -> Index:
    """The index of a whole checkpoint from those of its ranks."""
    whole: Index = {}
    for index in indices:
        for name, entry in index.items():
            known = whole.setdefault(name, {**entry, "pieces": []})
            known["pieces"] += entry["pieces"]
    return whole


class Saved:
    """The tensors of a checkpoint; as a context manager it closes what it has opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / INDEX).is_file():
            raise UserError(
                f"{folder} has no {INDEX}: another version of Baiwen wrote it.\n"
                f"Go on with that version, or delete {folder.parent} to train from the beginning."
            )
        self.index: Index = files.read_json(folder / INDEX)
        self._stack = ExitStack()
        self._open: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._stack.close()

    def whole(self, name: str) -> Tensor:
        """A whole tensor in host memory."""
        entry = self._entry(name)
        tensor = torch.empty(entry["shape"], dtype=DTYPES[entry["dtype"]])
        self.read(name, tensor)
        return tensor

    def like(self, name: str, parameter: Tensor) -> Tensor:
        """A tensor of the optimizer's: divided as its parameter is, or whole if it is a number."""
        entry = self._entry(name)
        same = entry["shape"] == list(parameter.shape)
        shape = local(parameter).shape if same else entry["shape"]
        tensor = torch.empty(shape, dtype=DTYPES[entry["dtype"]], device=parameter.device)
        if same:
            tensor = placed(parameter, tensor)
        self.read(name, tensor)
        return tensor

    @torch.no_grad()
    def read(self, name: str, into: Tensor) -> None:
        """Fill this rank's part of a tensor."""
        entry, here = self._entry(name), local(into)
        if entry["shape"] != list(into.shape):
            raise UserError(
                f"{self.folder}: {name} has the shape {entry['shape']}, "
                f"but the model of this run has {list(into.shape)}"
            )
        filled = 0
        for piece, box in itertools.product(pieces(into), entry["pieces"]):
            filled += self._copy(box, piece, here)
        if filled != here.numel():
            raise UserError(f"{self.folder / INDEX}: the pieces of {name} do not fill it")

    def _copy(self, box: dict[str, Any], piece: Piece, here: Tensor) -> int:
        """Copy what a box of a file has of a piece; how many numbers that is."""
        source, target = [], []
        for offset, size, there, place in zip(
            box["offsets"], box["shape"], piece.there, piece.here, strict=True
        ):
            first, last = max(offset, there.start), min(offset + size, there.stop)
            if first >= last:
                return 0
            source.append(slice(first - offset, last - offset))
            shift = place.start - there.start
            target.append(slice(first + shift, last + shift))
        # Memory-mapped: nothing is read but what is copied.
        found = self._file(box["file"]).get_tensor(box["key"])[tuple(source)]
        here[tuple(target)].copy_(found)
        return found.numel()

    def _entry(self, name: str) -> dict[str, Any]:
        if name not in self.index:
            raise UserError(f"{self.folder} holds no {name}: it is of another model")
        return self.index[name]

    def _file(self, name: str) -> Any:  # noqa: ANN401 - of a Rust extension
        if name not in self._open:
            opened = safe_open(self.folder / name, framework="pt")
            self._open[name] = self._stack.enter_context(opened)
        return self._open[name]
