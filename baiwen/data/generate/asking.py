"""Asking: requests made of prompts and seeds, and their replies as drafts, in order.

    asking = Asking(ask, cache, concurrency=8, attempts=3, bill=Bill())
    for draft in asking.drafts(prompt, seeds, sampling, samples=2, draw=7):
        ...
    drafts = agreed(drafts, asking.solutions, knobs)

A request's `seed` is a hash of its prompt, its seed, the round and the sample, so that it is the
same request whatever else is asked.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import xxhash

from baiwen import files
from baiwen.data.generate import forms
from baiwen.data.generate.drafts import MODEL, Draft
from baiwen.data.generate.prompts import Prompt, Seed, filled
from baiwen.endpoint import Answer, Ask, Bill, Messages, Sampling, answers

SEEDS = 31  # bits of a request's seed, which some servers keep in 32


@dataclass(frozen=True)
class Asking:
    """A model, and how it is asked."""

    ask: Ask
    cache: files.Ledger
    concurrency: int
    attempts: int
    bill: Bill

    def drafts(
        self,
        prompt: Prompt,
        seeds: Iterable[Seed],
        sampling: Sampling,
        samples: int,
        draw: int,
    ) -> Iterator[Draft]:
        """A draft for each sample of each seed; those without a reply have their verdict."""
        waiting: deque[Draft] = deque()

        def asked() -> Iterator[tuple[Messages, Sampling]]:
            for seed in seeds:
                messages = filled(prompt, seed)
                for sample in range(samples):
                    name = f"{draw}\0{prompt.name}\0{seed.id}\0{seed.round}\0{sample}"
                    drawn = xxhash.xxh3_64_intdigest(name.encode()) >> (64 - SEEDS)
                    own = {**sampling, "seed": drawn}
                    waiting.append(Draft(prompt, seed, messages, own, None, self.ask.name))
                    yield messages, own

        read = partial(forms.read, prompt.form)
        for answer in answers(
            self.ask, asked(), self.cache, self.concurrency, read, self.attempts, bill=self.bill
        ):
            yield _answered(waiting.popleft(), answer)

    def solutions(self, requests: Iterable[tuple[Messages, Sampling]]) -> Iterator[Answer[str]]:
        """The answers to requests that are asked once, whatever they say."""
        return answers(self.ask, requests, self.cache, self.concurrency, attempts=1, bill=self.bill)


def _answered(draft: Draft, answer: Answer[dict[str, str]]) -> Draft:
    reply = answer.replies[-1] if answer.replies else None
    draft = replace(draft, reply=reply, parts=answer.value or {})
    if answer.value is None:
        rule = "refused" if answer.refused else answer.why
        return draft.refused(MODEL, rule)
    return draft
