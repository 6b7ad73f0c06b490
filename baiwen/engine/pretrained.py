"""A model and its tokenizer from one HF folder, checked to belong together.

model, tokenizer = load("runs/tiny/sft")
model, tokenizer = load("runs/tiny/sft", packed="int8")     # for inference on a CPU
model, tokenizer = load_reward("runs/tiny/reward")          # for `score`
"""

from pathlib import Path

import torch

from baiwen.errors import UserError
from baiwen.model import weights
from baiwen.model.config import ModelConfig
from baiwen.model.packed import Weights, pack
from baiwen.model.reward import RewardModel
from baiwen.model.transformer import Transformer
from baiwen.tokenizer.tokenizer import Tokenizer


def load(
    folder: Path | str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    packed: Weights | None = None,
) -> tuple[Transformer, Tokenizer]:
    """The model, on `device` and in `dtype` (None: as stored), and the tokenizer of an HF folder.

    `packed` packs the weights for inference (`model.packed.pack`); keys and values are then still
    cached in `dtype`, with "fp32" in that. Raises UserError where either is damaged
    (`weights.load`), they do not belong together, or the weights cannot be packed.
    """
    tokenizer = Tokenizer.load(folder)
    check(weights.read_config(folder), tokenizer, str(folder))
    model = weights.load(folder, device, dtype)
    if packed is not None:
        pack(model, packed)
    return model, tokenizer


def load_reward(
    folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> tuple[RewardModel, Tokenizer]:
    """The same for the folder of a reward model, which `load` refuses."""
    tokenizer = Tokenizer.load(folder)
    check(weights.read_config(folder), tokenizer, str(folder))
    return weights.load_reward(folder, device, dtype), tokenizer


def check(config: ModelConfig, tokenizer: Tokenizer, source: str) -> None:
    """UserError where a model of this `config` cannot be that of `tokenizer`.

    Embeddings have more rows than the tokenizer has tokens (padding), never fewer; and where the
    two disagree about what ends an answer, a model never stops or too soon (spec 13, 1 to 3).
    """
    if len(tokenizer) > config.vocab_size:
        raise UserError(
            f"{source}: the tokenizer has {len(tokenizer):,} tokens, but the model's embedding "
            f"only {config.vocab_size:,} rows (vocab_size); they do not belong together"
        )
    known = (tokenizer.end_of_text, tokenizer.end_of_turn)
    ends = config.eos_token_id
    for end in ends if isinstance(ends, tuple) else (ends,):
        if end is not None and end not in known:
            raise UserError(
                f"{source}: config.json ends answers with the id {end}, but the tokenizer's ends "
                f"are {known[0]} (end of text) and {known[1]} (end of turn); mend eos_token_id"
            )
