"""Where samples stand in their grammars, and what that leaves of their next tokens.

    matcher = grammar.matcher()                              # one a sample
    while not matcher.finished:
        logits += bias(masks([(matcher, ())])[0], logits.shape[1], logits.device)
        matcher.push(choose(logits))                         # logits [1, V]

Masks take most of the time that a grammar costs. llguidance computes those of several matchers at
once, on as many threads as torch has, and a guess at the next tokens in one go.

R rows of the logits, V vocabulary, W = V / 32 words of a mask.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate

import numpy as np
import torch
import torch.nn.functional as F
from llguidance import LLExecutor, LLMatcher
from torch import Tensor

from baiwen.errors import UserError


class Matcher:
    """Where one sample stands in its grammar."""

    def __init__(self, matcher: LLMatcher, vocabulary: int) -> None:
        self.vocabulary = vocabulary  # V
        self._matcher = matcher

    @property
    def finished(self) -> bool:
        """Is the answer complete, so that nothing but its end may follow, or has it ended?"""
        return bool(self._matcher.is_stopped())

    @property
    def complete(self) -> bool:
        """May the answer end here?"""
        return bool(self._matcher.is_accepting()) or self.finished

    def push(self, token: int) -> None:
        """Go on by one token; `UserError` for one that the mask does not allow."""
        self._matcher.consume_token(token)
        self.check()

    def accepts(self, tokens: Sequence[int]) -> int:
        """How many of `tokens` in a row, from the first, are allowed; nothing is pushed."""
        return int(self._matcher.validate_tokens([*tokens]))

    def check(self) -> None:
        """`UserError` where the grammar is so ambiguous that a token would take too long."""
        check(self._matcher)


def masks(asked: Sequence[tuple[Matcher, Sequence[int]]]) -> list[np.ndarray]:
    """What may come next, a bit a token from the lowest on: uint32 [1 + guesses, W] each.

    Matchers of one vocabulary have a row for where they stand and one after each of the guesses
    beside them. After a guess that is not allowed everything is; what stands after one that ends
    the answer has no meaning. A matcher that has failed says so when it is checked.
    """
    *starts, rows = accumulate((1 + len(guesses) for _, guesses in asked), initial=0)
    bits = np.full((rows, -(-asked[0][0].vocabulary // 32)), 2**32 - 1, np.uint32)
    memory = bits.ctypes.data, bits[0].nbytes, rows
    pairs = zip(asked, starts, strict=True)
    each = [(one._matcher, row, [*guesses]) for (one, guesses), row in pairs]
    executor = _executor(torch.get_num_threads())
    if bare := [(one, row) for one, row, guesses in each if not guesses]:
        executor.unsafe_compute_mask_ptr(bare, *memory)
    if guessed := [one for one in each if one[2]]:
        executor.unsafe_compute_mask_ptr_with_draft_token(guessed, *memory)
    return np.split(bits, starts[1:])


def bar(mask: np.ndarray, tokens: Iterable[int]) -> None:
    """Bar `tokens` in a mask [W] too, unless nothing else is allowed."""
    others = mask.copy()
    for token in tokens:
        others[token // 32] &= ~np.uint32(1 << token % 32)
    if others.any():
        mask[:] = others


def bias(masks: np.ndarray, vocabulary: int, device: torch.device) -> Tensor:
    """What masks [R, W] add to logits: 0 and -inf, [R, V] fp32 on the device."""
    octets = torch.from_numpy(masks.view(np.uint8)).to(device).int()  # [R, 4 W]
    return F.embedding(octets, _octets(device)).flatten(1)[:, :vocabulary]


def check(matcher: LLMatcher) -> None:
    """`UserError` in the words of llguidance, if it has given up."""
    if matcher.is_error():
        raise UserError(reason(matcher.get_error()))


def reason(told: str) -> str:
    """What an error of llguidance says, without the grammar and the state that it shows."""
    if told.startswith("NoExtension"):
        return "no text satisfies it"
    told = re.split(r"<state>|<non-verbose/>|\n +\d+ \| ", told)[0].strip()
    told = re.sub(r"^(at )?\d+\(\d+\): (failed to compile JSON schema: )?", "", told)
    spent = re.search(r"[Tt]oo many|too large|fuel|limits\.", told)
    return f"too complex: {told}" if spent else told


@cache
def _executor(threads: int) -> LLExecutor:
    return LLExecutor(threads)


@cache
def _octets(device: torch.device) -> Tensor:
    """What an octet of a mask, the first token its lowest bit, adds to eight logits: [256, 8]."""
    allowed = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    return torch.from_numpy(np.where(allowed == 1, 0, -np.inf).astype(np.float32)).to(device)
