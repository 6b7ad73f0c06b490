"""Per-head patterns of sparse attention as they are published: how many columns and diagonals.

A file is a list by layer of {head: [kind, vertical, slash, score]}, plain or `.gz`, as MInference
writes it for Qwen2.5 and Qwen2.5-1M (Jiang et al., 2024; spec 6.4); the stage `patterns` writes the
same. The one kind is "vertical_and_slash", to which all published files are converted.

    patterns = read("Qwen2.5_7B_Instruct_1M.json.gz", config)
    patterns.layers[0][3]                        # Head(vertical=1000, slash=6096, score=0.99)
"""

import json
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from baiwen import files
from baiwen.errors import UserError
from baiwen.model.config import ModelConfig

KIND = "vertical_and_slash"


@dataclass(frozen=True)
class Head:
    """What one query head sees: as many columns and diagonals, in tokens."""

    vertical: int  # keys that all queries see
    slash: int  # distances at which all queries see
    score: float = 0.0  # share of the attention that this held when it was searched


@dataclass(frozen=True)
class Patterns:
    """The heads of all layers."""

    layers: tuple[tuple[Head, ...], ...]


def read(path: Path | str, config: ModelConfig) -> Patterns:
    """The patterns of a file, for a model of this configuration.

    Raises UserError for a file that is something else or of another model, for an unknown kind of
    pattern and for sizes that are no whole numbers from 0 up.
    """
    text = files.read_text(path)
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: this is not JSON: {error}") from error
    if not isinstance(raw, list) or not all(isinstance(layer, dict) for layer in raw):
        raise UserError(f"{path}: expected a list by layer of {{head: [{KIND!r}, v, s, score]}}")
    _refuse_another_model(raw, config, path)
    return Patterns(
        tuple(
            tuple(
                _head(layer[str(head)], f"{path}: layer {number}, head {head}")
                for head in range(config.num_attention_heads)
            )
            for number, layer in enumerate(raw)
        )
    )


def write(path: Path | str, patterns: Patterns) -> None:
    """Write a file that `read` and MInference read."""
    rows = [
        {str(number): [KIND, *astuple(head)] for number, head in enumerate(layer)}
        for layer in patterns.layers
    ]
    files.write_json(path, rows)


def _refuse_another_model(raw: list[Any], config: ModelConfig, path: Path | str) -> None:
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    names = {str(head) for head in range(heads)}
    wrong = next((number for number, layer in enumerate(raw) if layer.keys() != names), None)
    if len(raw) != layers:
        found = f"{len(raw)} layers, the model has {layers}"
    elif wrong is not None:
        found = (
            f"{len(raw[wrong])} heads in layer {wrong}, the model has {heads} (0 ... {heads - 1})"
        )
    else:
        return
    raise UserError(
        f"{path}: these patterns are another model's: {found}. Take the file of this model, make "
        'one with the stage "patterns", or choose by vote, without patterns.'
    )


def _head(raw: Any, place: str) -> Head:  # noqa: ANN401 - JSON is any of its types
    if not isinstance(raw, list) or len(raw) != 4:
        raise UserError(f"{place}: expected [{KIND!r}, vertical, slash, score], not {raw!r}")
    kind, vertical, slash, score = raw
    if kind != KIND:
        raise UserError(
            f"{place}: there is no kind of pattern {kind!r}; the published files, and ours, have "
            f"{KIND!r} alone"
        )
    for name, size in (("vertical", vertical), ("slash", slash)):
        if type(size) is not int or size < 0:
            raise UserError(f"{place}: {name} = {size!r} must be a whole number from 0 up")
    if type(score) not in (int, float):
        raise UserError(f"{place}: score = {score!r} must be a number")
    return Head(vertical, slash, float(score))
