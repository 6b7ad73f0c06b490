"""From hidden states to tokens: logits, what each sample makes of them, and log-probabilities.

R rows that a token is chosen for, V vocabulary, C hidden size, N tokens of a step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from baiwen.engine import edits, matcher
from baiwen.engine.request import Request, Sample, Token
from baiwen.engine.sampler import Sampling, choose
from baiwen.model.transformer import Transformer

PIECE = 128  # tokens of a prompt whose logits exist at a time
# Likeliest tokens that are looked for, though fewer be asked for: among more of them equal ones lie
# in another order, and what others ask for must not show.
LISTED = 20


@dataclass(frozen=True)
class Row:
    """A place where a sample's next token is chosen, after `guesses` at those before it."""

    sample: Sample
    place: int  # among the N tokens
    guesses: Sequence[int] = ()


def tokens(model: Transformer, hidden: Tensor, rows: Sequence[Row], known: int) -> list[Token]:
    """The token of each row: hidden [N, C]; ids from `known` on only pad the embedding."""
    logits, chosen = ids(model, hidden, rows, known)
    samplings = [row.sample.request.sampling for row in rows]
    return _scored(
        _tempered(logits, samplings), chosen, [sampling.logprobs for sampling in samplings], known
    )


def ids(
    model: Transformer, hidden: Tensor, rows: Sequence[Row], known: int
) -> tuple[Tensor, Tensor]:
    """The model's own logits [R, V] fp32 of each row, and the id [R] that its sample chooses."""
    places = torch.tensor([row.place for row in rows], device=hidden.device)
    logits = model.project(hidden[places]).float()
    samplings = [row.sample.request.sampling for row in rows]
    draws = [row.sample.draw(len(row.guesses)) for row in rows]
    return logits, choose(_edited(logits[:, :known], rows), samplings, draws)


def accepted(guesses: Sequence[int], tokens: Sequence[Token]) -> Sequence[Token]:
    """The tokens up to the first that was guessed wrong, which is right itself.

    Each is drawn from the model's own distribution after those before it, so that guesses change
    the number of steps and nothing else.
    """
    right = 0
    while right < len(guesses) and tokens[right].id == guesses[right]:
        right += 1
    return tokens[: right + 1]


def _edited(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    """The logits [R, V] with penalties, biases, bans and grammars; the given ones stay."""
    changes = [row.sample.edit(number, row.guesses) for number, row in enumerate(rows)]
    needed = [change for change in changes if change is not None]
    bound = [number for number, row in enumerate(rows) if row.sample.matcher is not None]
    if not bound and not needed:
        return logits
    if not needed and len(bound) == len(rows):
        return _barred(rows, logits).add_(logits)
    logits = logits.clone(memory_format=torch.contiguous_format)
    edits.apply(logits, needed)
    if bound:
        logits[bound] += _barred([rows[number] for number in bound], logits)
    return logits


def _barred(rows: Sequence[Row], logits: Tensor) -> Tensor:
    """What the grammars of rows add to their logits, [R, V]: 0, or -inf for what is not allowed."""
    longest = {row.sample: row.guesses for row in rows}  # the last row of a sample has all of them
    asked = [(sample.matcher, guesses) for sample, guesses in longest.items() if sample.matcher]
    masks = dict(zip(longest, matcher.masks(asked), strict=True))
    for sample, found in masks.items():
        sample.constrain(found[0])
    ours = np.stack([masks[row.sample][len(row.guesses)] for row in rows])
    return matcher.bias(ours, logits.shape[1], logits.device)


def _tempered(logits: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """The logits [R, V] over the temperature, in the rows that are scored so."""
    units = [one.temperature if one.tempered and one.temperature else 1.0 for one in samplings]
    if all(unit == 1 for unit in units):
        return logits
    return logits / torch.tensor(units, device=logits.device)[:, None]


def _scored(logits: Tensor, ids: Tensor, tops: Sequence[int], known: int) -> list[Token]:
    """The tokens `ids` [R] with log-probabilities, and the likeliest `tops` of each row."""
    whole = logits.logsumexp(-1)  # [R]
    logprobs = logits.gather(1, ids[:, None]).squeeze(1) - whole
    pairs = torch.stack((ids.double(), logprobs.double()), 1).tolist()  # the step waits here
    best: list[list[tuple[int, float]]] = [[]] * len(pairs)
    if any(tops):
        values, indices = logits[:, :known].topk(min(max(*tops, LISTED), known))
        values -= whole[:, None]
        best = [
            list(zip(i, v, strict=True))
            for i, v in zip(indices.tolist(), values.tolist(), strict=True)
        ]
    return [
        Token(int(token), logprob, tuple(row[:top]))
        for (token, logprob), row, top in zip(pairs, best, tops, strict=True)
    ]


def prompt_tokens(
    model: Transformer, hidden: Tensor, request: Request, first: int, known: int
) -> Iterator[Token]:
    """Score the prompt's tokens that hidden [T, C], of the places from `first` on, predicts."""
    if not request.prompt_tokens:
        yield Token(request.prompt[0], float("nan"))
    begin = max(len(request.prompt_tokens), 1)
    end = min(first + len(hidden) + 1, len(request.prompt))
    for start in range(begin, end, PIECE):
        asked = request.prompt[start : min(start + PIECE, end)]
        place = start - 1 - first
        logits = model.project(hidden[place : place + len(asked)]).float()
        tops = [request.sampling.prompt_logprobs or 0] * len(asked)
        yield from _scored(logits, torch.tensor(asked, device=logits.device), tops, known)
