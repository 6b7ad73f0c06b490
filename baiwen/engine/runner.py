"""One forward over the chunks of a step, through the paged cache.

A draft model, where there is one, reads every token that the model reads, into a cache of its own
with the same blocks; so the same tables serve both, and a prefix that one has the other has too.

N tokens of the step, n samples, C hidden size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from baiwen.engine import choice
from baiwen.engine.choice import Row
from baiwen.engine.graphs import Graphs, Shape
from baiwen.engine.reading import Reader, Sparsity
from baiwen.engine.request import Sample
from baiwen.engine.room import Room
from baiwen.engine.routes import Routes
from baiwen.engine.scheduler import Chunk
from baiwen.model import fixed
from baiwen.model.layout import FEW, Layout
from baiwen.model.paged import PagedCache, Step
from baiwen.model.sparse import Chooser, among, together
from baiwen.model.transformer import Transformer


class Runner:
    """A model with its cache, and its draft with another; each cache has its way to read."""

    def __init__(
        self,
        models: Sequence[Transformer],
        reader: Reader,
        room: Room,
        block_size: int,
        *,
        routes: bool = False,
        graphs: int = 0,
    ) -> None:
        """routes: whether the experts of tokens are kept.

        graphs: samples that decode together in recorded steps, which take a block more, for rows
        that only fill a shape; 0: none is recorded.
        """
        self.models, self.sparse = models, reader.sparse  # the model, and its draft, if any
        self.sparsity: Sparsity | None = None  # of all that was read sparsely so far
        blocks, device = room.blocks + bool(graphs), models[0].model.norm.weight.device
        self.caches = [
            PagedCache(reach.config, blocks, block_size, device, dtype)
            for reach, dtype in zip(room.reaches, room.dtypes, strict=True)
        ]
        self.routes: Routes | None = None  # of the model's tokens
        if routes:
            self.routes = Routes(models[0].config, blocks, block_size, device)
        self._ropes = [reach.ropes for reach in room.reaches]
        self.graphs: Graphs | None = None
        if graphs:
            context = room.context
            self.graphs = Graphs(models, self.caches, self._ropes, graphs, context, self.routes)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.caches[0].slabs.device

    @torch.inference_mode()
    def capture(self) -> str | None:
        """Record now all that decoding takes on a GPU, so that no request waits for it.

        Told in a line; None where nothing is recorded.
        """
        if self.graphs is None or self.device.type != "cuda":
            return None
        return self.graphs.capture()

    def renew(self) -> None:
        """The weights may have changed."""
        if self.graphs is not None:
            self.graphs.renew()

    def copy(self, sources: Mapping[int, int]) -> None:
        """Fill blocks with what others hold: {target: source}."""
        for cache in self.caches:
            cache.copy(sources)
        if self.routes is not None:
            self.routes.copy(sources)

    def run(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute the chunks: hidden states [N, C], chunk after chunk."""
        samples = [chunk.sample for chunk in chunks]
        counts = [chunk.count + len(chunk.guesses) for chunk in chunks]
        done = [sample.computed for sample in samples]
        ids = [token for chunk in chunks for token in chunk.tokens]
        if (shape := self._shape(done, len(ids))) is not None:
            out, *_ = [
                self._repeated(number, shape, samples, done, ids)
                for number in range(len(self.models))
            ]
            return out
        layout, tokens = self._layout(samples, done, counts), self._sent(ids)
        choosers = [self._choosers(number, chunks) for number in range(len(self.models))]
        out, *_ = [
            model(tokens, cache=self._step(number, layout, samples, choosers[number]))
            for number, model in enumerate(self.models)
        ]
        if self.routes is not None and out.routing is not None:
            self.routes.store(layout.slots, out.routing)
        for number, chooser in choosers[0].items():
            sample, seen = samples[number], Sparsity(counts[number], **together(chooser.chosen))
            sample.request.saw(sample.computed, seen)
            self.sparsity = seen.after(self.sparsity)
        return out.hidden[0]

    def guess(self, allowed: Mapping[Sample, int], known: int) -> dict[Sample, list[int]]:
        """What the draft would answer, up to so many tokens a sample.

        It chooses as the model will, by the same sampling, grammar and draws: where the two agree,
        so do the tokens.
        """
        _, draft = self.models
        guesses: dict[Sample, list[int]] = {sample: [] for sample in allowed}
        for ahead in range(max(allowed.values(), default=0)):
            samples = [sample for sample, most in allowed.items() if most > ahead]
            done = [sample.computed + ahead for sample in samples]
            ids = [(guesses[sample] or sample.ids)[-1] for sample in samples]
            if (shape := self._shape(done, len(ids))) is not None:
                hidden = self._repeated(1, shape, samples, done, ids)
            else:
                layout, tokens = self._layout(samples, done, [1] * len(ids)), self._sent(ids)
                hidden = draft(tokens, cache=self._step(1, layout, samples)).hidden[0]
            rows = [Row(sample, i, guesses[sample]) for i, sample in enumerate(samples)]
            _, chosen = choice.ids(draft, hidden, rows, known)
            for sample, token in zip(samples, chosen.tolist(), strict=True):
                guesses[sample].append(token)
        return guesses

    def _shape(self, done: Sequence[int], tokens: int) -> Shape | None:
        """That of a recorded step for samples of so many tokens; None where there is none.

        tokens: of all of them together; a recorded step takes the next one of each.
        """
        if self.graphs is None or tokens != len(done):
            return None
        return self.graphs.shape([before + 1 for before in done])

    def _repeated(
        self,
        model: int,
        shape: Shape,
        samples: Sequence[Sample],
        done: Sequence[int],
        ids: Sequence[int],
    ) -> Tensor:
        """Hidden states [n, C] of the samples' next tokens, by the recorded step of a shape."""
        assert self.graphs is not None
        ropes = [sample.request.reading.ropes[model] for sample in samples]
        rows = [
            fixed.Row(token, place, sample.table, self._ropes[model].index(rope))
            for token, place, sample, rope in zip(ids, done, samples, ropes, strict=True)
        ]
        return self.graphs.run(model, self.graphs.told(shape, rows))[: len(rows)]

    def _choosers(self, model: int, chunks: Sequence[Chunk]) -> dict[int, Chooser]:
        """What says which keys are seen, for the chunks that are read sparsely, by their numbers.

        A prompt's last few tokens see all keys, as an answer's do. The patterns are the model's; a
        draft goes by vote.
        """
        if self.sparse is None:
            return {}
        sparse = replace(self.sparse, patterns=None) if model else self.sparse
        found = {}
        for number, chunk in enumerate(chunks):
            sample, reading = chunk.sample, chunk.sample.request.reading
            if sample.together and chunk.count > FEW:
                end = sample.computed + chunk.count == len(sample.request.prompt)
                config, rope = self.caches[model].config, reading.ropes[model]
                found[number] = Chooser(config, sparse, end=end, rope=rope)
        return found

    def _step(
        self,
        model: int,
        layout: Layout,
        samples: Sequence[Sample],
        choosers: Mapping[int, Chooser] | None = None,
    ) -> Step:
        """What a model sees of its cache, each sequence with its own rope."""
        ropes = tuple(sample.request.reading.ropes[model] for sample in samples)
        choose = among(choosers) if choosers else None
        return Step(self.caches[model], replace(layout, ropes=ropes), choose)

    def _sent(self, ids: list[int]) -> Tensor:
        """Tokens [1, N] on the device."""
        return torch.tensor(ids, device=self.device)[None]

    def _layout(
        self, samples: Sequence[Sample], done: Sequence[int], counts: Sequence[int]
    ) -> Layout:
        tables = np.zeros((len(samples), max(len(one.table) for one in samples)), np.int32)
        for row, sample in zip(tables, samples, strict=True):
            row[: len(sample.table)] = np.frombuffer(sample.table, np.int32)
        return Layout.of(tables, done, counts, self.caches[0].block_size, self.device)
