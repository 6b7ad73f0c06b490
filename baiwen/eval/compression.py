"""How well a model predicts text: bits per byte, beside gzip and xz on the very same bytes.

    measure(model, tokenizer, documents) ->
        {"all": {"documents": 310, "bytes": 503112, "tokens": 160233, "bits_per_byte": 1.31,
                 "standard_error": 0.02, "low": 1.27, "high": 1.35, "gzip": 2.41, "xz": 2.02},
         "sources": {"stdlib": {...}, "tasks": {...}}}

A document costs the sum of -log2 p over all of its tokens; its first one, which nothing precedes,
costs log2(vocabulary), as if drawn at random. A document longer than the model's context is read in
windows that overlap by a quarter, each token scored once. Bytes are those of the text in UTF-8, NFC
as the tokenizer reads it. gzip and xz get all documents as one stream at their highest setting, so
unlike the model they profit from what documents share.

B windows of a batch, T tokens, N scored tokens, C hidden size.
"""

import gzip
import lzma
import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from baiwen import log
from baiwen.eval.statistics import ratio
from baiwen.model.transformer import Transformer
from baiwen.tokenizer.tokenizer import Tokenizer

BATCH_TOKENS = 8192  # of a forward, padding included
OVERLAP = 4  # a window shows at least a context's share of one in so many before what it scores
CHUNK = 1024  # tokens whose logits exist at a time


@dataclass(frozen=True)
class Document:
    """A held-out document: its text and where it came from."""

    text: str
    source: str


@dataclass(frozen=True)
class Window:
    """Tokens [start, end) of a document, of which those from `scored` on are scored."""

    document: int
    start: int
    end: int
    scored: int


def measure(
    model: Transformer, tokenizer: Tokenizer, documents: Sequence[Document]
) -> dict[str, Any]:
    """Bits per byte over all documents and by source; see the module for what counts."""
    texts = [unicodedata.normalize("NFC", document.text) for document in documents]
    ids = tokenizer.encode_many(texts)
    bits = cost(model, ids, first=math.log2(len(tokenizer)))
    sources = defaultdict(list)
    for index, document in enumerate(documents):
        sources[document.source].append(index)

    def over(chosen: Sequence[int]) -> dict[str, Any]:
        return _compare(
            [texts[index] for index in chosen],
            [bits[index] for index in chosen],
            sum(len(ids[index]) for index in chosen),
        )

    by_source = {source: over(chosen) for source, chosen in sorted(sources.items())}
    return {"all": over(range(len(documents))), "sources": by_source}


@torch.inference_mode()
def cost(model: Transformer, ids: Sequence[np.ndarray], first: float) -> list[float]:
    """The bits of each document [T]; `first` is what its first token costs."""
    bits = [first if len(document) else 0.0 for document in ids]
    context = model.config.max_position_embeddings
    plan = [window for at, seen in enumerate(ids) for window in windows(at, len(seen), context)]
    batches = list(_batches(plan))
    for batch in log.track(batches, "bits per byte", unit="batches"):
        for window, nats in zip(batch, _forward(model, ids, batch), strict=True):
            bits[window.document] += nats / math.log(2)
    return bits


def windows(document: int, length: int, context: int) -> Iterator[Window]:
    """Windows of at most `context` >= 2 tokens that score each token but the first exactly once."""
    start, scored = 0, 1
    while scored < length:
        end = min(start + context, length)
        yield Window(document, start, end, scored)
        start, scored = end - max(1, context // OVERLAP), end


def _batches(plan: list[Window]) -> Iterator[list[Window]]:
    """Windows of like length together, so that little of a batch is padding."""
    batch: list[Window] = []
    for window in sorted(plan, key=lambda window: window.start - window.end):
        longest = batch[0].end - batch[0].start if batch else 0
        if batch and (len(batch) + 1) * longest > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _forward(model: Transformer, ids: Sequence[np.ndarray], batch: list[Window]) -> list[float]:
    """The nats of the scored tokens of each window."""
    device = next(model.parameters()).device
    length = batch[0].end - batch[0].start
    tokens = torch.zeros(len(batch), length, dtype=torch.long)  # [B, T], padded on the right
    scored = torch.zeros(len(batch), length, dtype=torch.bool)  # [B, T]
    for row, window in enumerate(batch):
        seen = ids[window.document][window.start : window.end].astype(np.int64)
        tokens[row, : len(seen)] = torch.from_numpy(seen)
        scored[row, window.scored - window.start : len(seen)] = True
    states = model(tokens.to(device)).hidden  # [B, T, C]
    guesses = scored.roll(-1, 1).flatten().to(device)  # [B*T] the places before the scored ones
    hidden = states.flatten(0, 1)[guesses]  # [N, C]
    nats = torch.zeros(scored.shape, dtype=torch.float64)  # [B, T]
    nats[scored] = _entropy(model, hidden, tokens[scored].to(device)).double().cpu()
    return nats.sum(1).tolist()


def _entropy(model: Transformer, hidden: Tensor, targets: Tensor) -> Tensor:
    """-ln p of each target: hidden [N, C], targets [N] -> [N]."""
    pieces = zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
    return torch.cat(
        [F.cross_entropy(model.project(h).float(), t, reduction="none") for h, t in pieces]
    )


def _compare(texts: list[str], bits: list[float], tokens: int) -> dict[str, Any]:
    sizes = [len(text.encode()) for text in texts]
    stream, total = "".join(texts).encode(), sum(sizes)
    found = asdict(ratio(bits, sizes))
    estimate = {name: None if math.isnan(value) else value for name, value in found.items()}
    estimate["bits_per_byte"] = estimate.pop("value")
    return {
        "documents": estimate.pop("n"),
        "bytes": total,
        "tokens": tokens,
        **estimate,
        "gzip": 8 * len(gzip.compress(stream, 9, mtime=0)) / total,
        "xz": 8 * len(lzma.compress(stream, preset=9 | lzma.PRESET_EXTREME)) / total,
    }
