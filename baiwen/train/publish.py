"""The end of a training run: an HF folder that any reader of Qwen2.5 takes.

    publish(model, tokenizer, out, world, dtype=torch.bfloat16, chat=True)

    config.json  generation_config.json  model.safetensors  tokenizer.json ...

A base model ends with `<|endoftext|>`; a chat model's answers end with `<|im_end|>`, and its
generation_config.json holds the published defaults of sampling (spec 12). A reward model has none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from baiwen.dist import World
from baiwen.model import weights
from baiwen.model.transformer import Model
from baiwen.tokenizer import control
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.train.checkpoint import Saved

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
) -> None:
    """Write the model and its tokenizer into `out`, and the checkpoint `best` into `out/best`.

    All ranks call it; rank 0 writes. Raises UserError for weights that are not finite.
    """
    state = snapshot(model.named_parameters(), keep=world.main)
    if not world.main:
        return
    _write(state, model, tokenizer, out, dtype, chat)
    if best is not None:
        with Saved(best) as saved:
            kept = {name: saved.whole(name) for name, _ in model.named_parameters()}
        _write(kept, model, tokenizer, out / "best", dtype, chat)


def snapshot(tensors: Iterable[tuple[str, Tensor]], *, keep: bool = True) -> dict[str, Tensor]:
    """Whole copies in host memory, one tensor gathered at a time; nothing where not `keep`."""
    copies = {}
    for name, tensor in tensors:
        whole = tensor.detach()
        if isinstance(whole, DTensor):
            whole = whole.full_tensor()
        if keep:
            copies[name] = whole.to("cpu", copy=True).contiguous()
    return copies


def _write(
    state: Mapping[str, Tensor],
    model: Model,
    tokenizer: Tokenizer,
    folder: Path,
    dtype: torch.dtype,
    chat: bool,
) -> None:
    end = tokenizer.end_of_turn if chat else tokenizer.end_of_text
    config = replace(model.config, bos_token_id=tokenizer.end_of_text, eos_token_id=end)
    folder.mkdir(exist_ok=True)
    defaults = None if config.reward else generation(tokenizer, chat)
    weights.save(state, config, folder, dtype=dtype, generation=defaults)
    tokenizer.save(folder, control.IM_END if chat else control.END_OF_TEXT)


def generation(tokenizer: Tokenizer, chat: bool) -> dict[str, Any]:
    """The fields of generation_config.json."""
    end, turn = tokenizer.end_of_text, tokenizer.end_of_turn
    if not chat:
        return {"bos_token_id": end, "eos_token_id": end, "do_sample": False}
    return {"bos_token_id": end, "pad_token_id": end, "eos_token_id": [turn, end], **SAMPLING}
