"""A prompt that is being answered, and what comes out of it.

    request = engine.add("Hello", Sampling(n=2))
    for request, deltas in engine.step():
        for delta in deltas:
            print(delta.sample, delta.text, delta.finish_reason)

A request has `n` samples. The first reads the prompt; when it is done, the others begin with its
blocks. Each is then scheduled, and may be preempted, on its own.
"""

import secrets
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from baiwen.engine import matcher
from baiwen.engine.edits import Edit, Seen, penalises
from baiwen.engine.lookup import Lookup
from baiwen.engine.reading import Reading, Sparsity
from baiwen.engine.sampler import Sampling, chance, draw
from baiwen.engine.text import Text
from baiwen.errors import UserError
from baiwen.tokenizer.stream import StreamDecoder
from baiwen.tokenizer.tokenizer import Tokenizer

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Token:
    """A token and its log-probability under the model itself, or as drawn (`tempered`)."""

    id: int
    logprob: float  # nan for a prompt's first token, which nothing predicts
    top: tuple[tuple[int, float], ...] = ()  # the likeliest ids in its place, falling


@dataclass(frozen=True)
class Delta:
    """What a step added to a sample.

    The texts of all deltas of a sample, joined, are its completion's text: whole characters only,
    and nothing that may turn out to be the beginning of a stop text.
    """

    sample: int  # 0 to n - 1
    text: str
    tokens: tuple[Token, ...]
    finish_reason: Finish | None = None
    stopped_by: str | int | None = None  # the stop text or id


@dataclass(frozen=True)
class Completion:
    """One answer."""

    text: str  # without the end marker or the stop text
    tokens: list[Token]  # all that was generated, the end marker included
    finish_reason: Finish
    prompt: list[Token] = field(default_factory=list)  # scored, where the sampling asks for it
    stopped_by: str | int | None = None
    sparsity: Sparsity | None = None  # of a prompt that was read sparsely, its new tokens
    routes: bytes = b""  # experts of the prompt's tokens and the answer's but its last: `routes.py`

    @property
    def ids(self) -> list[int]:
        """The ids of `tokens`."""
        return [token.id for token in self.tokens]

    @property
    def logprobs(self) -> list[float]:
        """The log-probability of each id under the model itself, or as drawn (`tempered`)."""
        return [token.logprob for token in self.tokens]


def completions(request: "Request", deltas: Sequence[Delta]) -> list[Completion]:
    """The answers of a finished request, from all of its deltas."""
    by_sample: list[list[Delta]] = [[] for _ in request.samples]
    for delta in deltas:
        by_sample[delta.sample].append(delta)
    pairs = zip(by_sample, request.samples, strict=True)
    return [_joined(found, request, sample.routes) for found, sample in pairs]


def _joined(deltas: Sequence[Delta], request: "Request", routes: bytes) -> Completion:
    text = "".join(delta.text for delta in deltas)
    tokens = [token for delta in deltas for token in delta.tokens]
    last = deltas[-1]
    assert last.finish_reason is not None
    how = last.stopped_by, request.sparsity, routes
    return Completion(text, tokens, last.finish_reason, request.prompt_tokens, *how)


class Request:
    """A prompt in ids, how to answer it, and its samples."""

    def __init__(
        self,
        number: int,
        prompt: list[int],
        sampling: Sampling,
        tokenizer: Tokenizer,
        limit: int,
        reading: Reading,
        first: int = 0,
    ) -> None:
        self.number, self.prompt, self.sampling = number, prompt, sampling
        self.limit, self.reading = limit, reading  # tokens of prompt and answer together
        self.first = first  # of the samples that the seed gives this prompt
        self.seed = secrets.randbits(64) if sampling.seed is None else sampling.seed
        self.ends = frozenset(
            (tokenizer.end_of_turn, tokenizer.end_of_text)
            if sampling.stop_ids is None
            else sampling.stop_ids
        )
        self.cached_tokens = 0  # of the prompt, which were in the cache already
        self.prompt_tokens: list[Token] = []  # scored, where the sampling asks for it
        self.sparsity: Sparsity | None = None  # of what was read sparsely so far
        self._told = 0  # tokens of the prompt up to which that goes
        self.samples: list[Sample] = []
        self.error: UserError | None = None  # why it could not be answered to its end
        self.known = len(tokenizer)  # ids that may be chosen
        self._tokenizer = tokenizer

    @property
    def finished(self) -> bool:
        """Whether every sample is, or none can be."""
        if self.error is not None:
            return True
        return len(self.samples) == self.sampling.n and all(one.finish for one in self.samples)

    @property
    def unscored(self) -> bool:
        """Whether log-probabilities of the prompt are still to be computed."""
        asked = self.sampling.prompt_logprobs is not None
        return asked and len(self.prompt_tokens) < len(self.prompt)

    def saw(self, first: int, seen: Sparsity) -> None:
        """Book what a chunk saw that begins at `first`: once, though it may be read again."""
        if first >= self._told:
            self._told = first + seen.tokens
            self.sparsity = seen.after(self.sparsity)

    def sample(self) -> "Sample":
        """One more sample, which has read nothing yet."""
        self.samples.append(Sample(self, len(self.samples), self._tokenizer.stream()))
        return self.samples[-1]


class Sample:
    """One continuation of a request's prompt: its tokens, its blocks and its text so far."""

    def __init__(self, request: Request, index: int, decoder: StreamDecoder) -> None:
        sampling = request.sampling
        self.request, self.index = request, index
        self.order = (request.number, index)  # of arrival
        self.ids = list(request.prompt)
        self.computed = 0  # tokens whose keys are in the cache
        self.table = array("i")  # blocks, in order
        self.names: list[bytes] = []  # of its full blocks
        self.published = 0  # blocks that the pool knows by name
        self.finish: Finish | None = None
        self.routes = b""  # of the experts that its tokens went to, once it is finished
        self.lookup = Lookup()
        self.matcher = None if sampling.grammar is None else sampling.grammar.matcher()
        self._text = Text(decoder, sampling.stop)
        # An id that only pads the embedding may be in a prompt; it has no logit to change.
        known = (token for token in request.prompt if token < request.known)
        self._seen = Seen(known) if penalises(sampling) else None
        self._key = chance(request.seed, request.prompt, request.first + index)

    @property
    def pending(self) -> int:
        """Tokens whose keys are still to be computed; 1 when the next one can be chosen."""
        return len(self.ids) - self.computed

    @property
    def together(self) -> int:
        """Tokens of the prompt that must be computed in one step; 0: any number."""
        chunk, prompt = self.request.reading.chunk, len(self.request.prompt)
        if not chunk or self.computed >= prompt:
            return 0
        return min((self.computed // chunk + 1) * chunk, prompt) - self.computed

    @property
    def shareable(self) -> int:
        """Tokens whose keys are those of every sample that begins so and is read alike.

        Of a prompt that is read sparsely the last chunk, whose end sees more, is its own alone, and
        so is the answer, which is read token by token.
        """
        reading = self.request.reading
        if reading.root is None:
            return 0
        if not reading.chunk:
            return len(self.ids)
        return (len(self.request.prompt) - 1) // reading.chunk * reading.chunk

    @property
    def answered(self) -> int:
        """Tokens of the answer."""
        return len(self.ids) - len(self.request.prompt)

    @property
    def room(self) -> int:
        """Tokens that may still be generated."""
        limit = self.request.limit - len(self.ids)
        return min(self.request.sampling.max_tokens - self.answered, limit)

    @property
    def early(self) -> bool:
        """Whether nothing may end the answer yet, unless its grammar allows nothing else."""
        return self.answered < self.request.sampling.min_tokens

    @property
    def guessable(self) -> int:
        """Tokens that may be guessed ahead: none while a ban depends on the place.

        Nor before the answer has begun: the samples that begin with this one's blocks would share
        those of its guesses.
        """
        return self.room - 1 if self.answered and not self.early else 0

    def draw(self, ahead: int) -> float:
        """The draw for the token that comes `ahead` tokens after the next one."""
        return draw(self._key, self.answered + ahead)

    def edit(self, row: int, guesses: Sequence[int]) -> Edit | None:
        """What changes the logits in `row`, those after `guesses`; None if nothing does."""
        sampling = self.request.sampling
        banned = tuple(self.request.ends) if self.early and self.matcher is None else ()
        if self._seen is None and not sampling.logit_bias and not banned:
            return None
        seen = None if self._seen is None else self._seen.after(guesses)
        return Edit(row, sampling, seen, banned)

    def constrain(self, mask: np.ndarray) -> None:
        """Bar the ends in a mask [W] of its grammar, if it is too early for them.

        A grammar that is too ambiguous to go on with ends the request.
        """
        assert self.matcher is not None
        if self.early:
            matcher.bar(mask, self.request.ends)
        try:
            self.matcher.check()
        except UserError as error:
            self.request.error = error

    def allowed(self, guesses: Sequence[int]) -> Sequence[int]:
        """The guesses up to the first that the grammar bars."""
        if self.matcher is None:
            return guesses
        return guesses[: self.matcher.accepts(guesses)]

    def extend(self, tokens: Iterable[Token]) -> Delta:
        """Go on with `tokens`, up to the one that ends the answer."""
        if self.room == 0:  # of a prompt that is only read
            self.finish = "length"
            return Delta(self.index, "", (), self.finish)
        taken: list[Token] = []
        pieces: list[str] = []
        stopped: str | int | None = None
        for token in tokens:
            taken.append(token)
            stopped = self._push(token.id, pieces)
            if self.finish is not None:
                break
        return Delta(self.index, "".join(pieces), tuple(taken), self.finish, stopped)

    def _complete(self, token: int) -> bool:
        """Go on by `token` in the grammar; is the answer complete by it?"""
        if self.matcher is None:
            return False
        try:
            self.matcher.push(token)
        except UserError as error:  # too complex to go on with, or the model's logits were NaN
            self.request.error = error
        return self.matcher.finished

    def _push(self, token: int, pieces: list[str]) -> str | int | None:
        """Add a token and what it lets be shown; what has stopped the answer, if anything."""
        sampling = self.request.sampling
        self.ids.append(token)
        if self._seen is not None:
            self._seen.push(token)
        stopped: str | int | None = None
        if token in self.request.ends:
            self.finish, stopped = "stop", token
        else:
            pieces.append(self._text.push(token, self.answered >= sampling.min_tokens))
            if self._complete(token):
                self.finish = "stop"
            elif self.room == 0:
                self.finish = "length"
        if self.finish is not None and self._text.stopped is None:
            pieces.append(self._text.finish())
        if self._text.stopped is not None:
            self.finish, stopped = "stop", self._text.stopped
        return stopped
