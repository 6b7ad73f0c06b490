"""Generation with a cache, in batches: enough for chat and evaluation.

    engine = Engine(model, tokenizer)
    engine.generate(["1 + 1 ="], Sampling(max_tokens=4))[0].text
    for piece in engine.stream([{"role": "user", "content": "Hello"}]):
        print(piece, end="")

Prompts of similar length share a batch, padded on the right: the first forward fills the cache,
each further one adds a token to every answer, and finished answers leave. Ids that the tokenizer
does not have (rows that only pad the embedding) are never chosen.
"""

import random
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from zlib import crc32

from baiwen.engine.batch import Answer, Batch
from baiwen.engine.pretrained import check
from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError
from baiwen.model.transformer import Transformer
from baiwen.tokenizer.tokenizer import Tokenizer

Prompt = str | Sequence[int] | Sequence[Mapping[str, Any]]  # text, ids or messages
GREEDY = Sampling()


@dataclass(frozen=True)
class Completion:
    """One answer."""

    text: str  # without the end marker or the stop text
    ids: list[int]  # all that was generated, the end marker included
    logprobs: list[float]  # of each id under the model itself, whatever the sampling
    finish_reason: Literal["stop", "length"]


class Engine:
    """A model and its tokenizer, ready to answer.

    batch_size: most answers under way at once; batch_tokens: most places in their cache.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        batch_size: int = 64,
        batch_tokens: int = 65536,
    ) -> None:
        check(model.config, tokenizer, "the engine")
        self.model, self.tokenizer = model, tokenizer
        self.batch_size, self.batch_tokens = batch_size, batch_tokens

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling = GREEDY) -> list[Completion]:
        """Continue every prompt: `sampling.n` completions of the first, then of the second, ...

        Messages are rendered with the head of the assistant's turn. With a seed, the text of a
        prompt does not depend on what else is asked; a prompt that is asked twice gets a second
        answer, as from `n=2`. Raises UserError for a prompt that is empty or holds ids that the
        model does not have.
        """
        answers = self._answers(prompts, sampling)
        for together in self._batches(answers, sampling):
            batch = Batch(self.model, together, sampling, len(self.tokenizer))
            while batch.answers:
                batch.step()
        return [_completion(answer) for answer in answers]

    def stream(self, prompt: Prompt, sampling: Sampling = GREEDY) -> Iterator[str]:
        """The text of one completion in pieces, whole characters, as soon as each is certain."""
        answer = self._answers([prompt], sampling)[0]
        batch = Batch(self.model, [answer], sampling, len(self.tokenizer))
        shown = 0
        while batch.answers:
            batch.step()
            sure = len(answer.text) - (0 if answer.finish else _begun(answer.text, sampling.stop))
            if sure > shown:
                yield answer.text[shown:sure]
                shown = sure

    def _answers(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Answer]:
        """Empty answers, `sampling.n` a prompt, each with a source of chance of its own."""
        seed = secrets.randbits(64) if sampling.seed is None else sampling.seed
        ends = sampling.stop_ids
        if ends is None:
            ends = (self.tokenizer.end_of_turn, self.tokenizer.end_of_text)
        answers = []
        numbers: Counter[int] = Counter()  # answers of each prompt so far
        for ids in map(self._ids, prompts):
            name = crc32(repr(ids).encode())
            for _ in range(sampling.n):
                rng = random.Random(f"{seed} {name} {numbers[name]}")
                answers.append(Answer(ids, ends, rng, self.tokenizer.stream()))
                numbers[name] += 1
        return answers

    def _ids(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            ids = self.tokenizer.encode(prompt)
        elif prompt and isinstance(prompt[0], Mapping):
            ids = self.tokenizer.render(prompt, generate=True).ids  # type: ignore[arg-type]
        else:
            ids = list(prompt)  # type: ignore[arg-type]
        if not ids:
            raise UserError("a prompt is empty; give it at least one token, such as end_of_text")
        rows = self.model.config.vocab_size
        for token in ids:
            if not 0 <= token < rows:
                raise UserError(f"a prompt holds the id {token}; the model has 0 to {rows - 1}")
        return ids

    def _batches(self, answers: Sequence[Answer], sampling: Sampling) -> Iterator[list[Answer]]:
        """Answers to prompts of similar length; the longest come first, so that they set a size."""
        batch: list[Answer] = []
        for answer in sorted(answers, key=lambda answer: len(answer.prompt), reverse=True):
            longest = len(batch[0].prompt) if batch else 0
            places = (len(batch) + 1) * (longest + sampling.max_tokens)
            if batch and (len(batch) == self.batch_size or places > self.batch_tokens):
                yield batch
                batch = []
            batch.append(answer)
        if batch:
            yield batch


def _completion(answer: Answer) -> Completion:
    assert answer.finish is not None
    return Completion(answer.text, answer.ids, answer.logprobs, answer.finish)


def _begun(text: str, stop: Sequence[str]) -> int:
    """How many characters at the end of `text` may turn out to be the beginning of a stop text."""
    lengths = (
        length
        for ending in stop
        for length in range(1, min(len(ending), len(text) + 1))
        if text.endswith(ending[:length])
    )
    return max(lengths, default=0)
