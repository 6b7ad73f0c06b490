"""What texts are to a model: a vector each, from its hidden states.

    engine.embed(["one", "two"], pooling="mean")           # [2, C]

T tokens of a prompt, C hidden size.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from baiwen.model.documents import Documents
from baiwen.model.transformer import Transformer


def packed(prompts: Sequence[list[int]], size: int) -> Iterator[list[list[int]]]:
    """Prompts in batches of at most `size` tokens, or of one prompt; their order stays."""
    batch: list[list[int]] = []
    tokens = 0
    for ids in prompts:
        if batch and tokens + len(ids) > size:
            yield batch
            batch, tokens = [], 0
        batch.append(ids)
        tokens += len(ids)
    if batch:
        yield batch


def hidden(model: Transformer, prompts: Sequence[list[int]]) -> Sequence[Tensor]:
    """The hidden states of each prompt, [T, C] fp32, all in one forward."""
    device = model.model.embed_tokens.weight.device
    lengths = [len(ids) for ids in prompts]
    tokens = torch.tensor([token for ids in prompts for token in ids], device=device)
    documents = Documents.of([lengths]).to(device)
    return model(tokens[None], documents=documents).hidden[0].float().split(lengths)
