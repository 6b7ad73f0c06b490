"""Log-probabilities of answers under the model that a run starts from: computed once, then read.

    parts = [Part(pairs.fingerprint(0, 512), 1024, lambda: batches_of_these_pairs), ...]
    found = reference_logprobs(model, parts, Path("runs/tiny/dpo/references"), world)    # [answers]

The objective never sees two models: what the reference says is data. Each part is a file whose name
is a hash of the model, the dtype of the run and the part's ids, so a run that is resumed, its next
epochs and every other run from the same model on the same pairs read it instead of computing it,
and a run that is killed loses one part at most.

A answers of a part.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from baiwen import files, log
from baiwen.dist import World, sum_over
from baiwen.errors import UserError
from baiwen.model.transformer import Model
from baiwen.train import dtensor
from baiwen.train.loop import to_device
from baiwen.train.parallel import release
from baiwen.train.preference import Answers, answer_logprobs

NAME = "logprobs"  # of the tensor in a file


@dataclass(frozen=True)
class Part:
    """Answers whose log-probabilities are one file."""

    fingerprint: str  # of their ids, their prompts' and what of them is learned
    answers: int  # A
    batches: Callable[[], Iterable[Answers]]  # this rank's; values["place"]: each answer's, below A


def reference_logprobs(model: Model, parts: Sequence[Part], folder: Path, world: World) -> Tensor:
    """Log-probability of each answer of all parts, one after the other, float32 on the host.

    All ranks call it and get the same; rank 0 reads and writes `folder`.
    """
    key = f"{model_key(model)} {world.dtype}"
    paths = [folder / f"{_hash(f'{key} {part.fingerprint}')}.safetensors" for part in parts]
    found = [
        _shared(_read(path, part.answers) if world.main else None, part.answers, world)
        for path, part in zip(paths, parts, strict=True)
    ]
    absent = [number for number, known in enumerate(found) if known is None]
    for number in _tracked(absent, world):
        made = found[number] = compute(model, parts[number], world)
        if not made.isfinite().all():
            raise UserError(
                f"the reference model gives an answer the log-probability {made.sum()}: it is no "
                'reference.\nTry another start, or dtype = "float32".'
            )
        if world.main:
            files.write(paths[number], save({NAME: made}))
    return torch.cat([known for known in found if known is not None])


@torch.no_grad()
def compute(model: Model, part: Part, world: World) -> Tensor:
    """Log-probabilities [A] of a part's answers, by the forward pass of training."""
    found = torch.zeros(part.answers, device=world.device)
    for batch in part.batches():
        placed = to_device(batch, world.device)
        with world.autocast():
            outputs = model(placed.tokens, positions=placed.positions, documents=placed.documents)
            found[placed.values["place"].long()] = answer_logprobs(outputs, placed)
    release(model)
    return sum_over(world, found).cpu()


def model_key(model: Model) -> str:
    """A hash of config and weights: the same on every rank, and for any number of ranks.

    The same weights are another model with another base of RoPE, or with YaRN.
    """
    whole = xxhash.xxh3_128(repr(model.config).encode())
    for name, parameter in model.named_parameters():
        tensor = dtensor.whole(parameter).cpu().contiguous()
        whole.update(name.encode())
        whole.update(tensor.view(torch.uint8).numpy().data)
    return whole.hexdigest()


def _shared(mine: Tensor | None, answers: int, world: World) -> Tensor | None:
    """What rank 0 has read, on every rank; None where it has nothing."""
    if world.size == 1:
        return mine
    told = torch.zeros(answers + 1, device=world.device)
    if mine is not None:
        told[0], told[1:] = 1, mine
    torch.distributed.broadcast(told, src=0)
    return told[1:].cpu() if told[0] else None


def _read(path: Path, answers: int) -> Tensor | None:
    """The file's log-probabilities; None where it is absent or not whole, to be made again."""
    try:
        found = load_file(path)[NAME]
    except (FileNotFoundError, SafetensorError, KeyError):
        return None
    return found if found.shape == (answers,) else None


def _tracked(numbers: Sequence[int], world: World) -> Iterator[int]:
    return log.track(numbers, "reference", unit="parts") if world.main else iter(numbers)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
