"""Which tokens are computed next: decodes first, then chunks of prompts, within a budget.

    scheduler = Scheduler(Blocks(64), block_size=16, step_tokens=512, sequences=8)
    scheduler.add(sample)
    for chunk in scheduler.step():           # one forward
        ...

Every sample that only waits for its next token gets it in every step. What is left of the budget
goes to prompts: half to the one that came first, which therefore always gets on, the rest to the
shortest, which therefore never wait for a long one to end. Prompts that are read sparsely come
beside that, one after another, in whole chunks: what is chosen depends on where these end.

A sample enters in order of arrival, when there are blocks for all it has so far; its answer takes
further blocks as it grows. When there are none, the sample that came last gives its blocks back and
waits; it is computed again, mostly from blocks that nobody has taken meanwhile, before whatever
came after it.
"""

from array import array
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from baiwen.engine import blocks
from baiwen.engine.blocks import Blocks
from baiwen.engine.request import Sample

ORDER = attrgetter("order")
Guess = Callable[[Mapping[Sample, int]], Mapping[Sample, Sequence[int]]]  # up to so many tokens


@dataclass(frozen=True)
class Chunk:
    """The next `count` known tokens of a sample, and guesses at those after them."""

    sample: Sample
    count: int
    guesses: Sequence[int] = ()

    @property
    def last(self) -> bool:
        """Whether a token can be chosen after it."""
        return self.count == self.sample.pending

    @property
    def tokens(self) -> list[int]:
        """The ids to compute."""
        done = self.sample.computed
        return [*self.sample.ids[done : done + self.count], *self.guesses]


class Scheduler:
    """Samples that wait and samples that run, and the blocks these have."""

    def __init__(self, pool: Blocks, block_size: int, step_tokens: int, sequences: int) -> None:
        self.pool, self.block_size = pool, block_size
        self.step_tokens, self.sequences = step_tokens, sequences
        self.waiting: list[Sample] = []  # in order of arrival
        self.running: list[Sample] = []  # the same
        self.copies: dict[int, int] = {}  # from which block to fill one before the step
        self.preemptions = self.cached_tokens = 0
        self._due: set[bytes] = set()  # names of the blocks that are being computed

    def add(self, sample: Sample) -> None:
        """Let a sample wait for its turn."""
        insort(self.waiting, sample, key=ORDER)

    def remove(self, sample: Sample) -> None:
        """A sample is finished or cancelled: its blocks are free at once."""
        if sample in self.running:
            self.running.remove(sample)
            self._give_back(sample)
        else:
            self.waiting.remove(sample)

    def fork(self, sample: Sample, others: Sequence[Sample]) -> list[Sample]:
        """Let `others` begin with what `sample` has computed; those without a seat wait."""
        seated = others[: self.sequences - len(self.running)]
        for other in seated:
            for block in sample.table:
                self.pool.share(block)
            other.table, other.names = sample.table[:], sample.names[:]
            other.computed, other.published = sample.computed, sample.published
            insort(self.running, other, key=ORDER)
        for other in others[len(seated) :]:
            self.add(other)
        return list(seated)

    def step(self, guess: Guess | None = None, ahead: int = 0) -> list[Chunk]:
        """The chunks of the next forward; `guess` says what may follow, up to `ahead` tokens."""
        preempted = self.preemptions
        decoding = self._decoding()
        guesses = guess(self._guessable(decoding, ahead)) if guess and ahead and decoding else {}
        chunks = [Chunk(sample, 1, guesses.get(sample, ())) for sample in decoding]
        if self.preemptions == preempted:
            self._admit()
        budget = self.step_tokens - sum(chunk.count + len(chunk.guesses) for chunk in chunks)
        served = set(decoding)
        prompts = [sample for sample in self.running if sample not in served]
        whole = [Chunk(sample, sample.together) for sample in prompts if sample.together]
        shared = _shared([sample for sample in prompts if not sample.together], budget)
        return [*chunks, *whole[:1], *shared]

    def computed(self, sample: Sample, tokens: int) -> None:
        """The keys of `tokens` more of a sample's tokens are in the cache."""
        sample.computed += tokens
        full = min(sample.computed, sample.shareable) // self.block_size
        for number in range(sample.published, full):
            name = self._name(sample, number)
            self.pool.publish(sample.table[number], name)
            self._due.discard(name)
        sample.published = max(full, sample.published)

    def preempt(self) -> None:
        """The sample that came last gives its blocks back and waits."""
        sample = self.running.pop()
        self._give_back(sample)
        self.add(sample)
        self.preemptions += 1

    def _decoding(self) -> list[Sample]:
        """The samples that wait for their next token and have a place for it, the oldest first."""
        decoding = []
        for sample in [sample for sample in self.running if sample.pending == 1]:
            while sample.table and not self._grow(sample, 1):
                self.preempt()
            if sample.table:  # else it was preempted for one that came before it
                decoding.append(sample)
        return decoding

    def _guessable(self, decoding: Sequence[Sample], ahead: int) -> dict[Sample, int]:
        """How many tokens may be guessed after each sample's: as budget and blocks allow."""
        spare = self.step_tokens - len(self.running)
        allowed = {}
        for sample in decoding:
            most = min(ahead, sample.guessable, spare)
            if most > 0 and self._grow(sample, 1 + most):
                allowed[sample] = most
                spare -= most
        return allowed

    def _grow(self, sample: Sample, tokens: int) -> bool:
        """Give a sample places of its own for its next `tokens`; False if blocks are lacking."""
        first = sample.computed // self.block_size  # the only one that others may hold as well
        missing = -(-(sample.computed + tokens) // self.block_size) - len(sample.table)
        shared = first < len(sample.table) and self.pool.holders[sample.table[first]] > 1
        if max(missing, 0) + shared > self.pool.available:
            return False
        if shared:
            theirs, sample.table[first] = sample.table[first], self.pool.take()
            self.copies[sample.table[first]] = theirs
            self.pool.give(theirs)
        sample.table.extend(self.pool.take() for _ in range(missing))
        return True

    def _admit(self) -> None:
        """Seat those who wait, in order of arrival, while there are seats and blocks.

        Who would compute what a prompt under way is about to leave behind waits for that.
        """
        for sample in self.waiting[:]:
            if len(self.running) == self.sequences:
                return
            known = self._known(sample)
            if self._coming(sample, len(known)):
                continue
            if not self._place(sample, known):
                return
            self.waiting.remove(sample)
            insort(self.running, sample, key=ORDER)

    def _place(self, sample: Sample, known: Sequence[int]) -> bool:
        """Give a sample blocks for all it has so far, the known ones first; False if too few."""
        missing = -(-len(sample.ids) // self.block_size) - len(known)
        reserve = len(self.running)  # as many may need a block before one is given back
        idle = sum(self.pool.holders[block] == 0 for block in known)
        if missing + idle + reserve > self.pool.available:
            return False
        for block in known:
            self.pool.share(block)
        sample.table = array("i", known)
        sample.table.extend(self.pool.take() for _ in range(missing))
        sample.published = len(known)
        sample.computed = len(known) * self.block_size
        if sample.answered == 0 and sample.index == 0:
            sample.request.cached_tokens = sample.computed
        self.cached_tokens += sample.computed
        full = sample.shareable // self.block_size
        self._due.update(self._name(sample, number) for number in range(len(known), full))
        return True

    def _coming(self, sample: Sample, known: int) -> bool:
        """Whether the block after the known ones is being computed for another sample."""
        if not self._due or known >= self._findable(sample):
            return False
        return self._name(sample, known) in self._due

    def _known(self, sample: Sample) -> list[int]:
        """The blocks that hold the beginning of a sample, as far as whole chunks of it go."""
        known: list[int] = []
        for number in range(self._findable(sample)):
            block = self.pool.find(self._name(sample, number))
            if block is None:
                break
            known.append(block)
        chunk = max(sample.request.reading.chunk // self.block_size, 1)  # blocks
        return known[: len(known) // chunk * chunk]

    def _findable(self, sample: Sample) -> int:
        """Blocks that another may have computed; a token is left, to choose after."""
        if sample.request.unscored:
            return 0
        return min(sample.shareable, len(sample.ids) - 1) // self.block_size

    def _name(self, sample: Sample, number: int) -> bytes:
        """The name of a sample's full block, computed once."""
        names, size, root = sample.names, self.block_size, sample.request.reading.root
        assert root is not None
        if number == len(names):
            ids = sample.ids[number * size : (number + 1) * size]
            names.append(blocks.name(names[-1] if names else root, ids))
        return names[number]

    def _give_back(self, sample: Sample) -> None:
        """The last blocks first, so that the beginning, which others may share, lives longest."""
        for block in reversed(sample.table):
            self.pool.give(block)
        self._due.difference_update(sample.names[sample.published :])
        sample.table = array("i")
        sample.computed = sample.published = 0


def _shared(prompts: Sequence[Sample], budget: int) -> list[Chunk]:
    """Chunks of prompts, in order of arrival, of `budget` tokens together."""
    if not prompts:
        return []
    first, *others = prompts
    counts = {first: min(first.pending, -(-budget // 2) if others else budget)}
    budget -= counts[first]
    for sample in sorted(others, key=attrgetter("pending")):
        counts[sample] = min(sample.pending, budget)
        budget -= counts[sample]
    counts[first] += min(first.pending - counts[first], budget)
    return [Chunk(sample, count) for sample, count in counts.items() if count > 0]
