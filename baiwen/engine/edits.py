"""What penalties, biases and bans do to the logits: a few scattered changes, never a whole row.

The repetition penalty (Keskar et al., 2019) is for what the prompt or the answer holds, as in
transformers; presence and frequency penalties (OpenAI's API) for what the answer holds:

    logit > 0 ? logit / repetition : logit * repetition
    logit - presence * (count > 0) - frequency * count

Biases come after the penalties; before `min_tokens`, what would end the answer is banned.

R rows, V vocabulary.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from baiwen.engine.sampler import Sampling

Penalised = tuple[np.ndarray, np.ndarray]  # ids and how often the answer has each


def penalises(sampling: Sampling) -> bool:
    """Whether what has been said changes what comes next."""
    return (
        sampling.repetition_penalty != 1
        or sampling.presence_penalty != 0
        or sampling.frequency_penalty != 0
    )


class Seen:
    """The ids of a prompt and its answer, each once, with the answer's count of each."""

    def __init__(self, prompt: Iterable[int]) -> None:
        self._places = {token: place for place, token in enumerate(dict.fromkeys(prompt))}
        self._ids = np.fromiter(self._places, np.int64, len(self._places))
        self._counts = np.zeros(len(self._ids), np.float32)

    def push(self, token: int) -> None:
        """The answer has one more `token`."""
        place = self._places.setdefault(token, len(self._places))
        if place == len(self._ids):
            self._ids, self._counts = (
                np.concatenate((array, np.zeros(max(64, len(array)), array.dtype)))
                for array in (self._ids, self._counts)
            )
        self._ids[place] = token
        self._counts[place] += 1

    def after(self, guesses: Sequence[int]) -> Penalised:
        """What will be seen, once the answer has gone on with `guesses`."""
        size = len(self._places)
        ids, counts = self._ids[:size], self._counts[:size]
        if not guesses:
            return ids, counts
        counts, fresh = counts.copy(), Counter(guesses)
        for token in [token for token in fresh if token in self._places]:
            counts[self._places[token]] += fresh.pop(token)
        more = np.array(list(fresh), np.int64), np.array(list(fresh.values()), np.float32)
        return np.concatenate((ids, more[0])), np.concatenate((counts, more[1]))


@dataclass(frozen=True)
class Edit:
    """The changes to one row of logits."""

    row: int
    sampling: Sampling
    seen: Penalised | None = None
    banned: Sequence[int] = ()


def apply(logits: Tensor, edits: Sequence[Edit]) -> None:
    """Make the edits to logits [R, V], contiguous, in place."""
    flat, width = logits.view(-1), logits.shape[1]
    _penalise(flat, width, [edit for edit in edits if edit.seen is not None])
    added = [
        (edit.row * width + np.fromiter(values, np.int64), np.fromiter(values.values(), np.float32))
        for edit in edits
        for values in (edit.sampling.logit_bias, dict.fromkeys(edit.banned, -np.inf))
        if values
    ]
    if added:
        places, values = (_sent(list(arrays), flat) for arrays in zip(*added, strict=True))
        flat.index_add_(0, places, values)


def _penalise(flat: Tensor, width: int, edits: Sequence[Edit]) -> None:
    """Penalties of the rows of flat [R * V], in place."""
    rows = [(edit.row * width, edit.sampling, *edit.seen) for edit in edits if edit.seen]
    if not rows:
        return
    sizes = [len(ids) for _, _, ids, _ in rows]
    places = _sent([start + ids for start, _, ids, _ in rows], flat)
    counts = _sent([counts for *_, counts in rows], flat)

    def knob(name: str) -> Tensor:
        values = np.array([getattr(sampling, name) for _, sampling, _, _ in rows], np.float32)
        return _sent([values.repeat(sizes)], flat)

    scores, repetition = flat[places], knob("repetition_penalty")
    scores = torch.where(scores > 0, scores / repetition, scores * repetition)
    scores -= knob("presence_penalty") * (counts > 0) + knob("frequency_penalty") * counts
    # A penalty near 0 makes infinities, with which a mask's make NaN, which nothing bars.
    flat.index_copy_(0, places, scores.nan_to_num_())


def _sent(arrays: Sequence[np.ndarray], like: Tensor) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays)).to(like.device, non_blocking=True)
