"""Reading and writing HF folders: config.json and safetensors, in shards or whole.

    model = load("Qwen2.5-0.5B", dtype=torch.float32)
    reward_model = load_reward("Qwen2.5-Math-RM-72B")
    save(model.state_dict(), model.config, "out/")

The names in the files are the model's own, so both ways are a loop over names. The one difference:
files hold the experts of a layer one by one (`mlp.experts.7.up_proj.weight`), the model holds them
stacked (`mlp.experts.up_proj`). Tensors are memory-mapped and taken as they are, or copied one by
one where dtype or device differ, so a model is never held twice.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor

from baiwen import files, progress
from baiwen.errors import UserError
from baiwen.model import shards
from baiwen.model.config import ModelConfig
from baiwen.model.reward import RewardModel
from baiwen.model.shards import INDEX, SINGLE, Entry
from baiwen.model.transformer import Model, Transformer

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
EXPERTS = ".mlp.experts."
SHARD_BYTES = 5_000_000_000
Kind = TypeVar("Kind", bound=Model)


def load(
    folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> Transformer:
    """The model of an HF folder, on `device`, in `dtype` (None: as it is stored).

    Raises UserError for every folder that is not exactly one model of ours: another architecture, a
    damaged file (by manifest.json where there is one), a missing, unexpected or misshapen tensor,
    mixed dtypes, NaN or infinite weights; and for a reward model.
    """
    return _filled(*examine(folder), folder, device, dtype)


def load_reward(
    folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> RewardModel:
    """The reward model of an HF folder; refuses what `load` does, and a language model."""
    return _filled(*examine_reward(folder), folder, device, dtype)


def examine(folder: Path | str) -> tuple[Transformer, dict[str, Entry]]:
    """The model of an HF folder without its weights (on `meta`), and where each of them lies.

    Raises UserError for what `load` refuses by config.json, manifest and headers alone.
    """
    config = read_config(folder)
    if config.reward:
        raise UserError(
            f"{folder} is a reward model ({config.architecture}): it scores conversations and "
            "writes none.\nGive a language model here, such as the one that it was started from."
        )
    return _found(Transformer, config, Path(folder))


def examine_reward(folder: Path | str) -> tuple[RewardModel, dict[str, Entry]]:
    """`examine` for a reward model."""
    config = read_config(folder)
    if not config.reward:
        raise UserError(
            f"{folder} is a language model ({config.architecture}), which has no reward head.\n"
            'Give the folder of a stage "reward" here, or another Qwen2ForRewardModel.'
        )
    return _found(RewardModel, config, Path(folder))


def stream(folder: Path | str) -> Iterator[tuple[str, Tensor]]:
    """The state dict of the model of an HF folder, one tensor at a time; refuses what `load` does.

    Tensors are as they are stored: memory-mapped, but for stacked experts.
    """
    model, found = examine(folder)
    yield from _read(model, found, torch.device("cpu"), None)


def read_config(folder: Path | str) -> ModelConfig:
    """The configuration of an HF folder."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise UserError(f"{folder} is not a model folder: it has no config.json")
    return ModelConfig.from_dict(shards.parse_json(path.read_bytes(), path), str(path))


def save(
    state: Mapping[str, Tensor],
    config: ModelConfig,
    folder: Path | str,
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
    generation: Mapping[str, Any] | None = None,
) -> None:
    """Write the weights, config.json and, where given, generation_config.json into `folder`.

    `state` is a state dict of a `Model`, on any device; it is written in `dtype` (None: its own),
    in files of at most `shard_bytes`. Every file appears whole or not at all; that the folder
    does is the caller's part (`files.writing_folder`, or the seal of its run folder).
    Raises UserError for a packed model, and for a weight that is NaN or infinite, before anything
    is written.
    """
    folder = Path(folder)
    if any(name.endswith(".codes") for name in state):
        raise UserError(f"{folder}: a packed model cannot be saved; save the one that was packed")
    dtype = dtype or next(iter(state.values())).dtype
    for key, tensor in _tensors(_stored(state, config)):
        _finite(key, tensor.to(dtype), folder)
    write(state, config, folder, dtype=dtype, shard_bytes=shard_bytes, generation=generation)


def write(
    state: Mapping[str, Tensor],
    config: ModelConfig,
    folder: Path,
    *,
    dtype: torch.dtype,
    shard_bytes: int = SHARD_BYTES,
    generation: Mapping[str, Any] | None = None,
    whole: Callable[[Tensor], Tensor] = Tensor.detach,
    rank: int = 0,
    ranks: int = 1,
) -> None:
    """`save` of weights that are known to be sound, by several ranks that each hold a part of them.

    All ranks call `whole` for one tensor after the other; the files are written in turn, so a rank
    holds what it gathers and one file.
    """
    stored = _stored(state, config)
    plan = _plan(stored, dtype.itemsize, shard_bytes)
    total = len(plan)
    names = [f"model-{at:05}-of-{total:05}.safetensors" for at in range(1, total + 1)]
    names = names if total > 1 else [SINGLE]
    parts = _tensors(stored, whole)
    for first in range(0, total, ranks):
        mine: dict[str, Tensor] = {}
        for number, shard in enumerate(plan[first : first + ranks]):
            for key, tensor in itertools.islice(parts, len(shard)):
                if number == rank:
                    mine[key] = tensor
        if mine:
            with files.writing(folder / names[first + rank]) as file:
                shards.write_shard(file, mine, dtype)
    if rank == 0:
        _write_rest(names, plan, config, folder, dtype, generation)


def _write_rest(
    names: list[str],
    plan: list[dict[str, int]],
    config: ModelConfig,
    folder: Path,
    dtype: torch.dtype,
    generation: Mapping[str, Any] | None,
) -> None:
    """Write what is beside the weights, and delete what an earlier model has left."""
    kept = {*names}
    if len(plan) > 1:
        files.write_json(folder / INDEX, _index(names, plan))
        kept.add(INDEX)
    written = replace(config, torch_dtype=str(dtype).removeprefix("torch."))
    files.write_json(folder / "config.json", written.to_dict())
    if generation is not None:
        files.write_json(folder / "generation_config.json", dict(generation))
    for stale in {*folder.glob("model*.safetensors"), folder / INDEX}:
        if stale.name not in kept:
            stale.unlink(missing_ok=True)


def _found(kind: type[Kind], config: ModelConfig, folder: Path) -> tuple[Kind, dict[str, Entry]]:
    if (folder / "manifest.json").exists():
        files.check(folder)
    found = shards.entries(folder)
    if config.reward:
        found.pop(HEAD, None)  # left over from the language model, and never read
    with torch.device("meta"):
        model = kind(config)
    shards.check_shapes(found, _shapes(model, found), folder)
    return model, found


def _filled(
    model: Kind,
    found: Mapping[str, Entry],
    folder: Path | str,
    device: torch.device | str,
    dtype: torch.dtype | None,
) -> Kind:
    stored = {entry.dtype for entry in found.values()}
    if dtype is None and len(stored) > 1:
        raise UserError(f"{folder} mixes dtypes {sorted(map(str, stored))}; name one to load it in")
    model.load_state_dict(dict(_read(model, found, torch.device(device), dtype)), assign=True)
    return model.requires_grad_()


def _in_files(name: str, tensor: Tensor) -> list[str]:
    """The names under which files hold the parameter `name`: itself, or each of its experts."""
    if EXPERTS not in name:
        return [name]
    layer, leaf = name.split(EXPERTS)
    return [f"{layer}{EXPERTS}{expert}.{leaf}.weight" for expert in range(len(tensor))]


def _shapes(model: Model, found: Mapping[str, Entry]) -> dict[str, tuple[int, ...]]:
    """The tensors that files of `model` hold; a tied head may be among them."""
    shapes = {
        key: tuple(parameter.shape[1:] if EXPERTS in name else parameter.shape)
        for name, parameter in model.state_dict().items()
        for key in _in_files(name, parameter)
    }
    if model.config.tie_word_embeddings and HEAD in found:
        shapes[HEAD] = shapes[EMBEDDING]
    return shapes


def _read(
    model: Model, found: Mapping[str, Entry], device: torch.device, dtype: torch.dtype | None
) -> Iterator[tuple[str, Tensor]]:
    """The state dict of `model` from the files."""
    with ExitStack() as stack:
        opened = {
            file: stack.enter_context(safe_open(file, framework="pt"))
            for file in {entry.file for entry in found.values()}
        }

        def tensor(name: str) -> Tensor:
            progress.mark()
            value = opened[found[name].file].get_tensor(name).to(device, dtype)
            return _finite(name, value, found[name].file)

        state = model.state_dict()
        if HEAD in found and HEAD not in state and not tensor(HEAD).equal(tensor(EMBEDDING)):
            raise UserError(
                f"{found[HEAD].file}: config.json ties the head to the embedding, "
                f"but {HEAD} differs from {EMBEDDING}"
            )
        for name, parameter in state.items():
            keys = _in_files(name, parameter)
            if EXPERTS not in name:
                yield name, tensor(name)
                continue
            kind = dtype or found[keys[0]].dtype
            stacked = torch.empty(parameter.shape, dtype=kind, device=device)
            for place, key in zip(stacked, keys, strict=True):
                place.copy_(tensor(key))
            yield name, stacked


def _finite(name: str, tensor: Tensor, place: Path) -> Tensor:
    """The tensor itself; UserError where it holds NaN or infinity."""
    if not shards.finite(tensor):
        raise UserError(f"{place}: {name} holds NaN or infinite weights; the model is broken")
    return tensor


def _plan(stored: Mapping[str, Tensor], itemsize: int, shard_bytes: int) -> list[dict[str, int]]:
    """The tensors of each file and their bytes, in the order of the model."""
    plan: list[dict[str, int]] = [{}]
    filled = 0
    for name, tensor in stored.items():
        keys = _in_files(name, tensor)
        size = tensor.numel() // len(keys) * itemsize
        for key in keys:
            if plan[-1] and filled + size > shard_bytes:
                plan.append({})
                filled = 0
            plan[-1][key] = size
            filled += size
    return plan


def _tensors(
    stored: Mapping[str, Tensor], whole: Callable[[Tensor], Tensor] = Tensor.detach
) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors as files hold them: experts one by one."""
    for name, tensor in stored.items():
        full = whole(tensor)
        yield from zip(_in_files(name, tensor), full if EXPERTS in name else [full], strict=True)


def _stored(state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The tensors that are stored: a tied head is not."""
    left_out = {HEAD} if config.tie_word_embeddings else set()
    return {name: state[name] for name in state if name not in left_out}


def _index(names: list[str], plan: list[dict[str, int]]) -> dict[str, Any]:
    total = sum(size for shard in plan for size in shard.values())
    places = {key: name for name, shard in zip(names, plan, strict=True) for key in shard}
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
