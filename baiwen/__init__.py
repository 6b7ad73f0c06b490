"""Baiwen: the Qwen2.5 recipe, end to end.

    model, tokenizer = baiwen.load("runs/tiny/sft")          # any HF folder of the family
    logits = model.logits(tokens)                            # [B, T] -> [B, T, vocab]
    engine = baiwen.Engine(model, tokenizer)
    done = engine.generate(["Hello"], baiwen.Sampling(temperature=0.7))
    baiwen.save(model, tokenizer, "out")

    extend, sparse = baiwen.Extend(rope="yarn"), baiwen.Sparse()     # prompts beyond training
    baiwen.Engine(model, tokenizer, context=131_072, extend=extend, sparse=sparse)

    judge, tokenizer = baiwen.load_reward("runs/tiny/reward")    # a reward model
    baiwen.score(judge, tokenizer, [messages, ...])              # a number for each conversation

These nine names are for outsiders and stay; the rest of the package is internal. Importing this
module imports nothing: torch comes with the first of them that is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from baiwen.engine.engine import Engine
    from baiwen.engine.pretrained import load, load_reward
    from baiwen.engine.reach import Extend
    from baiwen.engine.sampler import Sampling
    from baiwen.engine.score import score
    from baiwen.model.sparse import Sparse
    from baiwen.model.transformer import Model
    from baiwen.tokenizer.tokenizer import Tokenizer

__all__ = [
    "Engine",
    "Extend",
    "Sampling",
    "Sparse",
    "Tokenizer",
    "load",
    "load_reward",
    "save",
    "score",
]

_HOMES = {
    "Engine": "baiwen.engine.engine",
    "Extend": "baiwen.engine.reach",
    "Sampling": "baiwen.engine.sampler",
    "Sparse": "baiwen.model.sparse",
    "Tokenizer": "baiwen.tokenizer.tokenizer",
    "load": "baiwen.engine.pretrained",
    "load_reward": "baiwen.engine.pretrained",
    "score": "baiwen.engine.score",
}


def save(model: "Model", tokenizer: "Tokenizer", folder: "Path | str") -> None:
    """Write an HF folder that transformers, vLLM and `load` read: all of it, or nothing."""
    from baiwen import files
    from baiwen.model import weights
    from baiwen.tokenizer import control
    from baiwen.train.publish import generation

    ends = model.config.eos_token_id
    chat = tokenizer.end_of_turn in (ends if isinstance(ends, tuple) else (ends,))
    with files.writing_folder(folder) as partial:
        defaults = None if model.config.reward else generation(tokenizer, chat)
        weights.save(model.state_dict(), model.config, partial, generation=defaults)
        tokenizer.save(partial, control.IM_END if chat else control.END_OF_TEXT)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'baiwen' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
