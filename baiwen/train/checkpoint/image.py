"""A safetensors file in host memory: copied from live tensors at once, written when there is time.

    image = Image(tensors)          # remembers where they are
    image.copy()                    # one copy of them; they may change from here on
    image.refuse_non_finite("checkpoint of step 200")
    described = image.write(folder / "model-00000.safetensors")        # {"sha256", "bytes"}

The copy is laid out as the file is, so writing needs no memory beside it, and the bytes are hashed
on their way to the disk.
"""

import hashlib
import itertools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from baiwen.errors import UserError
from baiwen.files.manifest import Entry
from baiwen.model.shards import finite, header

BLOCK = 1 << 24  # bytes hashed and written at a time


class Image:
    """What a file of these tensors will hold; `copy` fills it from where they are then."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        # The widest first, so that each tensor begins at a multiple of its element's size.
        widest = sorted(tensors.items(), key=lambda item: -item[1].element_size())
        self.sources = dict(widest)
        self.copies: dict[str, Tensor] = {}
        self._body = torch.empty(0, dtype=torch.uint8)

    def copy(self) -> None:
        """Copy all tensors to host memory; from a GPU in the order of the current stream.

        That of a GPU is page-locked, so that the copy needs no help of the CPU.
        """
        pinned = any(source.is_cuda for source in self.sources.values())
        sizes = [source.nbytes for source in self.sources.values()]
        self._body = torch.empty(sum(sizes), dtype=torch.uint8, pin_memory=pinned)
        places = self._body.split(sizes)
        for (name, source), place in zip(self.sources.items(), places, strict=True):
            self.copies[name] = place.view(source.dtype).view(source.shape)
            self.copies[name].copy_(source, non_blocking=True)

    def refuse_non_finite(self, what: str) -> None:
        """Raise UserError where a copy holds a NaN or an infinity."""
        for name, tensor in self.copies.items():
            if not finite(tensor):
                raise UserError(
                    f"{what}: {name} holds NaN or infinity, so it is not written.\n"
                    "The checkpoints before it are whole. "
                    "Lower optim.lr or optim.clip and run again."
                )

    def write(self, path: Path) -> Entry:
        """Write the copies durably as a file of that name; what a manifest says of it."""
        digest, size = hashlib.sha256(), 0
        body = self._body.split(BLOCK)
        blocks: Iterable[bytes | memoryview] = (block.numpy().data for block in body)
        with path.open("xb") as file:
            for block in itertools.chain([header(self.copies)], blocks):
                digest.update(block)
                size += file.write(block)
            file.flush()
            os.fsync(file.fileno())
        return {"sha256": digest.hexdigest(), "bytes": size}
