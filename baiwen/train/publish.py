"""The end of a training run: an HF folder that any reader of Qwen2.5 takes.

    publish(model, tokenizer, out, world, dtype=torch.bfloat16, chat=True)

    config.json  generation_config.json  model.safetensors  tokenizer.json ...

A base model ends with `<|endoftext|>`; a chat model's answers end with `<|im_end|>`, and its
generation_config.json holds the published defaults of sampling (spec 12). A reward model has none.

Ranks gather one tensor at a time and write the files of a large model in turn, 5 GB each, so that
none of them ever holds more than a tensor and a file.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baiwen.dist import World, barrier, gather
from baiwen.errors import UserError
from baiwen.model import weights
from baiwen.model.shards import finite
from baiwen.model.transformer import Model
from baiwen.tokenizer import control
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.train.checkpoint import Saved
from baiwen.train.dtensor import local, shared, whole

SAMPLING = {
    "do_sample": True,
    "temperature": 0.7,
    "top_p": 0.8,
    "top_k": 20,
    "repetition_penalty": 1.05,
}


def publish(
    model: Model,
    tokenizer: Tokenizer,
    out: Path,
    world: World,
    *,
    dtype: torch.dtype,
    chat: bool,
    best: Path | None = None,
    shard_bytes: int = weights.SHARD_BYTES,
) -> None:
    """Write the model and its tokenizer into `out`, and the checkpoint `best` into `out/best`.

    All ranks call it, and leave it when all is written. Raises UserError for weights that are not
    finite.
    """
    write = partial(_write, model, tokenizer, world, dtype, chat, shard_bytes)
    write(out)
    if best is not None:
        with _weights_of(best, model):
            write(out / "best")
    barrier(world)


def _write(
    model: Model,
    tokenizer: Tokenizer,
    world: World,
    dtype: torch.dtype,
    chat: bool,
    shard_bytes: int,
    folder: Path,
) -> None:
    end = tokenizer.end_of_turn if chat else tokenizer.end_of_text
    config = replace(model.config, bos_token_id=tokenizer.end_of_text, eos_token_id=end)
    state = dict(model.named_parameters())
    broken = [name for name, tensor in state.items() if not finite(local(tensor).to(dtype))]
    for name in itertools.chain.from_iterable(gather(world, broken)):
        raise UserError(f"{folder}: {name} holds NaN or infinite weights, so nothing is written")
    weights.write(
        state,
        config,
        folder,
        dtype=dtype,
        shard_bytes=shard_bytes,
        generation=None if config.reward else generation(tokenizer, chat),
        whole=lambda tensor: _whole(tensor, dtype),
        rank=world.rank,
        ranks=world.size,
    )
    if world.main:
        tokenizer.save(folder, control.IM_END if chat else control.END_OF_TEXT)


def _whole(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor that ranks share, in host memory; one that is whole as it is."""
    return whole(tensor.detach().to(dtype)).cpu() if shared(tensor) else tensor.detach()


@contextmanager
def _weights_of(checkpoint: Path, model: Model) -> Iterator[None]:
    """The model with the weights of a checkpoint, for a while."""
    kept = [local(parameter).clone() for parameter in model.parameters()]
    with Saved(checkpoint) as saved:
        for name, parameter in model.named_parameters():
            saved.read(name, into=parameter)
    yield
    for parameter, value in zip(model.parameters(), kept, strict=True):
        local(parameter).copy_(value)


def generation(tokenizer: Tokenizer, chat: bool) -> dict[str, Any]:
    """The fields of generation_config.json."""
    end, turn = tokenizer.end_of_text, tokenizer.end_of_turn
    if not chat:
        return {"bos_token_id": end, "eos_token_id": end, "do_sample": False}
    return {"bos_token_id": end, "pad_token_id": end, "eos_token_id": [turn, end], **SAMPLING}
